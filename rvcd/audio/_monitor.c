/* What the one who speaks hears: the converted voice as the main device is given it (the tap), or the microphone.
 *
 * Both are read from the rings of the segment, after the device's callback and without its knowledge. Nothing is written there
 * but the monitor's own telemetry: so the raw voice of a monitor has no way to the main output, and a monitor that stalls
 * stalls alone. A change of the gain or of the source glides over GLIDE_S: each source has a gain of its own that follows its
 * target. What the device has not processed yet, or what the rings have forgotten, is silence. No lock, no allocation, no
 * system call but the clock's, and gettid in the first call of a stream.
 *
 * A device of its own
 *   In one JACK graph the monitor is two more ports, in the same cycle. Any other device has a clock of its own, and calls
 *   whenever it likes. Its callback does both sides of rvcd_drift: it pushes what the main device has processed since its last
 *   call, with the time of the main device's last callback, and pulls its period. So there is one thread, one bounded ring, and
 *   a ratio that follows the two clocks. What is more than MOST_BEHIND old is passed over: the delay stays what it was.
 *
 * When was the main device's last callback?
 *   Its position and its time are two cells. They belong together where no callback is inside and none has begun meanwhile: a
 *   callback adds to `inside` before it touches anything and subtracts (release) at its end. Otherwise they are looked at
 *   again in the next period, for which rvcd_drift's fill has room.
 */
#define _GNU_SOURCE

#include "_monitor.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GLIDE_S 0.010
#define MOST_GAIN 16.0f
#define MOST_BEHIND 16384
#define MOST_FRAMES 16384
#define PA_OUTPUT_UNDERFLOW 4

struct rvcd_monitor {
    rvcd_segment *segment;
    _Atomic float *in_ring; /* the geometry is copied out of the segment, as in _callback.h */
    _Atomic float *tap_ring;
    uint64_t capacity; /* of both */
    float step;        /* of a gain of 1, per sample */
    float converted;   /* gains as they are now */
    float raw;
    float given[RVCD_CHUNK];
    float heard[RVCD_CHUNK];
};

