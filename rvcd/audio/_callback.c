/* Rings, sequence locks and the realtime callback.
 *
 * Between rvcd_process's first and last line there is no lock, no allocation, no loop of unknown length and no system
 * call but clock_gettime(CLOCK_MONOTONIC), which the kernel answers without one.
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
 *   period in flight: it is the guard.
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
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* PortAudio's numbers (portaudio.h, v19), declared here so that its headers are not needed to build. */
enum { PA_INPUT_UNDERFLOW = 1, PA_INPUT_OVERFLOW = 2, PA_OUTPUT_UNDERFLOW = 4, PA_OUTPUT_OVERFLOW = 8 };
enum { PA_CONTINUE = 0, PA_ABORT = 2 };

#define CROSSFADE_S 0.010 /* wet <-> dry */
#define MUTE_S 0.005
#define RISE_S 0.005 /* output resumes */
#define FALL_S 0.002 /* output runs short */

#define LOAD(cell) atomic_load_explicit(&(cell), memory_order_relaxed)
#define STORE(cell, value) atomic_store_explicit(&(cell), (value), memory_order_relaxed)

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
    memset(memory, 0, bytes); /* also touches every page, so the callback meets no page fault */
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

static _Atomic float *in_ring(rvcd_segment *segment)
{
    return (_Atomic float *)((char *)segment + segment->in_offset);
}

static _Atomic float *out_ring(rvcd_segment *segment)
{
    return (_Atomic float *)((char *)segment + segment->out_offset);
}

static _Atomic float *tap_ring(rvcd_segment *segment)
{
    return (_Atomic float *)((char *)segment + segment->tap_offset);
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
    case RVCD_CELL_FAST: atomic_store(&segment->fast, word); break;
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
    case RVCD_CELL_FAST: return atomic_load(&segment->fast);
    case RVCD_CELL_WORKER_READY: return atomic_load(&segment->worker_ready);
    default: return 0;
    }
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
static int read_ring(rvcd_segment *segment, const _Atomic float *ring, uint64_t position, float *out, uint64_t count)
{
    const uint64_t capacity = segment->in_capacity;
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
    return read_ring(segment, in_ring(segment), position, out, count);
}

int rvcd_read_tap(rvcd_segment *segment, uint64_t position, float *out, uint64_t count)
{
    return read_ring(segment, tap_ring(segment), position, out, count);
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
    _Atomic float *ring = out_ring(segment);
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
    out->duration_max_ns = LOAD(segment->duration_max_ns);
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
}

void rvcd_take_peaks(rvcd_segment *segment, float *in_peak, float *out_peak)
{
    const uint32_t in_bits = atomic_exchange(&segment->in_peak_bits, 0);
    const uint32_t out_bits = atomic_exchange(&segment->out_peak_bits, 0);
    memcpy(in_peak, &in_bits, sizeof in_bits);
    memcpy(out_peak, &out_bits, sizeof out_bits);
}

void rvcd_reset_maxima(rvcd_segment *segment)
{
    atomic_exchange(&segment->gap_max_ns, 0);
    atomic_exchange(&segment->duration_max_ns, 0);
}

/* Raise a maximum that a reader may exchange with 0 at any time. The reader does so seldom, so two tries are enough,
 * and the third is given up rather than let the callback spin. */
static void raise64(_Atomic uint64_t *cell, uint64_t value)
{
    uint64_t seen = LOAD(*cell);
    for (int attempt = 0; attempt < 2 && value > seen; attempt++)
        if (atomic_compare_exchange_strong(cell, &seen, value))
            return;
}

/* Bits of non-negative floats are ordered as the floats are. */
static void raise_peak(_Atomic uint32_t *cell, float peak)
{
    uint32_t bits;
    memcpy(&bits, &peak, sizeof bits);
    uint32_t seen = LOAD(*cell);
    for (int attempt = 0; attempt < 2 && bits > seen; attempt++)
        if (atomic_compare_exchange_strong(cell, &seen, bits))
            return;
}

/* ---- the callback ---- */

rvcd_context *rvcd_context_new(rvcd_segment *segment, uint32_t in_channels, uint32_t out_channels)
{
    rvcd_context *context = calloc(1, sizeof *context);
    if (context == NULL)
        return NULL;
    const double rate_hz = segment->rate_hz;
    context->segment = segment;
    context->in_ring = in_ring(segment);
    context->out_ring = out_ring(segment);
    context->tap_ring = tap_ring(segment);
    context->in_mask = segment->in_capacity - 1;
    context->out_mask = segment->out_capacity - 1;
    context->in_channels = in_channels;
    context->out_channels = out_channels;
    context->crossfade_step = (float)(1.0 / (CROSSFADE_S * rate_hz));
    context->mute_step = (float)(1.0 / (MUTE_S * rate_hz));
    context->rise_step = (float)(1.0 / (RISE_S * rate_hz));
    context->fall_samples = (uint32_t)(FALL_S * rate_hz + 0.5);
    context->fall_step = 1.0f / (float)context->fall_samples;
    context->serial = UINT64_MAX; /* not the owner yet */
    return context;
}

