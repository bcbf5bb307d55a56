/* The shared-memory segment: creating and checking it, its rings, its vectors and its counters.
 *
 * How the in-ring may be overwritten while it is read
 *   The callback never waits for the reader: it overwrites the oldest samples. So a reader copies first and asks
 *   afterwards whether what it copied was still whole. The callback does, for the period [t, t+n):
 *       announced = t+n (relaxed);  release fence;  samples (relaxed);  device_position = t+n (release)
 *   and the reader of [p, p+m):
 *       device_position >= p+m (acquire), else not yet;  samples (relaxed);  acquire fence;  announced (relaxed)
 *   If the reader's copy holds even one sample of a newer period, its load saw a store made after that period's release
 *   fence, the two fences synchronise, and the reader must then see an `announced` at least as new. Position q overwrites
 *   the slot of q - capacity, so the copy is whole exactly when announced <= p + capacity. The announced end covers the
 *   period in flight, and so decides.
 *
 * The tap
 *   A second ring of the same kind, written in the same period between the same two fences: what the callback gave to the
 *   device, sample for sample, after every gain and the limit. Its slot of position q is overwritten by q + capacity as in
 *   the in-ring, so the one argument above holds for both, and a reader of both has samples that belong together. Nobody
 *   needs to read it: it is there so that a recorder can come and go without the callback knowing.
 *
 * Who owns which part of the out-ring
 *   The worker writes only positions in [announced, device_position + capacity) and then publishes `out_written`
 *   (release); the callback reads [t, min(t+n, out_written)) (acquire) and publishes device_position afterwards, which
 *   hands the slots back. A sample written while its period is already being played is either heard or counted late.
 *
 * Samples are relaxed atomics: on every machine this runs on they cost a plain move, and no race is undefined.
 */
#define _POSIX_C_SOURCE 200809L

#include "_segment.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

uint64_t rvcd_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* ---- segment ---- */

static int is_capacity(uint64_t samples)
{
    return samples >= 2 * RVCD_CHUNK && samples <= (UINT64_C(1) << 30) && (samples & (samples - 1)) == 0;
}

size_t rvcd_segment_bytes(uint64_t in_capacity, uint64_t out_capacity)
{
    return is_capacity(in_capacity) && is_capacity(out_capacity)
               ? RVCD_HEADER_BYTES + (2 * in_capacity + out_capacity) * sizeof(float) /* the tap is as long as the in-ring */
               : 0;
}

int rvcd_segment_create(void *memory, size_t bytes, uint32_t rate_hz, uint64_t in_capacity, uint64_t out_capacity)
{
    rvcd_segment *segment = memory;
    if (rate_hz == 0 || bytes == 0 || bytes != rvcd_segment_bytes(in_capacity, out_capacity))
        return RVCD_ATTACH_SIZE;
    memset(memory, 0, bytes); /* also touches every page, so that the callback meets no page fault */
    segment->layout_version = RVCD_LAYOUT_VERSION;
    segment->rate_hz = rate_hz;
    segment->total_bytes = bytes;
    segment->in_capacity = in_capacity;
    segment->out_capacity = out_capacity;
    segment->in_offset = RVCD_HEADER_BYTES;
    segment->out_offset = RVCD_HEADER_BYTES + in_capacity * sizeof(float);
    segment->tap_offset = segment->out_offset + out_capacity * sizeof(float);
    segment->magic = RVCD_MAGIC;
    return RVCD_ATTACH_OK;
}

int rvcd_segment_check(const void *memory, size_t bytes)
{
    const rvcd_segment *segment = memory;
    if (bytes < RVCD_HEADER_BYTES || segment->magic != RVCD_MAGIC)
        return RVCD_ATTACH_NOT_OURS;
    if (segment->layout_version != RVCD_LAYOUT_VERSION)
        return RVCD_ATTACH_VERSION;
    if (segment->total_bytes != bytes || rvcd_segment_bytes(segment->in_capacity, segment->out_capacity) != bytes ||
        segment->in_offset != RVCD_HEADER_BYTES ||
        segment->out_offset != RVCD_HEADER_BYTES + segment->in_capacity * sizeof(float) ||
        segment->tap_offset != segment->out_offset + segment->out_capacity * sizeof(float))
        return RVCD_ATTACH_SIZE;
    return RVCD_ATTACH_OK;
}

uint32_t rvcd_segment_version(const void *memory)
{
    return ((const rvcd_segment *)memory)->layout_version;
}

uint32_t rvcd_rate_hz(const rvcd_segment *segment)
{
    return segment->rate_hz;
}

uint64_t rvcd_in_capacity(const rvcd_segment *segment)
{
    return segment->in_capacity;
}

uint64_t rvcd_out_capacity(const rvcd_segment *segment)
{
    return segment->out_capacity;
}

int rvcd_segment_lock(rvcd_segment *segment, size_t bytes)
{
    return mlock(segment, bytes) == 0 ? 0 : errno;
}

