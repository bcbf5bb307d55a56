/* The virtual device: a thread that calls rvcd_process as a sound card would.
 *
 * Real time: one period per period of CLOCK_MONOTONIC, at absolute deadlines, so nothing drifts. A thread that overslept
 * catches up in a burst of at most MAX_BURST_NS; beyond that it starts its time afresh and reports one xrun.
 *
 * Fast: in lockstep with the worker. The period [t, t+n) is processed once the out-ring holds it, or its part
 * [t, written) as a shorter period, so the two can never wait for each other. Output that no worker can deliver
 * (the first latency_samples) is not waited for. A worker that stays away longer than the stall limit is done without:
 * silence at the pace of real time until it writes again. While waiting the thread keeps last_callback_ns fresh: it lives.
 * After the end of a file played once, it keeps in step but takes its time.
 */
#define _GNU_SOURCE

#include "_clock.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_BURST_NS UINT64_C(250000000)
#define WAIT_STEP_NS 50000
#define PA_OUTPUT_UNDERFLOW 4
#define PA_INPUT_OVERFLOW 2
#define TWO_PI 6.283185307179586476925286766559

struct rvcd_clock {
    rvcd_context *context;
    rvcd_clock_options options;
    pthread_t thread;
    int running; /* only the starting and stopping side looks at it */
    uint64_t first_output; /* device position that the first played sample can appear at */
    float *input;
    float *output;
    float *capture; /* single producer (clock), single consumer (drain) */
    _Atomic int stop;
    _Atomic uint64_t stalls;
    _Alignas(RVCD_LINE) _Atomic uint64_t played; /* samples processed by this clock */
    _Atomic uint64_t captured;
    _Atomic uint64_t dropped;
    _Alignas(RVCD_LINE) _Atomic uint64_t drained;
};

static void sleep_ns(uint64_t duration_ns)
{
    const struct timespec step = {.tv_sec = (time_t)(duration_ns / UINT64_C(1000000000)),
                                  .tv_nsec = (long)(duration_ns % UINT64_C(1000000000))};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &step, NULL);
}

static void fill_input(rvcd_clock *clock, uint64_t played, uint32_t count)
{
    const rvcd_clock_options *options = &clock->options;
    if (options->source == RVCD_SOURCE_TONE) {
        const double cycles_per_sample = options->tone_hz / clock->context->segment->rate_hz;
        for (uint32_t i = 0; i < count; i++) {
            /* The phase is computed from the position, so it cannot drift. */
            const double cycles = cycles_per_sample * (double)(played + i);
            clock->input[i] = (float)(options->tone_amplitude * sin(TWO_PI * (cycles - floor(cycles))));
        }
        return;
    }
    memset(clock->input, 0, count * sizeof(float));
    if (options->source != RVCD_SOURCE_BUFFER || options->buffer_samples == 0)
        return;
    for (uint32_t done = 0; done < count;) {
        uint64_t at = played + done;
        if (at >= options->buffer_samples) {
            if (!options->loop)
                return;
            at %= options->buffer_samples;
        }
        const uint64_t left = options->buffer_samples - at;
        const uint32_t part = left < count - done ? (uint32_t)left : count - done;
        memcpy(clock->input + done, options->buffer + at, part * sizeof(float));
        done += part;
    }
}

/* Where a buffer played once ends, its delayed output included; UINT64_MAX for sources without an end. */
static uint64_t end_of(const rvcd_clock *clock)
{
    if (clock->options.source != RVCD_SOURCE_BUFFER || clock->options.loop)
        return UINT64_MAX;
    return clock->options.buffer_samples + LOAD(clock->context->segment->latency_samples);
}

static void capture(rvcd_clock *clock, uint64_t played, uint32_t count)
{
    const uint64_t capacity = clock->options.capture_samples;
    const uint64_t end = end_of(clock);
    if (capacity == 0 || played >= end)
        return;
    if (count > end - played)
        count = (uint32_t)(end - played);
    const uint64_t captured = LOAD(clock->captured);
    for (;;) {
        const uint64_t used = captured - atomic_load_explicit(&clock->drained, memory_order_acquire);
        if (capacity - used >= count)
            break;
        if (clock->options.realtime || LOAD(clock->stop)) {
            rvcd_add(&clock->dropped, count);
            return;
        }
        STORE(clock->context->segment->last_callback_ns, rvcd_now_ns());
        sleep_ns(WAIT_STEP_NS);
    }
    for (uint32_t i = 0; i < count; i++)
        clock->capture[(captured + i) & (capacity - 1)] = clock->output[i];
    atomic_store_explicit(&clock->captured, captured + count, memory_order_release);
}

static void play(rvcd_clock *clock, uint32_t count, unsigned long status_flags)
{
    const uint64_t played = LOAD(clock->played);
    fill_input(clock, played, count);
    if (rvcd_process(clock->context, clock->input, clock->output, count, status_flags) != 0) {
        STORE(clock->stop, 1);
        return;
    }
    capture(clock, played, count);
    atomic_store_explicit(&clock->played, played + count, memory_order_release);
}

static void run_realtime(rvcd_clock *clock)
{
    const uint32_t period = clock->options.period_samples;
    const double period_ns = 1e9 * period / clock->context->segment->rate_hz;
    uint64_t base_ns = rvcd_now_ns();
    uint64_t periods = 0;
    while (!LOAD(clock->stop)) {
        unsigned long status_flags = 0;
        const uint64_t due_ns = base_ns + (uint64_t)(period_ns * (double)periods);
        const struct timespec due = {.tv_sec = (time_t)(due_ns / UINT64_C(1000000000)),
                                     .tv_nsec = (long)(due_ns % UINT64_C(1000000000))};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
        const uint64_t now_ns = rvcd_now_ns();
        if (now_ns > due_ns + MAX_BURST_NS) {
            base_ns = now_ns;
            periods = 0;
            status_flags = PA_OUTPUT_UNDERFLOW | PA_INPUT_OVERFLOW;
        }
        play(clock, period, status_flags);
        periods++;
    }
}

