/* The shared-memory segment: its interface, what lies where in it, and who may write it.
 *
 * Everything between the two marks is also read by cffi (see _build.py): plain C only.
 */
#ifndef RVCD_SEGMENT_H
#define RVCD_SEGMENT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* cffi: begin */
#define RVCD_VALUES 64
#define RVCD_LAYOUT_VERSION 5
#define RVCD_CHUNK 4096

typedef struct rvcd_segment rvcd_segment;

enum { RVCD_READ_OK = 0, RVCD_READ_NOT_YET = 1, RVCD_READ_LAPPED = 2 };
enum { RVCD_ATTACH_OK = 0, RVCD_ATTACH_NOT_OURS = 1, RVCD_ATTACH_VERSION = 2, RVCD_ATTACH_SIZE = 3 };
enum { RVCD_VECTOR_PARAMS = 0, RVCD_VECTOR_WORKER_STATS = 1 };
enum {
    RVCD_CELL_LATENCY_SAMPLES = 0,
    RVCD_CELL_SILENCE_UNTIL = 1,
    RVCD_CELL_MUTE = 2,
    RVCD_CELL_BYPASS = 3,
    RVCD_CELL_EXPECT_OUTPUT = 4,
    RVCD_CELL_INPUT_CHANNEL = 5,
    RVCD_CELL_WORKER_READY = 6
};

/* Counts since the segment was created; nanoseconds of CLOCK_MONOTONIC. */
typedef struct {
    uint64_t device_position;
    uint64_t callbacks;
    uint64_t last_callback_ns;
    uint64_t gap_max_ns;
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
    uint64_t stale_samples;
    uint64_t absent_samples;
    uint64_t monitor_samples;
    uint64_t monitor_underruns;
} rvcd_counters;

typedef struct {
    uint64_t written;
    uint64_t expired;
    uint64_t overflow;
} rvcd_write_result;

/* Segment. */
size_t rvcd_segment_bytes(uint64_t in_capacity, uint64_t out_capacity);
int rvcd_segment_create(void *memory, size_t bytes, uint32_t rate_hz, uint64_t in_capacity, uint64_t out_capacity);
int rvcd_segment_check(const void *memory, size_t bytes);
uint32_t rvcd_segment_version(const void *memory);
int rvcd_segment_lock(rvcd_segment *segment, size_t bytes); /* keep its pages in memory; 0 or an errno */
uint32_t rvcd_rate_hz(const rvcd_segment *segment);
uint64_t rvcd_in_capacity(const rvcd_segment *segment);
uint64_t rvcd_out_capacity(const rvcd_segment *segment);
void rvcd_set_cell(rvcd_segment *segment, int cell, uint64_t value);
uint64_t rvcd_get_cell(rvcd_segment *segment, int cell);
/* What the monitor gives: gain is linear, 0 is off; is_raw: 1 = the microphone, 0 = what the device is given. */
void rvcd_set_monitor(rvcd_segment *segment, double gain, int is_raw);

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

/* Telemetry. What is taken starts afresh: one reader only, in the control process. */
void rvcd_read_counters(rvcd_segment *segment, rvcd_counters *out);
void rvcd_take_peaks(rvcd_segment *segment, float *in_peak, float *out_peak);
uint64_t rvcd_take_gap_max_ns(rvcd_segment *segment);
float rvcd_take_monitor_peak(rvcd_segment *segment);
/* cffi: end */

/* What lies where.
 *
 * One segment joins four parties: the device callback (C, realtime, in a thread of the control process), the control
 * process (Python), the worker process (Python) and, while something is recorded, the recorder process (Python). The
 * recorder only reads. The monitor, a part of the device callback or a process of its own, reads too and writes its own
 * telemetry alone. Every other cell is written by the one party named above its group, and what a second party may do
 * to it is said at the cell. A party that has died has no say any more: its successor, or the control process where that is
 * said, goes on with its cells.
 *
 * Cells with different writers lie on different cache lines, so that nobody's store slows another's load. All cells that
 * two parties touch are lock-free C11 atomics; positions are absolute sample counts since the segment was created and never
 * wrap (2^64 samples at 192 kHz are three million years).
 */
#define RVCD_LINE 64
#define RVCD_MAGIC UINT64_C(0x3174676573647672) /* "rvdsegt1" in memory order */
#define RVCD_HEADER_BYTES 4096

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "64-bit atomics must be lock-free");
_Static_assert(sizeof(float) == 4 && sizeof(_Atomic float) == 4, "samples are 32-bit floats");
_Static_assert(sizeof(double) == 8, "values are 64-bit doubles");

/* A vector of doubles under a sequence lock: odd while it is being written. */
typedef struct {
    _Alignas(RVCD_LINE) _Atomic uint64_t sequence;
    _Atomic uint64_t count;
    _Atomic uint64_t bits[RVCD_VALUES];
} rvcd_vector;

struct rvcd_segment {
    /* Written by the control process before anybody else sees the segment; constant from then on. */
    uint64_t magic;
    uint32_t layout_version;
    uint32_t rate_hz;
    uint64_t total_bytes;
    uint64_t in_capacity;  /* samples, a power of two */
    uint64_t out_capacity; /* samples, a power of two */
    uint64_t in_offset;    /* bytes from the start of the segment */
    uint64_t out_offset;
    uint64_t tap_offset; /* the tap has the in-ring's capacity */

