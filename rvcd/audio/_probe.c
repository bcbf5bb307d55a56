/* Measures the delay between two ports of a JACK graph.
 *
 * Every client runs once in each cycle, and they all see the same time of its first frame. So what the recorder gets n
 * frames after the player began is n frames late, to the sample, however late the machine itself is. Two clients, because
 * one for both would close a circle, which JACK cuts open with a period of delay of its own.
 *
 * libjack is not linked: the two functions that are called here are given as pointers. No lock, no allocation.
 */
#include "_probe.h"

#include <stdlib.h>
#include <string.h>

enum { IDLE = 0, ARMED = 1, RUNNING = 2 };

struct rvcd_probe {
    float *sound;
    float *record;
    uint64_t sound_frames;
    uint64_t record_frames;
    void *(*get_buffer)(void *port, uint32_t frames);
    uint32_t (*last_frame_time)(const void *client);
    void *player;
    void *out_port;
    void *recorder;
    void *in_port;
    _Atomic int state;
    _Atomic uint32_t begun_frame; /* of the graph's count, which wraps; valid while RUNNING */
    _Atomic uint64_t recorded;
};

rvcd_probe *rvcd_probe_new(uint64_t sound_frames, uint64_t record_frames)
{
    rvcd_probe *probe = calloc(1, sizeof *probe);
    if (probe == NULL)
        return NULL;
    probe->sound = calloc(sound_frames, sizeof(float));
    probe->record = calloc(record_frames, sizeof(float));
    probe->sound_frames = sound_frames;
    probe->record_frames = record_frames;
    if (probe->sound == NULL || probe->record == NULL) {
        rvcd_probe_free(probe);
        return NULL;
    }
    return probe;
}

void rvcd_probe_free(rvcd_probe *probe)
{
    if (probe == NULL)
        return;
    free(probe->sound);
    free(probe->record);
    free(probe);
}

void rvcd_probe_use_jack(rvcd_probe *probe, void *get_buffer, void *last_frame_time, void *player, void *out_port,
                         void *recorder, void *in_port)
{
    memcpy(&probe->get_buffer, &get_buffer, sizeof get_buffer);
    memcpy(&probe->last_frame_time, &last_frame_time, sizeof last_frame_time);
    probe->player = player;
    probe->out_port = out_port;
    probe->recorder = recorder;
    probe->in_port = in_port;
}

float *rvcd_probe_sound(rvcd_probe *probe)
{
    return probe->sound;
}

const float *rvcd_probe_record(rvcd_probe *probe)
{
    return probe->record;
}

void rvcd_probe_arm(rvcd_probe *probe)
{
    STORE(probe->recorded, 0);
    atomic_store_explicit(&probe->state, ARMED, memory_order_release);
}

uint64_t rvcd_probe_recorded(rvcd_probe *probe)
{
    return atomic_load_explicit(&probe->recorded, memory_order_acquire);
}

int rvcd_probe_play(uint32_t frames, void *data)
{
    rvcd_probe *probe = data;
    float *out = probe->get_buffer(probe->out_port, frames);
    const uint32_t now = probe->last_frame_time(probe->player);
    if (out == NULL)
        return 0;
    memset(out, 0, frames * sizeof *out);
    if (atomic_load_explicit(&probe->state, memory_order_acquire) == ARMED) {
        STORE(probe->begun_frame, now);
        atomic_store_explicit(&probe->state, RUNNING, memory_order_release);
    }
    const uint64_t done = now - LOAD(probe->begun_frame); /* wraps as the count does */
    if (LOAD(probe->state) == RUNNING && done < probe->sound_frames) {
        const uint64_t left = probe->sound_frames - done;
        memcpy(out, probe->sound + done, (left < frames ? left : frames) * sizeof *out);
    }
    return 0;
}

int rvcd_probe_listen(uint32_t frames, void *data)
{
    rvcd_probe *probe = data;
    const float *in = probe->get_buffer(probe->in_port, frames);
    if (in == NULL || atomic_load_explicit(&probe->state, memory_order_acquire) != RUNNING)
        return 0;
    const uint32_t done = probe->last_frame_time(probe->recorder) - LOAD(probe->begun_frame);
    if (done >= probe->record_frames) {
        if (done < UINT32_MAX / 2) /* else a cycle of before the beginning */
            atomic_store_explicit(&probe->recorded, probe->record_frames, memory_order_release);
        return 0;
    }
    const uint64_t left = probe->record_frames - done;
    const uint64_t count = left < frames ? left : frames;
    memcpy(probe->record + done, in, count * sizeof *in);
    atomic_store_explicit(&probe->recorded, done + count, memory_order_release);
    return 0;
}
