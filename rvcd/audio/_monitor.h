/* The monitor: what the one who speaks hears. Everything between the two marks is also read by cffi (see _build.py): plain C. */
#ifndef RVCD_MONITOR_H
#define RVCD_MONITOR_H

#include "_drift.h"

/* cffi: begin */
typedef struct rvcd_monitor rvcd_monitor;
typedef struct rvcd_monitor_stream rvcd_monitor_stream;

/* What is to be heard and how loud is read from the segment: see rvcd_set_monitor. NULL without memory. */
rvcd_monitor *rvcd_monitor_new(rvcd_segment *segment);
void rvcd_monitor_free(rvcd_monitor *monitor);
/* The samples of the positions [start, start + count), which the device has processed already. One thread at a time. */
void rvcd_monitor_period(rvcd_monitor *monitor, float *out, uint64_t start, uint64_t count);

/* A device of its own, at its own clock. NULL without memory. The drift must be set before the first call. */
rvcd_monitor_stream *rvcd_monitor_stream_new(rvcd_segment *segment, uint32_t channels);
void rvcd_monitor_stream_set_drift(rvcd_monitor_stream *stream, rvcd_drift *drift);
void rvcd_monitor_stream_free(rvcd_monitor_stream *stream);
int rvcd_monitor_stream_thread_id(rvcd_monitor_stream *stream); /* the kernel's number; 0 before the first call */
/* The main device has come to a position, in a callback that began at called_ns. */
void rvcd_monitor_stream_take(rvcd_monitor_stream *stream, uint64_t position, uint64_t called_ns);
/* One period of (frames, channels) samples, asked for at now_ns. status_flags: PortAudio's. */
void rvcd_monitor_stream_give(rvcd_monitor_stream *stream, float *output, uint64_t frames, unsigned long status_flags,
                              uint64_t now_ns);
/* Both, with what the segment says of the main device. */
int rvcd_pa_monitor(const void *input, void *output, unsigned long frames, const void *time_info,
                    unsigned long status_flags, void *user_data);
/* cffi: end */

#endif
