/* One device out of two streams: microphone and speakers each at their own pace, a fixed time apart. Plain C: read by cffi. */
#ifndef RVCD_SPLIT_H
#define RVCD_SPLIT_H

#include "_callback.h"

/* cffi: begin */
typedef struct rvcd_split rvcd_split;

rvcd_split *rvcd_split_new(rvcd_context *context, uint32_t rate_hz, uint32_t in_channels, uint32_t period_samples);
void rvcd_split_free(rvcd_split *split);
int rvcd_split_capture(const void *input, void *output, unsigned long frames, const void *time_info,
                       unsigned long status_flags, void *user_data);
int rvcd_split_playback(const void *input, void *output, unsigned long frames, const void *time_info,
                        unsigned long status_flags, void *user_data);

/* What the two callbacks do, with the server's word and the time given. in_age_s: how old the first sample of input is;
 * out_delay_s: how long until the first of output is heard; NAN where it is not known. now_ns: CLOCK_MONOTONIC. */
int rvcd_split_take(rvcd_split *split, const float *input, uint64_t frames, double in_age_s, uint64_t now_ns);
int rvcd_split_give(rvcd_split *split, float *output, uint64_t frames, double out_delay_s, unsigned long status_flags,
                    uint64_t now_ns);

/* latency_ns is 0 until it is settled: then microphone to speakers, of which out_ns lie behind the callback. */
typedef struct {
    int64_t latency_ns;
    int64_t out_ns;
    uint64_t settlings; /* how often a latency was found that holds */
    uint64_t moves;     /* how often the microphone's reading point was moved */
} rvcd_split_state;
void rvcd_split_read(rvcd_split *split, rvcd_split_state *out);
int rvcd_split_thread_id(rvcd_split *split); /* of the capture; 0 before its first callback */
uint64_t rvcd_split_thread_ns(rvcd_split *split);
int rvcd_split_uncover_thread(rvcd_split *split);
/* cffi: end */

#endif
