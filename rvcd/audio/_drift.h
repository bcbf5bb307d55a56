/* Two devices, two clocks. Everything between the two marks is also read by cffi (see _build.py): plain C. */
#ifndef RVCD_DRIFT_H
#define RVCD_DRIFT_H

#include "_callback.h"

/* cffi: begin */
typedef struct rvcd_drift rvcd_drift;

typedef struct {
    uint64_t starved;    /* runs of missing input: a capture period came too late */
    uint64_t recentred;  /* jumps back to the wanted fill: input was lost, or one of the clocks leapt */
    double fill_samples; /* how far reading is behind the source, in source samples; the wanted fill once settled */
    double read_from;    /* the source position at which the newest pull began to read */
    double ratio;        /* source samples per output sample */
    double drift_ppm;    /* how much faster the source's clock runs than its nominal rate, in terms of the output's */
    int32_t running;     /* 0: waiting for the first half second of input */
} rvcd_drift_figures;

/* source_rate_hz, rate_hz: nominal rates of capture and output. fill_samples: the wanted distance, in source samples. */
rvcd_drift *rvcd_drift_new(double source_rate_hz, double rate_hz, double fill_samples);
void rvcd_drift_free(rvcd_drift *drift);
uint32_t rvcd_drift_reach(double source_rate_hz, double rate_hz); /* source samples that the filter looks ahead */
void rvcd_drift_push(rvcd_drift *drift, const float *samples, uint64_t count, uint64_t now_ns);
void rvcd_drift_pull(rvcd_drift *drift, float *out, uint64_t count, uint64_t now_ns);
void rvcd_drift_read(rvcd_drift *drift, rvcd_drift_figures *out);

/* A capture stream and an output stream over one context. */
typedef struct rvcd_pair rvcd_pair;
rvcd_pair *rvcd_pair_new(rvcd_context *context, uint32_t capture_channels);
void rvcd_pair_set_drift(rvcd_pair *pair, rvcd_drift *drift); /* before the first callback of either */
void rvcd_pair_free(rvcd_pair *pair);
int rvcd_pa_capture(const void *input, void *output, unsigned long frames, const void *time_info,
                    unsigned long status_flags, void *user_data);
int rvcd_pa_output(const void *input, void *output, unsigned long frames, const void *time_info,
                   unsigned long status_flags, void *user_data);
/* cffi: end */

#endif
