/* The realtime callback and its context. Everything between the two marks is also read by cffi (see _build.py): plain C. */
#ifndef RVCD_CALLBACK_H
#define RVCD_CALLBACK_H

#include "_segment.h"

#include <pthread.h>

/* cffi: begin */
typedef struct rvcd_context rvcd_context;

/* A context must claim the segment before its first callback, and takes it over from any earlier one. */
rvcd_context *rvcd_context_new(rvcd_segment *segment, uint32_t in_channels, uint32_t out_channels);
int rvcd_context_claim(rvcd_context *context); /* 0, or EBUSY: a callback of an earlier owner is still inside */
void rvcd_context_free(rvcd_context *context);
int rvcd_process(rvcd_context *context, const float *input, float *output, uint64_t frames, unsigned long status_flags);
int rvcd_pa_callback(const void *input, void *output, unsigned long frames, const void *time_info,
                     unsigned long status_flags, void *user_data);

/* The thread that makes the callbacks. */
int rvcd_context_thread_id(rvcd_context *context); /* the kernel's number of it; 0 before the first callback */
uint64_t rvcd_context_thread_ns(rvcd_context *context);
int rvcd_context_uncover_thread(rvcd_context *context);
int rvcd_demote_on_overrun(void); /* 0 or an errno */
/* cffi: end */

/* For any thread that makes callbacks and has not been joined. */
uint64_t rvcd_thread_ns(pthread_t thread); /* processor time; 0 when it has ended */
int rvcd_uncover_thread(pthread_t thread); /* see rvcd_context_uncover_thread; 0 or an errno */

/* What one opened device needs, private to the control process, on pages of its own that are locked where the limits allow
 * it. The geometry is copied out of the segment so that a scribbled header cannot lead the callback outside its memory. */
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
    _Atomic pthread_t thread;   /* that makes the callbacks; valid once thread_id is not 0 */
    _Atomic int thread_id;
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

#endif
