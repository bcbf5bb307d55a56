/* The realtime callback.
 *
 * Between rvcd_process's first and last line there is no lock, no allocation, no loop of unknown length and no system
 * call but clock_gettime(CLOCK_MONOTONIC), which the kernel answers without one, and gettid in the first callback alone.
 *
 * Who owns the segment
 *   A device that was given up on a dead server may wake up and call back, while its successor runs; or it may have been
 *   stopped half way through a callback. So a context claims the segment before its first callback:
 *       callback: inside + 1;  owner == my serial, else inside - 1 and out;  the period;  inside - 1 (release)
 *       claim:    owner = a new serial;  wait until inside is 0 (acquire);  start
 *   The additions and the store to owner and the two loads after them are in one total order (sequentially consistent). So
 *   either the old callback sees the new owner and touches nothing, or the claim sees that it is inside and waits, or says
 *   that it cannot have the segment yet. Positions are therefore only ever moved by one callback at a time, and the callback
 *   itself waits for nobody. libjack cancels its threads wherever they are: the claim counts one that ended inside out again.
 */
#define _GNU_SOURCE

#include "_callback.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* PortAudio's numbers (portaudio.h, v19), declared here so that its headers are not needed to build. */
enum { PA_INPUT_UNDERFLOW = 1, PA_INPUT_OVERFLOW = 2, PA_OUTPUT_UNDERFLOW = 4, PA_OUTPUT_OVERFLOW = 8 };
enum { PA_CONTINUE = 0, PA_ABORT = 2 };

#define CROSSFADE_S 0.010 /* wet <-> dry */
#define MUTE_S 0.005
#define RISE_S 0.005 /* output resumes */
#define FALL_S 0.002 /* output runs short */
#define MOST_INPUT 8.0f /* 18 dB above full scale */
#define CLAIM_LIMIT_NS UINT64_C(1000000000)
#define CLAIM_STEP_NS 200000

/* As rvcd_raise_peak. */
static void raise64(_Atomic uint64_t *cell, uint64_t value)
{
    uint64_t seen = LOAD(*cell);
    for (int attempt = 0; attempt < 2 && value > seen; attempt++)
        if (atomic_compare_exchange_strong(cell, &seen, value))
            return;
}

/* ---- the context ---- */

static size_t whole_pages(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

rvcd_context *rvcd_context_new(rvcd_segment *segment, uint32_t in_channels, uint32_t out_channels)
{
    const size_t bytes = whole_pages(sizeof(rvcd_context));
    rvcd_context *context = aligned_alloc((size_t)sysconf(_SC_PAGESIZE), bytes);
    if (context == NULL)
        return NULL;
    memset(context, 0, bytes);
    mlock(context, bytes); /* where that is refused, so is the segment's, which is reported */
    const double rate_hz = segment->rate_hz;
    context->segment = segment;
    context->in_ring = rvcd_in_ring(segment);
    context->out_ring = rvcd_out_ring(segment);
    context->tap_ring = rvcd_tap_ring(segment);
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

/* Do for a thread that has ended inside its callback what it cannot do any more. */
static void count_out_the_dead(rvcd_segment *segment)
{
    const uint32_t thread_id = LOAD(segment->inside_thread);
    if (thread_id != 0 && syscall(SYS_tgkill, getpid(), (pid_t)thread_id, 0) != 0 && errno == ESRCH) {
        STORE(segment->inside_thread, 0);
        atomic_fetch_sub(&segment->inside, 1);
    }
}

int rvcd_context_claim(rvcd_context *context)
{
    rvcd_segment *segment = context->segment;
    const uint64_t serial = atomic_fetch_add(&segment->owner, 1) + 1;
    const uint64_t deadline_ns = rvcd_now_ns() + CLAIM_LIMIT_NS;
    while (atomic_load(&segment->inside) != 0) {
        count_out_the_dead(segment);
        if (rvcd_now_ns() >= deadline_ns)
            return EBUSY;
        const struct timespec step = {.tv_sec = 0, .tv_nsec = CLAIM_STEP_NS};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &step, NULL);
    }
    /* Start on the chosen side with the master shut: a reopened device fades in. */
    context->dry = LOAD(segment->bypass) == 1 ? 1.0f : 0.0f;
    context->wet = 1.0f - context->dry;
    context->serial = serial;
    return 0;
}

void rvcd_context_free(rvcd_context *context)
{
    if (context != NULL)
        munlock(context, whole_pages(sizeof *context));
    free(context);
}

/* ---- the thread that makes the callbacks ---- */

int rvcd_context_thread_id(rvcd_context *context)
{
    return atomic_load_explicit(&context->thread_id, memory_order_acquire);
}

uint64_t rvcd_thread_ns(pthread_t thread)
{
    clockid_t clock;
    struct timespec spent;
    if (pthread_getcpuclockid(thread, &clock) != 0 || clock_gettime(clock, &spent) != 0)
        return 0;
    return (uint64_t)spent.tv_sec * UINT64_C(1000000000) + (uint64_t)spent.tv_nsec;
}

/* Processor time of the thread that makes the callbacks; 0 before the first callback and when it has ended. */
uint64_t rvcd_context_thread_ns(rvcd_context *context)
{
    return rvcd_context_thread_id(context) == 0 ? 0 : rvcd_thread_ns(LOAD(context->thread));
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
    return rvcd_context_thread_id(context) == 0 ? ESRCH : rvcd_uncover_thread(LOAD(context->thread));
}

int rvcd_uncover_thread(pthread_t thread)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = uncover;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGURG, &action, NULL) != 0)
        return errno;
    return pthread_kill(thread, SIGURG);
}

