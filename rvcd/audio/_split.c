/* One device out of two streams of PortAudio.
 *
 * A server behind one of ALSA's plugins queues what the microphone gives for as long as nobody fetches it. In one stream for
 * both ways PortAudio fetches only as much as the speakers take, so whatever has ever queued up, while a stream starts or
 * while this process stood still, stays queued and is delay for ever. Here each way has its stream and its thread: the
 * capture is always emptied, into a queue of our own, and the playback takes from it what is of the right age.
 *
 *   age of a sample = when it will be heard (the playback's word) - when it was captured (the capture's word)
 *
 * In the first SETTLE_S the queue is made as short as the two threads allow, and the age that results is the latency. From
 * then on it holds: where the age differs, the reading point is moved by the difference, under a short crossfade. What is
 * not there in time is silence, and is not played later.
 *
 * The two threads share `written`, `epoch_ns` and `flags`, each a lock-free atomic with one writer (flags: exchanged). The
 * rules of _callback.c hold: no lock, no allocation, no loop of unknown length.
 */
#define _GNU_SOURCE

#include "_split.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NS_PER_S 1000000000.0
#define QUEUE_S 2.0      /* what the queue remembers at least */
#define SETTLE_S 2.0     /* PulseAudio's queues swing for a second after their start */
#define WINDOW_S 0.5     /* ages are averaged over it: servers' words about their queues jitter by milliseconds */
#define TOLERANCE_S 0.003
#define FAR_S 0.040      /* an age so wrong is put right at once */
#define FAR_CALLBACKS 2
#define FADE_S 0.005
#define MARGIN_S 0.010   /* least that stays in the queue while settling; a period where that is longer */
#define PATIENCE_S 8.0   /* after it, settled means that nothing was missing, however the queue swings */
#define SHORT_WINDOWS 4  /* in so many windows on end something was missing: the latency is too short, and is settled anew */
#define BELIEVABLE_S 60.0

/* PaStreamCallbackTimeInfo: seconds of PortAudio's own clock. */
typedef struct {
    double input_adc_s;
    double now_s;
    double output_dac_s;
} pa_times;

struct rvcd_split {
    rvcd_context *context;
    uint32_t channels;
    double rate_hz;
    int64_t mask;    /* of the queue, in frames */
    int64_t fade;    /* frames */
    int64_t margin;  /* frames */
    float *scratch;  /* RVCD_CHUNK frames */
    _Atomic float *queue;

    /* Written by the capture. */
    _Alignas(RVCD_LINE) _Atomic int64_t written; /* frames since the start */
    _Atomic int64_t epoch_ns;                    /* when frame 0 was captured, as the newest callback sees it; 0: unknown */
    double in_age_s;                             /* the server's last word that can be believed */
    _Atomic uint32_t flags;                      /* of the capture, until the playback counts them */
    _Atomic pthread_t thread;
    _Atomic int thread_id;

    /* Of the playback alone. */
    _Alignas(RVCD_LINE) int64_t read; /* the frame that is taken next; ahead of written while the capture is late */
    int started;
    double out_delay_s;  /* the server's last word that can be believed */
    int far;             /* callbacks on end whose age was far off */
    int64_t window;      /* frames of this window so far */
    int64_t settled_for; /* frames played since settling began */
    int64_t least_fill;
    double age_sum_ns;
    double out_sum_ns;
    uint32_t ages;
    int was_short;
    int short_windows;

    /* Written by the playback, read by anybody. */
    _Alignas(RVCD_LINE) _Atomic int64_t latency_ns;
    _Atomic int64_t out_ns;
    _Atomic uint64_t moves;
    _Atomic uint64_t settlings;
};

rvcd_split *rvcd_split_new(rvcd_context *context, uint32_t rate_hz, uint32_t in_channels, uint32_t period_samples)
{
    rvcd_split *split = aligned_alloc(RVCD_LINE, sizeof(rvcd_split) / RVCD_LINE * RVCD_LINE);
    if (split == NULL)
        return NULL;
    memset(split, 0, sizeof *split);
    int64_t capacity = 4 * RVCD_CHUNK;
    while (capacity < QUEUE_S * rate_hz)
        capacity *= 2;
    split->context = context;
    split->channels = in_channels;
    split->rate_hz = rate_hz;
    split->mask = capacity - 1;
    split->fade = (int64_t)(FADE_S * rate_hz + 0.5);
    split->margin = (int64_t)fmax(MARGIN_S * rate_hz, period_samples);
    split->queue = calloc((size_t)capacity * in_channels, sizeof(float));
    split->scratch = calloc((size_t)RVCD_CHUNK * in_channels, sizeof(float));
    if (split->queue == NULL || split->scratch == NULL) {
        rvcd_split_free(split);
        return NULL;
    }
    return split;
}