/* How many samples of this period may be processed now: 0 = wait. */
static uint32_t deliverable(const rvcd_clock *clock)
{
    rvcd_segment *segment = clock->context->segment;
    const uint64_t position = LOAD(segment->device_position);
    const uint64_t written = rvcd_output_written(segment);
    if (!atomic_load_explicit(&segment->worker_ready, memory_order_acquire))
        return 0;
    const uint64_t until = written > clock->first_output ? written : clock->first_output;
    if (until <= position)
        return 0;
    return until - position < clock->options.period_samples ? (uint32_t)(until - position)
                                                            : clock->options.period_samples;
}

static void run_fast(rvcd_clock *clock)
{
    rvcd_segment *segment = clock->context->segment;
    const uint64_t period_ns = (uint64_t)(1e9 * clock->options.period_samples / segment->rate_hz);
    while (!LOAD(clock->stop) && !LOAD(segment->worker_ready)) {
        STORE(segment->last_callback_ns, rvcd_now_ns());
        sleep_ns(1000000);
    }
    clock->first_output = LOAD(segment->device_position) + LOAD(segment->latency_samples);
    uint64_t waiting_since_ns = rvcd_now_ns();
    int stalled = 0;
    while (!LOAD(clock->stop)) {
        const uint32_t count = deliverable(clock);
        if (count > 0) {
            const int ended = LOAD(clock->played) >= end_of(clock);
            stalled = 0;
            play(clock, count, 0);
            if (ended)
                sleep_ns(period_ns); /* nothing is left to hurry for */
            waiting_since_ns = rvcd_now_ns();
            continue;
        }
        const uint64_t now_ns = rvcd_now_ns();
        STORE(segment->last_callback_ns, now_ns);
        if (!stalled && now_ns - waiting_since_ns > clock->options.stall_limit_ns) {
            stalled = 1;
            rvcd_add(&clock->stalls, 1);
        }
        if (!stalled) {
            sleep_ns(WAIT_STEP_NS);
            continue;
        }
        play(clock, clock->options.period_samples, 0);
        sleep_ns(period_ns);
    }
}

static void *run(void *argument)
{
    rvcd_clock *clock = argument;
    if (clock->options.realtime)
        run_realtime(clock);
    else
        run_fast(clock);
    return NULL;
}

/* Memory that has been touched, so that its first use in the clock's thread is no page fault: calloc's has not. */
static float *silent_samples(uint64_t count)
{
    const size_t bytes = (count * sizeof(float) + RVCD_LINE - 1) / RVCD_LINE * RVCD_LINE;
    float *samples = aligned_alloc(RVCD_LINE, bytes);
    if (samples != NULL)
        memset(samples, 0, bytes);
    return samples;
}

rvcd_clock *rvcd_clock_start(rvcd_context *context, const rvcd_clock_options *options)
{
    if (options->period_samples == 0 || options->period_samples > RVCD_CHUNK || context->in_channels != 1 ||
        context->out_channels != 1 || (options->capture_samples & (options->capture_samples - 1)) != 0 ||
        (options->capture_samples != 0 && options->capture_samples < 2 * RVCD_CHUNK))
        return NULL;
    rvcd_clock *clock = aligned_alloc(RVCD_LINE, sizeof *clock);
    if (clock == NULL)
        return NULL;
    memset(clock, 0, sizeof *clock);
    clock->context = context;
    clock->options = *options;
    clock->input = silent_samples(options->period_samples);
    clock->output = silent_samples(options->period_samples);
    clock->capture = silent_samples(options->capture_samples + 1);
    STORE(context->segment->fast, options->realtime ? 0 : 1);
    if (clock->input == NULL || clock->output == NULL || clock->capture == NULL ||
        pthread_create(&clock->thread, NULL, run, clock) != 0) {
        STORE(context->segment->fast, 0);
        rvcd_clock_free(clock);
        return NULL;
    }
    clock->running = 1;
    pthread_setname_np(clock->thread, "rvcd-clock");
    return clock;
}

/* Ends the thread. What was captured can still be drained. */
void rvcd_clock_stop(rvcd_clock *clock)
{
    if (!clock->running)
        return;
    STORE(clock->stop, 1);
    pthread_join(clock->thread, NULL);
    clock->running = 0;
    STORE(clock->context->segment->fast, 0);
}

void rvcd_clock_free(rvcd_clock *clock)
{
    rvcd_clock_stop(clock);
    free(clock->input);
    free(clock->output);
    free(clock->capture);
    free(clock);
}

int rvcd_clock_finished(rvcd_clock *clock)
{
    return atomic_load_explicit(&clock->played, memory_order_acquire) >= end_of(clock);
}

uint64_t rvcd_clock_stalls(rvcd_clock *clock)
{
    return LOAD(clock->stalls);
}

uint64_t rvcd_clock_dropped(rvcd_clock *clock)
{
    return LOAD(clock->dropped);
}

uint64_t rvcd_clock_drain(rvcd_clock *clock, float *out, uint64_t capacity)
{
    const uint64_t drained = LOAD(clock->drained);
    const uint64_t held = atomic_load_explicit(&clock->captured, memory_order_acquire) - drained;
    const uint64_t count = held < capacity ? held : capacity;
    for (uint64_t i = 0; i < count; i++)
        out[i] = clock->capture[(drained + i) & (clock->options.capture_samples - 1)];
    atomic_store_explicit(&clock->drained, drained + count, memory_order_release);
    return count;
}
