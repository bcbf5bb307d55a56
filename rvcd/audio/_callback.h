/* The audio core's interface. Everything between the two marks is also read by cffi (see _build.py): plain C only. */
#ifndef RVCD_CALLBACK_H
#define RVCD_CALLBACK_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */
#define RVCD_VALUES 64
#define RVCD_LAYOUT_VERSION 2
#define RVCD_CHUNK 4096

typedef struct rvcd_segment rvcd_segment;
typedef struct rvcd_context rvcd_context;
typedef struct rvcd_clock rvcd_clock;

enum { RVCD_READ_OK = 0, RVCD_READ_NOT_YET = 1, RVCD_READ_LAPPED = 2 };
enum { RVCD_ATTACH_OK = 0, RVCD_ATTACH_NOT_OURS = 1, RVCD_ATTACH_VERSION = 2, RVCD_ATTACH_SIZE = 3 };
enum { RVCD_SOURCE_NULL = 0, RVCD_SOURCE_TONE = 1, RVCD_SOURCE_BUFFER = 2 };
enum { RVCD_VECTOR_PARAMS = 0, RVCD_VECTOR_WORKER_STATS = 1 };
enum {
    RVCD_CELL_LATENCY_SAMPLES = 0,
    RVCD_CELL_SILENCE_UNTIL = 1,
    RVCD_CELL_MUTE = 2,
    RVCD_CELL_BYPASS = 3,
    RVCD_CELL_EXPECT_OUTPUT = 4,
    RVCD_CELL_INPUT_CHANNEL = 5,
    RVCD_CELL_FAST = 6,
    RVCD_CELL_WORKER_READY = 7
};

/* Counts since the segment was created; nanoseconds of CLOCK_MONOTONIC. */
typedef struct {
    uint64_t device_position;
    uint64_t callbacks;
    uint64_t last_callback_ns;
    uint64_t gap_max_ns;
    uint64_t duration_max_ns;
    uint64_t input_xruns;
    uint64_t output_xruns;
    uint64_t late_samples;
    uint64_t late_events;
    uint64_t expired_samples;
    uint64_t overflow_samples;
    uint64_t gap_samples;
    uint64_t bad_input_samples;
    uint64_t bad_output_samples;
    uint64_t in_clips;
    uint64_t out_clips;
    uint64_t period_samples;
} rvcd_counters;

typedef struct {
    uint64_t written;
    uint64_t expired;
    uint64_t overflow;
} rvcd_write_result;

typedef struct {
    uint32_t period_samples;
    int32_t realtime;       /* 1: one period per period of time; 0: in lockstep with the worker, as fast as it can */
    int32_t source;         /* RVCD_SOURCE_* */
    int32_t loop;           /* play the buffer again and again */
    double tone_hz;
    double tone_amplitude;
    const float *buffer;    /* must outlive the clock */
    uint64_t buffer_samples;
    uint64_t capture_samples; /* capacity of the capture ring, a power of two; 0: no capture */
    uint64_t stall_limit_ns;  /* fast mode: how long to wait for the worker before going on with silence */
} rvcd_clock_options;

/* Segment. */
size_t rvcd_segment_bytes(uint64_t in_capacity, uint64_t out_capacity);
int rvcd_segment_create(void *memory, size_t bytes, uint32_t rate_hz, uint64_t in_capacity, uint64_t out_capacity);
int rvcd_segment_check(const void *memory, size_t bytes);
uint32_t rvcd_segment_version(const void *memory);
uint32_t rvcd_rate_hz(const rvcd_segment *segment);
uint64_t rvcd_in_capacity(const rvcd_segment *segment);
uint64_t rvcd_out_capacity(const rvcd_segment *segment);
void rvcd_set_cell(rvcd_segment *segment, int cell, uint64_t value);
uint64_t rvcd_get_cell(rvcd_segment *segment, int cell);

/* Rings, from the worker's side, and the tap, from the recorder's. */
uint64_t rvcd_device_position(rvcd_segment *segment);
uint64_t rvcd_output_written(rvcd_segment *segment);
int rvcd_read_input(rvcd_segment *segment, uint64_t position, float *out, uint64_t count);
int rvcd_read_tap(rvcd_segment *segment, uint64_t position, float *out, uint64_t count);
int rvcd_wait_input(rvcd_segment *segment, uint64_t position, uint64_t timeout_ns);
rvcd_write_result rvcd_write_output(rvcd_segment *segment, uint64_t position, const float *samples, uint64_t count);

/* Vectors of doubles under a sequence lock. A read returns the count, or -1 when no whole copy could be taken. */
void rvcd_publish(rvcd_segment *segment, int vector, const double *values, uint32_t count);
int rvcd_snapshot(rvcd_segment *segment, int vector, double *values);

/* Telemetry. */
void rvcd_read_counters(rvcd_segment *segment, rvcd_counters *out);
void rvcd_take_peaks(rvcd_segment *segment, float *in_peak, float *out_peak);
void rvcd_reset_maxima(rvcd_segment *segment);

/* The callback. A context must claim the segment before its first callback, and takes it over from any earlier one. */
rvcd_context *rvcd_context_new(rvcd_segment *segment, uint32_t in_channels, uint32_t out_channels);
void rvcd_context_claim(rvcd_context *context);
void rvcd_context_free(rvcd_context *context);
uint64_t rvcd_context_thread_ns(rvcd_context *context);
int rvcd_context_uncover_thread(rvcd_context *context);
int rvcd_process(rvcd_context *context, const float *input, float *output, uint64_t frames, unsigned long status_flags);
int rvcd_pa_callback(const void *input, void *output, unsigned long frames, const void *time_info,
                     unsigned long status_flags, void *user_data);

/* The virtual device's clock thread. */
rvcd_clock *rvcd_clock_start(rvcd_context *context, const rvcd_clock_options *options);
void rvcd_clock_stop(rvcd_clock *clock);
void rvcd_clock_free(rvcd_clock *clock);
uint64_t rvcd_clock_played(rvcd_clock *clock);
int rvcd_clock_finished(rvcd_clock *clock);
uint64_t rvcd_clock_stalls(rvcd_clock *clock);
uint64_t rvcd_clock_drain(rvcd_clock *clock, float *out, uint64_t capacity);
uint64_t rvcd_clock_dropped(rvcd_clock *clock);
/* cffi: end */

#endif