void rvcd_split_free(rvcd_split *split)
{
    if (split == NULL)
        return;
    free((void *)split->queue);
    free(split->scratch);
    free(split);
}

void rvcd_split_read(rvcd_split *split, rvcd_split_state *out)
{
    out->latency_ns = LOAD(split->latency_ns);
    out->out_ns = LOAD(split->out_ns);
    out->settlings = LOAD(split->settlings);
    out->moves = LOAD(split->moves);
}

/* ---- the capture ---- */

int rvcd_split_thread_id(rvcd_split *split)
{
    return atomic_load_explicit(&split->thread_id, memory_order_acquire);
}

uint64_t rvcd_split_thread_ns(rvcd_split *split)
{
    return rvcd_split_thread_id(split) == 0 ? 0 : rvcd_thread_ns(LOAD(split->thread));
}

int rvcd_split_uncover_thread(rvcd_split *split)
{
    return rvcd_split_thread_id(split) == 0 ? ESRCH : rvcd_uncover_thread(LOAD(split->thread));
}

static int is_believable(double delay_s)
{
    return isfinite(delay_s) && fabs(delay_s) < BELIEVABLE_S;
}

int rvcd_split_capture(const void *input, void *output, unsigned long frames, const void *time_info,
                       unsigned long status_flags, void *user_data)
{
    (void)output;
    rvcd_split *split = user_data;
    const pa_times *times = time_info;
    if (status_flags)
        atomic_fetch_or_explicit(&split->flags, (uint32_t)status_flags, memory_order_relaxed);
    return rvcd_split_take(split, input, frames, times == NULL ? NAN : times->now_s - times->input_adc_s, rvcd_now_ns());
}

int rvcd_split_take(rvcd_split *split, const float *samples, uint64_t frames, double in_age_s, uint64_t now_ns)
{
    const int64_t start = LOAD(split->written);
    if (LOAD(split->thread_id) == 0) {
        STORE(split->thread, pthread_self());
        atomic_store_explicit(&split->thread_id, (int)syscall(SYS_gettid), memory_order_release);
    }
    for (int64_t i = 0; samples != NULL && i < (int64_t)frames; i++)
        for (uint32_t c = 0; c < split->channels; c++)
            STORE(split->queue[((start + i) & split->mask) * split->channels + c], samples[i * split->channels + c]);
    if (is_believable(in_age_s))
        split->in_age_s = in_age_s;
    STORE(split->epoch_ns, (int64_t)now_ns - (int64_t)(NS_PER_S * (split->in_age_s + (double)start / split->rate_hz)));
    atomic_store_explicit(&split->written, start + (int64_t)frames, memory_order_release);
    return 0;
}

/* ---- the playback ---- */

/* One sample of the queue, 0 where there is none. */
static float sample_at(const rvcd_split *split, int64_t written, int64_t frame, uint32_t channel)
{
    if (frame < 0 || frame >= written || frame < written - split->mask + 2 * RVCD_CHUNK)
        return 0.0f;
    return LOAD(split->queue[(frame & split->mask) * split->channels + channel]);
}

/* Take count frames from the reading point into the scratch; the first come from `before` frames further back, fading over. */
static void take(rvcd_split *split, int64_t written, int64_t count, int64_t before)
{
    const int64_t fade = before == 0 ? 0 : split->fade < count ? split->fade : count;
    for (int64_t i = 0; i < count; i++)
        for (uint32_t c = 0; c < split->channels; c++) {
            float sample = sample_at(split, written, split->read + i, c);
            if (i < fade) {
                const float gain = (float)(i + 1) / (float)(fade + 1);
                sample = gain * sample + (1.0f - gain) * sample_at(split, written, split->read - before + i, c);
            }
            split->scratch[i * split->channels + c] = sample;
        }
    if (split->read + count > written && split->started) {
        const int64_t missing = split->read + count - (split->read > written ? split->read : written);
        if (LOAD(split->latency_ns) != 0)
            rvcd_add(&split->context->segment->absent_samples, (uint64_t)missing);
        split->was_short = 1;
    }
    split->read += count;
}

/* Move the reading point, forwards past what is stale or backwards. Returns by how much: for the crossfade. */
static int64_t move(rvcd_split *split, int64_t by)
{
    split->read += by;
    if (by > 0 && LOAD(split->latency_ns) != 0)
        rvcd_add(&split->context->segment->stale_samples, (uint64_t)by);
    rvcd_add(&split->moves, 1);
    return by;
}

static void begin_window(rvcd_split *split)
{
    split->window = 0;
    split->least_fill = INT64_MAX;
    split->age_sum_ns = split->out_sum_ns = 0.0;
    split->ages = 0;
    split->was_short = 0;
}

