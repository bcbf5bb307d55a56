/* The monitor's samples. Everything between the two marks is also read by cffi (see _build.py): plain C. */
#ifndef RVCD_MONITOR_H
#define RVCD_MONITOR_H

#include "_segment.h"

/* cffi: begin */
typedef struct rvcd_monitor rvcd_monitor;

rvcd_monitor *rvcd_monitor_new(rvcd_segment *segment); /* silent until it is set */
void rvcd_monitor_free(rvcd_monitor *monitor);
/* gain: linear, 0 is off; is_raw: 1 = the microphone, 0 = what the main device is given. Any thread, at any time. */
void rvcd_monitor_set(rvcd_monitor *monitor, double gain, int is_raw);
/* The samples of the positions [start, start + count). One thread at a time; count at most RVCD_CHUNK is real-time safe. */
void rvcd_monitor_period(rvcd_monitor *monitor, float *out, uint64_t start, uint32_t count);
/* cffi: end */

#endif