void rvcd_set_cell(rvcd_segment *segment, int cell, uint64_t value)
{
    const uint32_t word = (uint32_t)value;
    switch (cell) {
    case RVCD_CELL_LATENCY_SAMPLES: atomic_store(&segment->latency_samples, value); break;
    case RVCD_CELL_SILENCE_UNTIL: atomic_store(&segment->silence_until, value); break;
    case RVCD_CELL_MUTE: atomic_store(&segment->mute, word); break;
    case RVCD_CELL_BYPASS: atomic_store(&segment->bypass, word); break;
    case RVCD_CELL_EXPECT_OUTPUT: atomic_store(&segment->expect_output, word); break;
    case RVCD_CELL_INPUT_CHANNEL: atomic_store(&segment->input_channel, word); break;
    case RVCD_CELL_WORKER_READY: atomic_store(&segment->worker_ready, word); break;
    default: break;
    }
}

uint64_t rvcd_get_cell(rvcd_segment *segment, int cell)
{
    switch (cell) {
    case RVCD_CELL_LATENCY_SAMPLES: return atomic_load(&segment->latency_samples);
    case RVCD_CELL_SILENCE_UNTIL: return atomic_load(&segment->silence_until);
    case RVCD_CELL_MUTE: return atomic_load(&segment->mute);
    case RVCD_CELL_BYPASS: return atomic_load(&segment->bypass);
    case RVCD_CELL_EXPECT_OUTPUT: return atomic_load(&segment->expect_output);
    case RVCD_CELL_INPUT_CHANNEL: return atomic_load(&segment->input_channel);
    case RVCD_CELL_WORKER_READY: return atomic_load(&segment->worker_ready);
    default: return 0;
    }
}

void rvcd_set_monitor(rvcd_segment *segment, double gain, int is_raw)
{
    STORE(segment->monitor_raw, is_raw == 1);
    STORE(segment->monitor_gain, (float)gain);
}

/* ---- rings, from the worker's and the recorder's side ---- */

uint64_t rvcd_device_position(rvcd_segment *segment)
{
    return atomic_load_explicit(&segment->device_position, memory_order_acquire);
}

uint64_t rvcd_output_written(rvcd_segment *segment)
{
    return atomic_load_explicit(&segment->out_written, memory_order_acquire);
}

/* Of a ring that the callback overwrites: the in-ring or the tap. */
int rvcd_read_ring(rvcd_segment *segment, const _Atomic float *ring, uint64_t capacity, uint64_t position, float *out,
                   uint64_t count)
{
    if (atomic_load_explicit(&segment->device_position, memory_order_acquire) < position + count)
        return RVCD_READ_NOT_YET;
    if (LOAD(segment->announced) > position + capacity)
        return RVCD_READ_LAPPED;
    for (uint64_t i = 0; i < count; i++)
        out[i] = LOAD(ring[(position + i) & (capacity - 1)]);
    atomic_thread_fence(memory_order_acquire);
    return LOAD(segment->announced) > position + capacity ? RVCD_READ_LAPPED : RVCD_READ_OK;
}

int rvcd_read_input(rvcd_segment *segment, uint64_t position, float *out, uint64_t count)
{
    return rvcd_read_ring(segment, rvcd_in_ring(segment), segment->in_capacity, position, out, count);
}

int rvcd_read_tap(rvcd_segment *segment, uint64_t position, float *out, uint64_t count)
{
    return rvcd_read_ring(segment, rvcd_tap_ring(segment), segment->in_capacity, position, out, count);
}

int rvcd_wait_input(rvcd_segment *segment, uint64_t position, uint64_t timeout_ns)
{
    const uint64_t deadline_ns = rvcd_now_ns() + timeout_ns;
    while (rvcd_device_position(segment) < position) {
        if (rvcd_now_ns() >= deadline_ns)
            return 0;
        const struct timespec step = {.tv_sec = 0, .tv_nsec = LOAD(segment->fast) ? 50000 : 500000};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &step, NULL);
    }
    return 1;
}

