/* A sound sent into a JACK graph by one client and heard by another, by the graph's own count of frames. Read by cffi. */
#ifndef RVCD_PROBE_H
#define RVCD_PROBE_H

#include "_segment.h"

/* cffi: begin */
typedef struct rvcd_probe rvcd_probe;

rvcd_probe *rvcd_probe_new(uint64_t sound_frames, uint64_t record_frames);
void rvcd_probe_free(rvcd_probe *probe);
void rvcd_probe_use_jack(rvcd_probe *probe, void *get_buffer, void *last_frame_time, void *player, void *out_port,
                         void *recorder, void *in_port);
float *rvcd_probe_sound(rvcd_probe *probe);
const float *rvcd_probe_record(rvcd_probe *probe);
void rvcd_probe_arm(rvcd_probe *probe); /* play the sound from the next cycle on, and record from its first frame on */
uint64_t rvcd_probe_recorded(rvcd_probe *probe); /* frames of the record that are there; sound and record may be touched
                                                    once they are all there, or none, and the clients are not active */
int rvcd_probe_play(uint32_t frames, void *probe);
int rvcd_probe_listen(uint32_t frames, void *probe);
/* cffi: end */

#endif
