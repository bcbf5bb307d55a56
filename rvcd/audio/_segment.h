/* The shared-memory segment: what lies where, and who may write it.
 *
 * One segment joins three parties: the device callback (C, realtime), the control process (Python) and the worker
 * process (Python). Every cell has exactly one writer, named in its comment, except where "exchange" is said.
 * Cells with different writers lie on different cache lines, so that nobody's store slows another's load.
 * All cells that two parties touch are lock-free C11 atomics; positions are absolute sample counts since the segment
 * was created and never wrap (2^64 samples at 192 kHz are three million years).
 */
#ifndef RVCD_SEGMENT_H
#define RVCD_SEGMENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "_callback.h"

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
    /* Constant after creation. */
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
    _Atomic uint64_t owner;         /* serial of the one context whose callback may touch the rings */
    _Atomic uint32_t mute;
    _Atomic uint32_t bypass;
    _Atomic uint32_t expect_output;
    _Atomic uint32_t input_channel; /* 0 = average of all, k = the k-th */
    _Atomic uint32_t fast;          /* the device runs faster than time: wait in short steps */

    /* Written by the callback. `announced` is the end of the period being processed, stored before the first sample is
     * touched; `device_position` is the end of the last finished period, stored after the last sample. */
    _Alignas(RVCD_LINE) _Atomic uint64_t announced;
    _Atomic uint64_t device_position;

    /* Written by the worker. */
    _Alignas(RVCD_LINE) _Atomic uint64_t out_written;
    _Atomic uint64_t expired_samples;
    _Atomic uint64_t overflow_samples;
    _Atomic uint64_t gap_samples;
    _Atomic uint32_t worker_ready; /* the control process may clear it after the worker's death */

    /* Written by the callback: telemetry. Maxima and peaks are also exchanged by the reader. */
    _Alignas(RVCD_LINE) _Atomic uint64_t callbacks;
    _Atomic uint64_t last_callback_ns;
    _Atomic uint64_t gap_max_ns;
    _Atomic uint64_t duration_max_ns;
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
    _Atomic uint32_t period_samples; /* of the last callback */

    rvcd_vector params;       /* control process -> worker */
    rvcd_vector worker_stats; /* worker -> control process */
};

_Static_assert(sizeof(struct rvcd_segment) <= RVCD_HEADER_BYTES, "the header must fit its page");

/* What one opened device needs, private to the control process. The geometry is copied out of the segment so that a
 * scribbled header cannot lead the callback outside its memory. */
struct rvcd_context {
    rvcd_segment *segment;
    _Atomic float *in_ring;
    _Atomic float *out_ring;
    _Atomic float *tap_ring;
    uint64_t in_mask; /* of the tap too */
    uint64_t out_mask;
    uint64_t serial;
    uint32_t in_channels;
    uint32_t out_channels;
    uint64_t previous_start_ns; /* 0 before the first callback */
    _Atomic pthread_t thread;   /* that makes the callbacks; valid once thread_known */
    _Atomic int thread_known;
    /* Gains in 0..1 and their step per sample. */
    float wet;      /* how much of the converted voice is heard */
    float dry;      /* how much of the raw voice is heard: above 0 only after bypass was set */
    float master;   /* mute */
    float envelope; /* fades the converted voice around missing samples */
    float held;     /* last converted sample, held while the envelope falls */
    float crossfade_step;
    float mute_step;
    float rise_step;
    float fall_step;
    uint32_t fall_samples;
    int late;
    int in_clipping;
    int out_clipping;
};

uint64_t rvcd_now_ns(void);

/* For cells with one writer: an increment without a locked instruction. */
static inline void rvcd_add(_Atomic uint64_t *cell, uint64_t amount)
{
    atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + amount, memory_order_relaxed);
}

#endif