static void settle_anew(rvcd_split *split)
{
    split->settled_for = 0;
    split->short_windows = 0;
    STORE(split->latency_ns, 0);
    begin_window(split);
}

static int64_t to_frames(const rvcd_split *split, double ns)
{
    return (int64_t)lround(ns / NS_PER_S * split->rate_hz);
}

/* At the end of a window while settling: as short a queue as never ran empty in it, and a margin. */
static int64_t settle(rvcd_split *split)
{
    const int64_t surplus = split->least_fill - split->margin;
    const int steady = llabs(surplus) <= split->margin / 2;
    const int patient = split->settled_for < PATIENCE_S * split->rate_hz;
    if (split->settled_for >= SETTLE_S * split->rate_hz && (steady || (!patient && split->least_fill >= 0))) {
        STORE(split->out_ns, (int64_t)(split->out_sum_ns / split->ages));
        STORE(split->latency_ns, (int64_t)(split->age_sum_ns / split->ages));
        rvcd_add(&split->settlings, 1);
        return 0;
    }
    return surplus == 0 ? 0 : move(split, surplus);
}

/* At the end of a window afterwards: the latency holds. */
static int64_t hold(rvcd_split *split)
{
    split->short_windows = split->was_short ? split->short_windows + 1 : 0;
    if (split->short_windows >= SHORT_WINDOWS) {
        settle_anew(split);
        return 0;
    }
    if (split->ages == 0)
        return 0;
    const double error_ns = split->age_sum_ns / split->ages - (double)LOAD(split->latency_ns);
    return fabs(error_ns) > TOLERANCE_S * NS_PER_S ? move(split, to_frames(split, error_ns)) : 0;
}

/* Look at the age of what is next, and put it right where it is wrong. Returns by how much the reading point was moved. */
static int64_t keep_pace(rvcd_split *split, double out_s, uint64_t now_ns, int64_t written, int64_t count)
{
    const int64_t epoch_ns = LOAD(split->epoch_ns);
    if (is_believable(out_s))
        split->out_delay_s = out_s;
    if (epoch_ns == 0)
        return 0;
    if (!split->started) {
        split->started = 1;
        split->read = written - count - split->margin; /* what is older is of no use */
        settle_anew(split);
    }
    const double out_ns = split->out_delay_s * NS_PER_S;
    const double heard_ns = (double)((int64_t)now_ns - epoch_ns) + out_ns; /* since frame 0 was captured */
    const double age_ns = heard_ns - (double)split->read / split->rate_hz * NS_PER_S;
    const int64_t fill = written - split->read - count;
    const double latency_ns = (double)LOAD(split->latency_ns);
    int64_t moved = 0;

    split->far = latency_ns != 0.0 && fabs(age_ns - latency_ns) > FAR_S * NS_PER_S ? split->far + 1 : 0;
    if (split->far >= FAR_CALLBACKS) {
        split->far = 0;
        moved = move(split, to_frames(split, age_ns - latency_ns));
        begin_window(split);
        return moved;
    }
    if (fill < split->least_fill)
        split->least_fill = fill;
    split->age_sum_ns += age_ns;
    split->out_sum_ns += out_ns;
    split->ages++;
    split->window += count;
    split->settled_for += count;
    if (split->window < WINDOW_S * split->rate_hz)
        return 0;
    moved = latency_ns == 0.0 ? settle(split) : hold(split);
    begin_window(split);
    return moved;
}

int rvcd_split_playback(const void *input, void *output, unsigned long frames, const void *time_info,
                        unsigned long status_flags, void *user_data)
{
    (void)input;
    rvcd_split *split = user_data;
    const pa_times *times = time_info;
    const double out_delay_s = times == NULL ? NAN : times->output_dac_s - times->now_s;
    return rvcd_split_give(split, output, frames, out_delay_s, status_flags, rvcd_now_ns());
}

int rvcd_split_give(rvcd_split *split, float *output, uint64_t frames, double out_delay_s, unsigned long status_flags,
                    uint64_t now_ns)
{
    const int64_t written = atomic_load_explicit(&split->written, memory_order_acquire);
    int64_t moved = keep_pace(split, out_delay_s, now_ns, written, (int64_t)frames);
    unsigned long flags = status_flags | atomic_exchange_explicit(&split->flags, 0, memory_order_relaxed);
    int verdict = 0;
    for (uint64_t done = 0; done < frames && verdict == 0;) {
        const uint64_t count = frames - done < RVCD_CHUNK ? frames - done : RVCD_CHUNK;
        take(split, written, (int64_t)count, moved);
        float *part = output == NULL ? NULL : output + done * split->context->out_channels;
        verdict = rvcd_process(split->context, split->scratch, part, count, flags);
        done += count;
        moved = 0;
        flags = 0;
    }
    return verdict;
}