static void demote(int number)
{
    const int before = errno;
    const struct sched_param none = {.sched_priority = 0};
    (void)number;
    sched_setscheduler(0, SCHED_OTHER, &none); /* 0: the thread that this handler runs in */
    errno = before;
}

/* From now on, a real-time thread of this process that computes for longer than RLIMIT_RTTIME without waiting once goes on
 * without its real-time class. The kernel sends it SIGXCPU then, which would end the process otherwise. */
int rvcd_demote_on_overrun(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = demote;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    return sigaction(SIGXCPU, &action, NULL) == 0 ? 0 : errno;
}

/* ---- the callback ---- */

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

/* One input sample: what is not finite becomes 0, what no converter delivers is cut to MOST_INPUT, and both are counted. */
static float sane(float sample, uint64_t *bad)
{
    if (fabsf(sample) <= MOST_INPUT)
        return sample;
    (*bad)++;
    return !isfinite(sample) ? 0.0f : sample > 0.0f ? MOST_INPUT : -MOST_INPUT;
}

/* One input frame as mono. */
static float mono_of(const float *frame, uint32_t channels, uint32_t chosen, uint64_t *bad)
{
    if (chosen >= 1 && chosen <= channels)
        return sane(frame[chosen - 1], bad);
    double sum = 0.0;
    for (uint32_t c = 0; c < channels; c++)
        sum += sane(frame[c], bad);
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
    rvcd_raise_peak(&segment->in_peak_bits, peak);
}

/* What is missing is missing at the end of a period: after available samples a new run begins. */
static void count_late(rvcd_context *context, uint32_t available, uint32_t missing)
{
    rvcd_segment *segment = context->segment;
    const int late = missing > 0 && LOAD(segment->expect_output) != 0;
    if (late) {
        rvcd_add(&segment->late_samples, missing);
        if (!context->late || available > 0)
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

    count_late(context, available, count - available);
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
    rvcd_raise_peak(&segment->out_peak_bits, peak);
}

static void note_thread(rvcd_context *context)
{
    STORE(context->thread, pthread_self());
    atomic_store_explicit(&context->thread_id, (int)syscall(SYS_gettid), memory_order_release);
}

static void process_period(rvcd_context *context, const float *input, float *output, uint64_t frames,
                           unsigned long status_flags)
{
    rvcd_segment *segment = context->segment;
    const uint64_t start_ns = rvcd_now_ns();
    if (context->previous_start_ns != 0)
        raise64(&segment->gap_max_ns, start_ns - context->previous_start_ns);
    else
        note_thread(context);
    context->previous_start_ns = start_ns;
    STORE(segment->inside_thread, (uint32_t)LOAD(context->thread_id));
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
    STORE(segment->inside_thread, 0);
}

int rvcd_process(rvcd_context *context, const float *input, float *output, uint64_t frames, unsigned long status_flags)
{
    rvcd_segment *segment = context->segment;
    atomic_fetch_add(&segment->inside, 1);
    const int is_owner = atomic_load(&segment->owner) == context->serial;
    if (is_owner)
        process_period(context, input, output, frames, status_flags);
    else if (output != NULL)
        memset(output, 0, (size_t)frames * context->out_channels * sizeof(float)); /* the segment is its successor's */
    atomic_fetch_sub_explicit(&segment->inside, 1, memory_order_release);
    return is_owner ? PA_CONTINUE : PA_ABORT;
}

int rvcd_pa_callback(const void *input, void *output, unsigned long frames, const void *time_info,
                     unsigned long status_flags, void *user_data)
{
    (void)time_info;
    return rvcd_process(user_data, input, output, frames, status_flags);
}
