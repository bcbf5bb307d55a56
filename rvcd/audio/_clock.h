/* The virtual device's clock thread. Everything between the two marks is also read by cffi (see _build.py): plain C only. */
#ifndef RVCD_CLOCK_H
#define RVCD_CLOCK_H

#include "_callback.h"

/* cffi: begin */
typedef struct rvcd_clock rvcd_clock;

enum { RVCD_SOURCE_NULL = 0, RVCD_SOURCE_TONE = 1, RVCD_SOURCE_BUFFER = 2 };

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

rvcd_clock *rvcd_clock_start(rvcd_context *context, const rvcd_clock_options *options);
void rvcd_clock_stop(rvcd_clock *clock);
void rvcd_clock_free(rvcd_clock *clock);
int rvcd_clock_finished(rvcd_clock *clock);
uint64_t rvcd_clock_stalls(rvcd_clock *clock);
uint64_t rvcd_clock_drain(rvcd_clock *clock, float *out, uint64_t capacity);
uint64_t rvcd_clock_dropped(rvcd_clock *clock);
/* cffi: end */

#endif