    /* Written by the control process. */
    _Alignas(RVCD_LINE) _Atomic uint64_t latency_samples;
    _Atomic uint64_t silence_until; /* the output is zero at positions below */
    _Atomic uint64_t owner;         /* serial of the one context whose callback may touch the rings; only ever added to */
    _Atomic uint32_t mute;
    _Atomic uint32_t bypass;
    _Atomic uint32_t expect_output;
    _Atomic uint32_t input_channel; /* 0 = average of all, k = the k-th */
    _Atomic uint32_t fast;          /* the device runs faster than time: wait in short steps */
    _Atomic uint32_t monitor_raw;   /* 1: the monitor gives the microphone */
    _Atomic float monitor_gain;

    /* Written by the callback of the owner. `announced` is the end of the period being processed, stored before the first
     * sample is touched; `device_position` is the end of the last finished period, stored after the last sample. `inside`
     * counts the callbacks, of any context, that have asked who the owner is and have not returned: they add and subtract.
     * `inside_thread` is the kernel's number of the owner's thread meanwhile; a claim clears what a dead thread left. */
    _Alignas(RVCD_LINE) _Atomic uint64_t announced;
    _Atomic uint64_t device_position;
    _Atomic uint64_t inside;
    _Atomic uint32_t inside_thread;

    /* Written by the worker. */
    _Alignas(RVCD_LINE) _Atomic uint64_t out_written;
    _Atomic uint64_t expired_samples;
    _Atomic uint64_t overflow_samples;
    _Atomic uint64_t gap_samples;
    _Atomic uint32_t worker_ready; /* the control process clears it while no worker lives */

    /* Written by the callback: telemetry. The control process exchanges the maximum and the peaks with 0. */
    _Alignas(RVCD_LINE) _Atomic uint64_t callbacks;
    _Atomic uint64_t last_callback_ns;
    _Atomic uint64_t gap_max_ns;
    _Atomic uint64_t input_xruns;
    _Atomic uint64_t output_xruns;
    _Atomic uint64_t late_samples;
    _Atomic uint64_t late_events;
    _Atomic uint64_t bad_input_samples;
    _Atomic uint64_t bad_output_samples;
    _Atomic uint64_t in_clips;
    _Atomic uint64_t out_clips;
    _Atomic uint32_t in_peak_bits;
    _Atomic uint32_t out_peak_bits;
    _Atomic uint64_t stale_samples;  /* of the microphone: dropped to hold the latency, where it has a queue of its own */
    _Atomic uint64_t absent_samples; /* of the microphone: silence, because they were not there in time */
    _Atomic uint32_t period_samples; /* of the last callback */

    /* Written by the monitor: telemetry. The control process exchanges the peak with 0. */
    _Alignas(RVCD_LINE) _Atomic uint64_t monitor_samples; /* given to its device */
    _Atomic uint64_t monitor_underruns;
    _Atomic uint32_t monitor_peak_bits;

    rvcd_vector params;       /* written by the control process, for the worker */
    rvcd_vector worker_stats; /* written by the worker, for the control process */
};

_Static_assert(sizeof(struct rvcd_segment) <= RVCD_HEADER_BYTES, "the header must fit its page");

#define LOAD(cell) atomic_load_explicit(&(cell), memory_order_relaxed)
#define STORE(cell, value) atomic_store_explicit(&(cell), (value), memory_order_relaxed)

uint64_t rvcd_now_ns(void);

static inline _Atomic float *rvcd_in_ring(rvcd_segment *segment)
{
    return (_Atomic float *)((char *)segment + segment->in_offset);
}

static inline _Atomic float *rvcd_out_ring(rvcd_segment *segment)
{
    return (_Atomic float *)((char *)segment + segment->out_offset);
}

static inline _Atomic float *rvcd_tap_ring(rvcd_segment *segment)
{
    return (_Atomic float *)((char *)segment + segment->tap_offset);
}

/* Raise a maximum that a reader may exchange with 0 at any time. The reader does so seldom, so two tries are enough, and the
 * third is given up rather than let the callback spin. Bits of non-negative floats are ordered as the floats are. */
static inline void rvcd_raise_peak(_Atomic uint32_t *cell, float peak)
{
    uint32_t bits;
    memcpy(&bits, &peak, sizeof bits);
    uint32_t seen = LOAD(*cell);
    for (int attempt = 0; attempt < 2 && bits > seen; attempt++)
        if (atomic_compare_exchange_strong(cell, &seen, bits))
            return;
}

/* Copy [position, position + count) of the in-ring or the tap; capacity: of the ring. See _segment.c. */
int rvcd_read_ring(rvcd_segment *segment, const _Atomic float *ring, uint64_t capacity, uint64_t position, float *out,
                   uint64_t count);

/* For cells with one writer: an increment without a locked instruction. */
static inline void rvcd_add(_Atomic uint64_t *cell, uint64_t amount)
{
    STORE(*cell, LOAD(*cell) + amount);
}

#endif