rvcd_write_result rvcd_write_output(rvcd_segment *segment, uint64_t position, const float *samples, uint64_t count)
{
    rvcd_write_result result = {0, 0, 0};
    const uint64_t capacity = segment->out_capacity;
    _Atomic float *ring = rvcd_out_ring(segment);
    const uint64_t limit = atomic_load_explicit(&segment->device_position, memory_order_acquire) + capacity;
    const uint64_t taken = atomic_load_explicit(&segment->announced, memory_order_acquire);
    const uint64_t written = atomic_load_explicit(&segment->out_written, memory_order_acquire);
    uint64_t end = position + count;
    if (end > limit) {
        result.overflow = end - limit < count ? end - limit : count;
        end -= result.overflow;
    }
    if (position < taken)
        result.expired = taken - position < count - result.overflow ? taken - position : count - result.overflow;
    const uint64_t first = position + result.expired;
    /* Where no sample fits, nothing is published: a wild position must not fill the ring with silence. */
    const int fits = count > 0 ? first < end : first >= taken && first <= limit;
    if (fits) {
        const uint64_t gap_start = written > taken ? written : taken;
        for (uint64_t p = gap_start; p < first; p++)
            STORE(ring[p & (capacity - 1)], 0.0f);
        for (uint64_t p = first; p < end; p++)
            STORE(ring[p & (capacity - 1)], samples[p - position]);
        if (end > written)
            atomic_store_explicit(&segment->out_written, end, memory_order_release);
        result.written = end - first;
        if (count > 0 && first > gap_start)
            rvcd_add(&segment->gap_samples, first - gap_start);
    }
    rvcd_add(&segment->expired_samples, result.expired);
    rvcd_add(&segment->overflow_samples, result.overflow);
    return result;
}

/* ---- vectors under a sequence lock ---- */

static rvcd_vector *vector_of(rvcd_segment *segment, int vector)
{
    return vector == RVCD_VECTOR_PARAMS ? &segment->params : &segment->worker_stats;
}

void rvcd_publish(rvcd_segment *segment, int vector, const double *values, uint32_t count)
{
    rvcd_vector *cell = vector_of(segment, vector);
    /* A writer killed half way leaves the number odd: the next one goes on from there. */
    const uint64_t odd = LOAD(cell->sequence) | 1;
    const uint32_t used = count < RVCD_VALUES ? count : RVCD_VALUES;
    STORE(cell->sequence, odd);
    atomic_thread_fence(memory_order_release);
    STORE(cell->count, used);
    for (uint32_t i = 0; i < used; i++) {
        uint64_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        STORE(cell->bits[i], bits);
    }
    atomic_store_explicit(&cell->sequence, odd + 1, memory_order_release);
}

int rvcd_snapshot(rvcd_segment *segment, int vector, double *values)
{
    rvcd_vector *cell = vector_of(segment, vector);
    for (int attempt = 0; attempt < 100; attempt++) {
        const uint64_t before = atomic_load_explicit(&cell->sequence, memory_order_acquire);
        if (before == 0)
            return 0; /* nothing was ever published */
        if (before & 1)
            continue;
        uint64_t count = LOAD(cell->count);
        if (count > RVCD_VALUES)
            continue;
        for (uint64_t i = 0; i < count; i++) {
            const uint64_t bits = LOAD(cell->bits[i]);
            memcpy(&values[i], &bits, sizeof bits);
        }
        atomic_thread_fence(memory_order_acquire);
        if (LOAD(cell->sequence) == before)
            return (int)count;
    }
    return -1;
}

/* ---- telemetry ---- */

void rvcd_read_counters(rvcd_segment *segment, rvcd_counters *out)
{
    out->device_position = rvcd_device_position(segment);
    out->callbacks = LOAD(segment->callbacks);
    out->last_callback_ns = LOAD(segment->last_callback_ns);
    out->gap_max_ns = LOAD(segment->gap_max_ns);
    out->input_xruns = LOAD(segment->input_xruns);
    out->output_xruns = LOAD(segment->output_xruns);
    out->late_samples = LOAD(segment->late_samples);
    out->late_events = LOAD(segment->late_events);
    out->expired_samples = LOAD(segment->expired_samples);
    out->overflow_samples = LOAD(segment->overflow_samples);
    out->gap_samples = LOAD(segment->gap_samples);
    out->bad_input_samples = LOAD(segment->bad_input_samples);
    out->bad_output_samples = LOAD(segment->bad_output_samples);
    out->in_clips = LOAD(segment->in_clips);
    out->out_clips = LOAD(segment->out_clips);
    out->period_samples = LOAD(segment->period_samples);
    out->stale_samples = LOAD(segment->stale_samples);
    out->absent_samples = LOAD(segment->absent_samples);
    out->monitor_samples = LOAD(segment->monitor_samples);
    out->monitor_underruns = LOAD(segment->monitor_underruns);
}

void rvcd_take_peaks(rvcd_segment *segment, float *in_peak, float *out_peak)
{
    const uint32_t in_bits = atomic_exchange(&segment->in_peak_bits, 0);
    const uint32_t out_bits = atomic_exchange(&segment->out_peak_bits, 0);
    memcpy(in_peak, &in_bits, sizeof in_bits);
    memcpy(out_peak, &out_bits, sizeof out_bits);
}

uint64_t rvcd_take_gap_max_ns(rvcd_segment *segment)
{
    return atomic_exchange(&segment->gap_max_ns, 0);
}

float rvcd_take_monitor_peak(rvcd_segment *segment)
{
    const uint32_t bits = atomic_exchange(&segment->monitor_peak_bits, 0);
    float peak;
    memcpy(&peak, &bits, sizeof peak);
    return peak;
}