void rvcd_context_claim(rvcd_context *context)
{
    rvcd_segment *segment = context->segment;
    /* Start on the chosen side with the master shut: a reopened device fades in. */
    context->dry = LOAD(segment->bypass) == 1 ? 1.0f : 0.0f;
    context->wet = 1.0f - context->dry;
    context->serial = atomic_load(&segment->owner) + 1;
    atomic_store(&segment->owner, context->serial);
}

void rvcd_context_free(rvcd_context *context)
{
    free(context);
}

/* Processor time of the thread that makes the callbacks; 0 before the first callback and when it has ended. */
uint64_t rvcd_context_thread_ns(rvcd_context *context)
{
    clockid_t clock;
    struct timespec spent;
    if (!atomic_load_explicit(&context->thread_known, memory_order_acquire) ||
        pthread_getcpuclockid(LOAD(context->thread), &clock) != 0 || clock_gettime(clock, &spent) != 0)
        return 0;
    return (uint64_t)spent.tv_sec * UINT64_C(1000000000) + (uint64_t)spent.tv_nsec;
}

static void uncover(int number)
{
    (void)number;
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
}

/* Let the thread that makes the callbacks be cancelled wherever it is, by a signal whose handler runs in it.
 *
 * PortAudio 19.6's ALSA thread covers itself against cancellation except while it polls. When a server behind an ALSA
 * plugin dies at the wrong moment, its PaAlsaStream_WaitForFrames goes round between two of its error exits for ever,
 * printing; Pa_AbortStream then cancels it in vain and waits for it for ever. SIGURG, because it is ignored by default
 * and nobody here uses it. Returns 0, or an errno. The thread must not have been joined. */
int rvcd_context_uncover_thread(rvcd_context *context)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = uncover;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    if (!atomic_load_explicit(&context->thread_known, memory_order_acquire))
        return ESRCH;
    if (sigaction(SIGURG, &action, NULL) != 0)
        return errno;
    return pthread_kill(LOAD(context->thread), SIGURG);
}

static float towards(float gain, float target, float step)
{
    const float moved = gain < target ? gain + step : gain - step;
    return gain < target ? (moved < target ? moved : target) : (moved > target ? moved : target);
}

/* The gain of a fade that is `way` along, 0..1: it starts and ends without a corner, which would be heard as a tick.
 * Two fades whose ways add up to 1 have gains that do so too. */
static float eased(float way)
{
    return way * way * (3.0f - 2.0f * way);
}

/* One input frame as mono; non-finite samples become 0 and are counted. */
static float mono_of(const float *frame, uint32_t channels, uint32_t chosen, uint64_t *bad)
{
    if (chosen >= 1 && chosen <= channels) {
        const float sample = frame[chosen - 1];
        if (isfinite(sample))
            return sample;
        (*bad)++;
        return 0.0f;
    }
    double sum = 0.0;
    for (uint32_t c = 0; c < channels; c++) {
        if (isfinite(frame[c]))
            sum += frame[c];
        else
            (*bad)++;
    }
    return (float)(sum / channels);
}

static void take_input(rvcd_context *context, const float *input, uint64_t start, uint32_t count)
{
    rvcd_segment *segment = context->segment;
    const uint32_t channels = input == NULL ? 0 : context->in_channels;
    const uint32_t chosen = LOAD(segment->input_channel);
    uint64_t bad = 0;
    float peak = 0.0f;
    for (uint32_t i = 0; i < count; i++) {
        const float sample = channels == 0 ? 0.0f : mono_of(input + (size_t)i * channels, channels, chosen, &bad);
        const float level = fabsf(sample);
        if (level > peak)
            peak = level;
        if (level >= 1.0f && !context->in_clipping)
            rvcd_add(&segment->in_clips, 1);
        context->in_clipping = level >= 1.0f;
        STORE(context->in_ring[(start + i) & context->in_mask], sample);
    }
    if (bad)
        rvcd_add(&segment->bad_input_samples, bad);
    raise_peak(&segment->in_peak_bits, peak);
}

static void count_late(rvcd_context *context, uint32_t missing)
{
    rvcd_segment *segment = context->segment;
    const int late = missing > 0 && LOAD(segment->expect_output) != 0;
    if (late) {
        rvcd_add(&segment->late_samples, missing);
        if (!context->late)
            rvcd_add(&segment->late_events, 1);
    }
    context->late = late;
}

/* The output of [start, start+count), whose input is already in the ring.
 *
 * output = master * (wet * envelope * converted + dry * raw[position - latency]), limited to +-1.
 * The envelope falls over FALL_S so that it reaches 0 as near the last available sample as it can: where less than that
 * is left, the last sample is held while it falls. `dry` leaves 0 only while the bypass cell is exactly 1.
 * The tap gets what the device gets. */
