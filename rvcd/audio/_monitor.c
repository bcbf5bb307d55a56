/* What the one who speaks hears: the converted voice as the main device is given it (the tap), or the microphone.
 *
 * Both are read from the rings of the segment and nothing is written there, so the raw voice of a monitor has no way to the
 * main output. A change of the gain or of the source glides over GLIDE_S: each source has a gain of its own that follows its
 * target. A position that the device has not processed yet, or that the rings have forgotten, is silence. No lock, no
 * allocation, no system call.
 */
#include "_monitor.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GLIDE_S 0.010
#define MOST_GAIN 16.0

struct rvcd_monitor {
    rvcd_segment *segment;
    _Atomic float *in_ring;
    _Atomic float *tap_ring;
    uint64_t capacity; /* of both */
    float step;        /* of a gain of 1, per sample */
    float converted;   /* gains as they are now */
    float raw;
    _Alignas(RVCD_LINE) _Atomic float gain;
    _Atomic int is_raw;
};

rvcd_monitor *rvcd_monitor_new(rvcd_segment *segment)
{
    rvcd_monitor *monitor = aligned_alloc(RVCD_LINE, sizeof *monitor);
    if (monitor == NULL)
        return NULL;
    memset(monitor, 0, sizeof *monitor);
    monitor->segment = segment;
    monitor->in_ring = rvcd_in_ring(segment);
    monitor->tap_ring = rvcd_tap_ring(segment);
    monitor->capacity = segment->in_capacity;
    monitor->step = (float)(1.0 / (GLIDE_S * segment->rate_hz));
    return monitor;
}

void rvcd_monitor_free(rvcd_monitor *monitor)
{
    free(monitor);
}

void rvcd_monitor_set(rvcd_monitor *monitor, double gain, int is_raw)
{
    const double sane = isfinite(gain) && gain > 0.0 ? fmin(gain, MOST_GAIN) : 0.0;
    STORE(monitor->is_raw, is_raw == 1);
    STORE(monitor->gain, (float)sane);
}

/* Straight lines of one length whatever the distance, so that a loud gain is as quick to go as a soft one. */
static float glided(float now, float target, float step)
{
    return now < target ? fminf(now + step, target) : fmaxf(now - step, target);
}

void rvcd_monitor_period(rvcd_monitor *monitor, float *out, uint64_t start, uint32_t count)
{
    const uint64_t device = atomic_load_explicit(&monitor->segment->device_position, memory_order_acquire);
    const uint64_t announced = LOAD(monitor->segment->announced);
    const uint64_t newest = announced > device ? announced : device;
    const float gain = LOAD(monitor->gain);
    const int is_raw = LOAD(monitor->is_raw);
    const float step = monitor->step * fmaxf(1.0f, fmaxf(gain, fmaxf(monitor->converted, monitor->raw)));
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t position = start + i;
        const int is_there = position < device && position + monitor->capacity >= newest + RVCD_CHUNK;
        monitor->converted = glided(monitor->converted, is_raw ? 0.0f : gain, step);
        monitor->raw = glided(monitor->raw, is_raw ? gain : 0.0f, step);
        float mixed = 0.0f;
        if (is_there && monitor->converted > 0.0f)
            mixed += monitor->converted * LOAD(monitor->tap_ring[position & (monitor->capacity - 1)]);
        if (is_there && monitor->raw > 0.0f)
            mixed += monitor->raw * LOAD(monitor->in_ring[position & (monitor->capacity - 1)]);
        out[i] = mixed > 1.0f ? 1.0f : mixed < -1.0f ? -1.0f : isfinite(mixed) ? mixed : 0.0f;
    }
}