static size_t whole_pages(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

/* On pages of its own, touched and locked where the limits allow it, so that no use is a page fault. */
static void *silent_memory(size_t bytes)
{
    void *memory = aligned_alloc((size_t)sysconf(_SC_PAGESIZE), whole_pages(bytes));
    if (memory == NULL)
        return NULL;
    memset(memory, 0, whole_pages(bytes));
    mlock(memory, whole_pages(bytes));
    return memory;
}

static void give_back(void *memory, size_t bytes)
{
    if (memory != NULL)
        munlock(memory, whole_pages(bytes));
    free(memory);
}

rvcd_monitor *rvcd_monitor_new(rvcd_segment *segment)
{
    rvcd_monitor *monitor = silent_memory(sizeof *monitor);
    if (monitor == NULL)
        return NULL;
    monitor->segment = segment;
    monitor->in_ring = rvcd_in_ring(segment);
    monitor->tap_ring = rvcd_tap_ring(segment);
    monitor->capacity = segment->in_capacity;
    monitor->step = (float)(1.0 / (GLIDE_S * segment->rate_hz));
    return monitor;
}

void rvcd_monitor_free(rvcd_monitor *monitor)
{
    give_back(monitor, sizeof *monitor);
}

static float sane_gain(float gain)
{
    return isfinite(gain) && gain > 0.0f ? fminf(gain, MOST_GAIN) : 0.0f;
}

/* Straight lines of one length whatever the distance, so that a loud gain is as quick to go as a soft one. */
static float glided(float now, float target, float step)
{
    return now < target ? fminf(now + step, target) : fmaxf(now - step, target);
}

static void read_or_silence(rvcd_monitor *monitor, const _Atomic float *ring, uint64_t start, float *to, uint32_t count)
{
    if (rvcd_read_ring(monitor->segment, ring, monitor->capacity, start, to, count) != RVCD_READ_OK)
        memset(to, 0, count * sizeof(float));
}

/* count: at most RVCD_CHUNK. */
static void give_part(rvcd_monitor *monitor, float *out, uint64_t start, uint32_t count)
{
    rvcd_segment *segment = monitor->segment;
    const float gain = sane_gain(LOAD(segment->monitor_gain));
    const int is_raw = LOAD(segment->monitor_raw) == 1;
    const float step = monitor->step * fmaxf(1.0f, fmaxf(gain, fmaxf(monitor->converted, monitor->raw)));
    float peak = 0.0f;
    if (gain == 0.0f && monitor->converted == 0.0f && monitor->raw == 0.0f) {
        memset(out, 0, count * sizeof(float));
        return;
    }
    read_or_silence(monitor, monitor->tap_ring, start, monitor->given, count);
    read_or_silence(monitor, monitor->in_ring, start, monitor->heard, count);
    for (uint32_t i = 0; i < count; i++) {
        monitor->converted = glided(monitor->converted, is_raw ? 0.0f : gain, step);
        monitor->raw = glided(monitor->raw, is_raw ? gain : 0.0f, step);
        const float mixed = monitor->converted * monitor->given[i] + monitor->raw * monitor->heard[i];
        const float sane = isfinite(mixed) ? mixed : 0.0f;
        peak = fmaxf(peak, fabsf(sane));
        out[i] = fminf(fmaxf(sane, -1.0f), 1.0f);
    }
    rvcd_raise_peak(&segment->monitor_peak_bits, peak);
}

void rvcd_monitor_period(rvcd_monitor *monitor, float *out, uint64_t start, uint64_t count)
{
    for (uint64_t done = 0; done < count;) {
        const uint32_t part = count - done < RVCD_CHUNK ? (uint32_t)(count - done) : RVCD_CHUNK;
        give_part(monitor, out + done, start + done, part);
        done += part;
    }
}

/* ---- a device of its own ---- */

struct rvcd_monitor_stream {
    rvcd_segment *segment;
    rvcd_monitor *monitor;
    rvcd_drift *drift;
    uint32_t channels;
    int started;
    uint64_t taken;  /* the main device's position up to which everything was pushed */
    uint64_t missed; /* by the drift, as last counted */
    _Atomic int thread_id;
    float taking[MOST_BEHIND];
    float pulled[MOST_FRAMES];
};

rvcd_monitor_stream *rvcd_monitor_stream_new(rvcd_segment *segment, uint32_t channels)
{
    rvcd_monitor_stream *stream = silent_memory(sizeof *stream);
    if (stream == NULL)
        return NULL;
    stream->segment = segment;
    stream->channels = channels;
    stream->monitor = rvcd_monitor_new(segment);
    if (stream->monitor == NULL) {
        give_back(stream, sizeof *stream);
        return NULL;
    }
    return stream;
}

void rvcd_monitor_stream_set_drift(rvcd_monitor_stream *stream, rvcd_drift *drift)
{
    stream->drift = drift;
}

void rvcd_monitor_stream_free(rvcd_monitor_stream *stream)
{
    if (stream != NULL)
        rvcd_monitor_free(stream->monitor);
    give_back(stream, sizeof *stream);
}

int rvcd_monitor_stream_thread_id(rvcd_monitor_stream *stream)
{
    return atomic_load_explicit(&stream->thread_id, memory_order_acquire);
}

/* Where the main device has come to, and when its callback began; 0 where the two may not belong together. */
static int look_at_device(rvcd_segment *segment, uint64_t *position, uint64_t *called_ns)
{
    if (atomic_load(&segment->inside) != 0)
        return 0;
    const uint64_t callbacks = LOAD(segment->callbacks);
    *called_ns = LOAD(segment->last_callback_ns);
    *position = atomic_load_explicit(&segment->device_position, memory_order_acquire);
    atomic_thread_fence(memory_order_seq_cst);
    return atomic_load(&segment->inside) == 0 && LOAD(segment->callbacks) == callbacks;
}

void rvcd_monitor_stream_take(rvcd_monitor_stream *stream, uint64_t position, uint64_t called_ns)
{
    if (!stream->started || position < stream->taken) {
        stream->started = 1;
        stream->taken = position;
    }
    if (position - stream->taken > MOST_BEHIND)
        stream->taken = position - MOST_BEHIND;
    const uint64_t count = position - stream->taken;
    if (count == 0)
        return;
    rvcd_monitor_period(stream->monitor, stream->taking, stream->taken, count);
    rvcd_drift_push(stream->drift, stream->taking, count, called_ns);
    stream->taken = position;
}

static void count_missed(rvcd_monitor_stream *stream, unsigned long status_flags)
{
    rvcd_drift_figures figures;
    rvcd_drift_read(stream->drift, &figures);
    const uint64_t missed = figures.starved + figures.recentred;
    rvcd_add(&stream->segment->monitor_underruns, missed - stream->missed + (status_flags & PA_OUTPUT_UNDERFLOW ? 1 : 0));
    stream->missed = missed;
}

void rvcd_monitor_stream_give(rvcd_monitor_stream *stream, float *output, uint64_t frames, unsigned long status_flags,
                              uint64_t now_ns)
{
    for (uint64_t done = 0; done < frames;) {
        /* One pull a call: it takes the time between two pulls for the first one's length. */
        const uint32_t count = frames - done < MOST_FRAMES ? (uint32_t)(frames - done) : MOST_FRAMES;
        rvcd_drift_pull(stream->drift, stream->pulled, count, now_ns);
        for (uint32_t i = 0; output != NULL && i < count; i++)
            for (uint32_t c = 0; c < stream->channels; c++)
                output[(done + i) * stream->channels + c] = fminf(fmaxf(stream->pulled[i], -1.0f), 1.0f);
        done += count;
    }
    count_missed(stream, status_flags);
    rvcd_add(&stream->segment->monitor_samples, frames);
}

int rvcd_pa_monitor(const void *input, void *output, unsigned long frames, const void *time_info,
                    unsigned long status_flags, void *user_data)
{
    rvcd_monitor_stream *stream = user_data;
    const uint64_t now_ns = rvcd_now_ns();
    uint64_t position, called_ns;
    (void)input;
    (void)time_info;
    if (LOAD(stream->thread_id) == 0)
        atomic_store_explicit(&stream->thread_id, (int)syscall(SYS_gettid), memory_order_release);
    if (look_at_device(stream->segment, &position, &called_ns))
        rvcd_monitor_stream_take(stream, position, called_ns);
    rvcd_monitor_stream_give(stream, output, frames, status_flags, now_ns);
    return 0;
}