static void give_output(rvcd_context *context, float *output, uint64_t start, uint32_t count)
{
    rvcd_segment *segment = context->segment;
    const uint64_t written = atomic_load_explicit(&segment->out_written, memory_order_acquire);
    const uint64_t ahead = written > start ? written - start : 0;
    const uint32_t available = ahead < count ? (uint32_t)ahead : count;
    const int is_short = available < count;
    const uint32_t fall_from = available > context->fall_samples ? available - context->fall_samples : 0;
    const uint64_t latency = atomic_load_explicit(&segment->latency_samples, memory_order_relaxed);
    const int dry_held = latency + RVCD_CHUNK <= context->in_mask + 1; /* still in the ring */
    const uint64_t silence_until = atomic_load_explicit(&segment->silence_until, memory_order_relaxed);
    const float dry_target = LOAD(segment->bypass) == 1 ? 1.0f : 0.0f;
    const float master_target = LOAD(segment->mute) ? 0.0f : 1.0f;
    uint64_t bad = 0;
    float peak = 0.0f;

    count_late(context, count - available);
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t position = start + i;
        if (i < available) {
            const float sample = LOAD(context->out_ring[position & context->out_mask]);
            context->held = isfinite(sample) ? sample : 0.0f;
            bad += isfinite(sample) ? 0 : 1;
        }
        if (is_short && i >= fall_from)
            context->envelope = towards(context->envelope, 0.0f, context->fall_step);
        else
            context->envelope = towards(context->envelope, 1.0f, context->rise_step);
        context->dry = towards(context->dry, dry_target, context->crossfade_step);
        context->wet = towards(context->wet, 1.0f - dry_target, context->crossfade_step);
        context->master = towards(context->master, master_target, context->mute_step);
        float mixed = 0.0f;
        if (position < silence_until) {
            /* Cut at once, and let what follows fade in. */
            context->envelope = 0.0f;
            context->master = 0.0f;
        } else {
            mixed = eased(context->wet) * context->envelope * context->held;
            if (context->dry > 0.0f && dry_held && position >= latency)
                mixed += eased(context->dry) * LOAD(context->in_ring[(position - latency) & context->in_mask]);
            mixed *= eased(context->master);
        }
        const float level = fabsf(mixed);
        if (level > peak)
            peak = level;
        if (level >= 1.0f && !context->out_clipping)
            rvcd_add(&segment->out_clips, 1);
        context->out_clipping = level >= 1.0f;
        const float limited = mixed > 1.0f ? 1.0f : mixed < -1.0f ? -1.0f : mixed;
        STORE(context->tap_ring[position & context->in_mask], limited);
        for (uint32_t c = 0; output != NULL && c < context->out_channels; c++)
            output[(size_t)i * context->out_channels + c] = limited;
    }
    if (bad)
        rvcd_add(&segment->bad_output_samples, bad);
    raise_peak(&segment->out_peak_bits, peak);
}

int rvcd_process(rvcd_context *context, const float *input, float *output, uint64_t frames, unsigned long status_flags)
{
    rvcd_segment *segment = context->segment;
    const uint64_t start_ns = rvcd_now_ns();

    if (LOAD(segment->owner) != context->serial) {
        /* A stream that was given up on a dead server has woken: the segment belongs to its successor. */
        if (output != NULL)
            memset(output, 0, (size_t)frames * context->out_channels * sizeof(float));
        return PA_ABORT;
    }
    if (context->previous_start_ns != 0) {
        raise64(&segment->gap_max_ns, start_ns - context->previous_start_ns);
    } else {
        STORE(context->thread, pthread_self());
        atomic_store_explicit(&context->thread_known, 1, memory_order_release);
    }
    context->previous_start_ns = start_ns;
    rvcd_add(&segment->callbacks, 1);
    STORE(segment->last_callback_ns, start_ns);
    STORE(segment->period_samples, (uint32_t)frames);
    if (status_flags & (PA_INPUT_UNDERFLOW | PA_INPUT_OVERFLOW))
        rvcd_add(&segment->input_xruns, 1);
    if (status_flags & (PA_OUTPUT_UNDERFLOW | PA_OUTPUT_OVERFLOW))
        rvcd_add(&segment->output_xruns, 1);

    for (uint64_t done = 0; done < frames;) {
        const uint32_t count = frames - done < RVCD_CHUNK ? (uint32_t)(frames - done) : RVCD_CHUNK;
        const uint64_t start = LOAD(segment->device_position);
        STORE(segment->announced, start + count);
        atomic_thread_fence(memory_order_release);
        take_input(context, input == NULL ? NULL : input + (size_t)done * context->in_channels, start, count);
        give_output(context, output == NULL ? NULL : output + (size_t)done * context->out_channels, start, count);
        atomic_store_explicit(&segment->device_position, start + count, memory_order_release);
        done += count;
    }
    raise64(&segment->duration_max_ns, rvcd_now_ns() - start_ns);
    return PA_CONTINUE;
}

int rvcd_pa_callback(const void *input, void *output, unsigned long frames, const void *time_info,
                     unsigned long status_flags, void *user_data)
{
    (void)time_info;
    return rvcd_process(user_data, input, output, frames, status_flags);
}
