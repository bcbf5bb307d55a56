/* One stream of samples from a device with one clock to a device with another.
 *
 *   capture device's thread:  push: mono samples into a ring; when they came
 *   output device's thread:   pull: how full is the ring at this very moment? -> ratio -> resample
 *
 * When is it?
 *   Both sides call in periods, and late by chance. Each side filters the times of its calls with a delay-locked loop, which
 *   gives a time for each sample count without the jitter. The source's position is extrapolated to the time of the pull, so
 *   the fill is a continuous quantity: it does not depend on how the two sides' periods happen to lie.
 *
 * How fast?
 *   ratio = nominal * (1 + 2 z w e + w^2 integral(e)), e = (fill - wanted fill) in seconds. It is a second-order loop: the
 *   integral ends at the drift, so the fill ends at what is wanted exactly, whatever the drift. w begins high and narrows.
 *
 * What cannot be followed
 *   Input that is not there is silence, faded; reading goes on in time, so input that comes late, but comes, leaves the delay
 *   what it was. Where input was lost or a clock leapt, the fill is wrong by more than SNAP_S and reading jumps, under a
 *   fade. Both are counted; neither changes the delay.
 *
 * Resampling
 *   A Kaiser-windowed sinc with PHASES rows, interpolated linearly between rows. Nothing here allocates, locks or waits.
 */
#include "_drift.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PI 3.14159265358979323846
#define PHASES 512
#define TAPS 64 /* at a source no faster than the output; more where the filter has to be narrower */
#define MOST_TAPS 1024
#define KAISER_BETA 11.0
#define CUTOFF 0.4475 /* of the lower rate: the middle of the transition */
#define RING_SAMPLES (UINT64_C(1) << 18)
#define RING_MASK (RING_SAMPLES - 1)
#define LOOP_DAMPING 0.9
#define LOOP_FIRST_HZ 0.3
#define LOOP_LAST_HZ 0.03
#define LOOP_NARROWS_S 3.0
#define MOST_CORRECTION 0.005
#define TIME_FIRST_HZ 2.0
#define TIME_LAST_HZ 0.1
#define OUTLIER_S 0.010
#define OUTLIER_PERIODS 2.0
#define OUTLIERS_LAST_S 0.2 /* of the wall's clock: then they are the truth */
#define LEAP_S 0.0005 /* calls that all come so much too late, or too early, for LEAP_LASTS_S: time has leapt */
#define LEAP_LASTS_S 0.25
#define LEAP_SUSPECTED_S 0.05
#define LEAP_CALLS 6
#define WARM_S 0.5
#define SNAP_S 0.002
#define SNAP_AFTER_S 0.3 /* a wrong fill must stay so long: long enough for the time loops to have seen a leap */
#define FADE_S 0.003
#define PAIR_FRAMES 8192
#define CAPTURE_SILENT_NS UINT64_C(4000000000) /* PulseAudio's monitors take two seconds before they deliver */

/* ---- the time of a sample count ---- */

typedef struct {
    double nominal_s;       /* seconds per sample by the nominal rate */
    double sample_s;        /* as found */
    double filtered_s;      /* time of the last call, in seconds since origin_ns */
    double outlier_since_s; /* below 0: none */
    double first_s;
    uint64_t origin_ns;
    double leap_since_s; /* calls have erred to one side since */
    double leap_sum_s;
    int leap_calls; /* so many of them; below 0: they were early */
    int started;
} clock_loop;

/* Jitter errs to both sides in turn; a leap errs to one. Returns 1 while a leap is suspected, 2 when it is certain. */
static int leaps(clock_loop *loop, double now_s, double error_s)
{
    const int side = error_s > LEAP_S ? 1 : error_s < -LEAP_S ? -1 : 0;
    if (side == 0 || side * loop->leap_calls <= 0) {
        loop->leap_calls = side;
        loop->leap_sum_s = error_s;
        loop->leap_since_s = now_s;
        return 0;
    }
    loop->leap_calls += side;
    loop->leap_sum_s += error_s;
    const double lasts_s = now_s - loop->leap_since_s;
    return abs(loop->leap_calls) < LEAP_CALLS || lasts_s < LEAP_SUSPECTED_S ? 0 : lasts_s < LEAP_LASTS_S ? 1 : 2;
}

/* A call came at now_ns. before: samples between the last call and this one. Returns its time without jitter, in seconds. */
static double clock_called(clock_loop *loop, uint64_t before, uint64_t origin_ns, uint64_t now_ns)
{
    const double now_s = ((double)(int64_t)(now_ns - origin_ns)) * 1e-9;
    if (!loop->started) {
        loop->started = 1;
        loop->sample_s = loop->nominal_s;
        loop->filtered_s = loop->first_s = now_s;
        loop->outlier_since_s = -1.0;
        return now_s;
    }
    const double period_s = (double)before * loop->sample_s;
    const double expected_s = loop->filtered_s + period_s;
    const double error_s = now_s - expected_s;
    if (fabs(error_s) > fmax(OUTLIER_S, OUTLIER_PERIODS * period_s)) {
        if (loop->outlier_since_s < 0.0)
            loop->outlier_since_s = now_s;
        loop->filtered_s = now_s - loop->outlier_since_s > OUTLIERS_LAST_S ? now_s : expected_s;
        if (loop->filtered_s == now_s)
            loop->outlier_since_s = -1.0;
        return loop->filtered_s;
    }
    loop->outlier_since_s = -1.0;
    const int leap = leaps(loop, now_s, error_s);
    if (leap == 1)
        return loop->filtered_s = expected_s;
    if (leap == 2) {
        loop->filtered_s = expected_s + loop->leap_sum_s / abs(loop->leap_calls);
        loop->leap_calls = 0;
        return loop->filtered_s;
    }
    /* Wide at first, so that the first half second is enough for a good guess of when the calls come. */
    const double age_s = now_s - loop->first_s;
    const double hz = fmax(TIME_LAST_HZ, TIME_FIRST_HZ / (1.0 + age_s));
    const double omega = fmin(2.0 * PI * hz * period_s, 0.5);
    loop->filtered_s = expected_s + sqrt(2.0) * omega * error_s;
    if (before > 0)
        loop->sample_s += omega * omega * error_s / (double)before;
    loop->sample_s = fmin(fmax(loop->sample_s, loop->nominal_s * (1.0 - MOST_CORRECTION)),
                          loop->nominal_s * (1.0 + MOST_CORRECTION));
    return loop->filtered_s;
}

/* ---- the whole ---- */

struct rvcd_drift {
    double nominal_ratio;
    double source_rate_hz;
    double wanted_fill;
    uint32_t taps;
    uint32_t half;
    float fade_step;
    float *table; /* (PHASES + 1) x taps */
    uint64_t origin_ns;

    /* Written by push. */
    _Alignas(RVCD_LINE) _Atomic uint64_t written; /* after the samples */
    clock_loop source_clock;
    uint64_t pushed_before;
    _Alignas(RVCD_LINE) _Atomic uint64_t sequence; /* odd while the three below are written */
    _Atomic uint64_t timed_count;
    _Atomic double timed_s;
    _Atomic double timed_sample_s;
    _Atomic int timed;

    /* Written by pull. */
    _Alignas(RVCD_LINE) clock_loop output_clock;
    uint64_t pulled_before;
    uint64_t position; /* reading is at position + fraction */
    double fraction;
    double integral;
    double correction;
    double running_s;    /* since reading began or a time loop was set anew */
    double wrong_s;      /* how long the fill has been wrong */
    float envelope;
    float held;
    int reading;
    int starving;
    int jumping;
    double jump;
    /* the newest that push told */
    uint64_t known_count;
    double known_s;
    double known_sample_s;
    _Atomic uint64_t starved;
    _Atomic uint64_t recentred;
    _Atomic double fill;
    _Atomic double read_from;
    _Atomic double ratio;
    _Atomic double drift_ppm;
    _Atomic int running;

    _Alignas(RVCD_LINE) _Atomic float ring[RING_SAMPLES];
};

static double bessel_i0(double x)
{
    double sum = 1.0, term = 1.0;
    for (int k = 1; k < 60; k++) {
        term *= (x / (2.0 * k)) * (x / (2.0 * k));
        sum += term;
    }
    return sum;
}

static uint32_t taps_for(double nominal_ratio)
{
    const double wanted = TAPS * fmax(1.0, ceil(nominal_ratio));
    return wanted > MOST_TAPS ? MOST_TAPS : (uint32_t)wanted;
}

/* Each row sums up to 1, so that a steady level passes through all of them alike. */
static void fill_table(rvcd_drift *drift)
{
    const double cutoff = CUTOFF / fmax(1.0, drift->nominal_ratio); /* cycles per source sample */
    const double scale = bessel_i0(KAISER_BETA);
    for (uint32_t row = 0; row <= PHASES; row++) {
        double weights[MOST_TAPS];
        double sum = 0.0;
        for (uint32_t k = 0; k < drift->taps; k++) {
            const double x = (double)k - (double)drift->half + 1.0 - (double)row / PHASES;
            const double edge = x / (double)drift->half;
            const double window = fabs(edge) < 1.0 ? bessel_i0(KAISER_BETA * sqrt(1.0 - edge * edge)) / scale : 0.0;
            const double angle = 2.0 * PI * cutoff * x;
            weights[k] = window * (fabs(x) < 1e-12 ? 1.0 : sin(angle) / angle);
            sum += weights[k];
        }
        for (uint32_t k = 0; k < drift->taps; k++)
            drift->table[(size_t)row * drift->taps + k] = (float)(weights[k] / sum);
    }
}

uint32_t rvcd_drift_reach(double source_rate_hz, double rate_hz)
{
    return taps_for(source_rate_hz / rate_hz) / 2;
}

rvcd_drift *rvcd_drift_new(double source_rate_hz, double rate_hz, double fill_samples)
{
    if (!(source_rate_hz > 0.0) || !(rate_hz > 0.0) || source_rate_hz / rate_hz > MOST_TAPS / TAPS ||
        !(fill_samples >= rvcd_drift_reach(source_rate_hz, rate_hz)) || !(fill_samples < RING_SAMPLES / 4))
        return NULL;
    rvcd_drift *drift = aligned_alloc(RVCD_LINE, sizeof *drift);
    if (drift == NULL)
        return NULL;
    memset(drift, 0, sizeof *drift); /* touched: no page fault later */
    drift->nominal_ratio = source_rate_hz / rate_hz;
    drift->source_rate_hz = source_rate_hz;
    drift->wanted_fill = fill_samples;
    drift->taps = taps_for(drift->nominal_ratio);
    drift->half = drift->taps / 2;
    drift->fade_step = (float)(1.0 / (FADE_S * rate_hz));
    drift->source_clock.nominal_s = 1.0 / source_rate_hz;
    drift->output_clock.nominal_s = 1.0 / rate_hz;
    drift->origin_ns = rvcd_now_ns();
    atomic_store(&drift->ratio, drift->nominal_ratio);
    drift->table = malloc((size_t)(PHASES + 1) * drift->taps * sizeof(float));
    if (drift->table == NULL) {
        free(drift);
        return NULL;
    }
    fill_table(drift);
    return drift;
}

void rvcd_drift_free(rvcd_drift *drift)
{
    if (drift != NULL)
        free(drift->table);
    free(drift);
}

/* ---- capture ---- */

void rvcd_drift_push(rvcd_drift *drift, const float *samples, uint64_t count, uint64_t now_ns)
{
    const uint64_t written = LOAD(drift->written);
    for (uint64_t i = 0; i < count; i++)
        STORE(drift->ring[(written + i) & RING_MASK], samples[i]);
    atomic_store_explicit(&drift->written, written + count, memory_order_release);

    const double called_s = clock_called(&drift->source_clock, count, drift->origin_ns, now_ns);
    const uint64_t sequence = LOAD(drift->sequence);
    STORE(drift->sequence, sequence + 1);
    atomic_thread_fence(memory_order_release);
    STORE(drift->timed_count, written + count);
    STORE(drift->timed_s, called_s);
    STORE(drift->timed_sample_s, drift->source_clock.sample_s);
    STORE(drift->timed, called_s - drift->source_clock.first_s > WARM_S);
    atomic_store_explicit(&drift->sequence, sequence + 2, memory_order_release);
}

/* ---- output ---- */

/* Take over what push told last; a push that is just writing is asked at the next pull again. Returns 0 before WARM_S. */
static int look_at_source(rvcd_drift *drift)
{
    for (int attempt = 0; attempt < 3; attempt++) {
        const uint64_t before = atomic_load_explicit(&drift->sequence, memory_order_acquire);
        const uint64_t count = LOAD(drift->timed_count);
        const double time_s = LOAD(drift->timed_s), sample_s = LOAD(drift->timed_sample_s);
        const int timed = LOAD(drift->timed);
        atomic_thread_fence(memory_order_acquire);
        if ((before & 1) == 0 && LOAD(drift->sequence) == before) {
            if (!timed)
                return 0;
            drift->known_count = count;
            drift->known_s = time_s;
            drift->known_sample_s = sample_s;
            return 1;
        }
    }
    return drift->known_count != 0;
}

static void move(rvcd_drift *drift, double samples)
{
    const double at = drift->fraction + samples;
    const double whole = floor(at);
    const int64_t position = (int64_t)drift->position + (int64_t)whole;
    drift->position = position > 0 ? (uint64_t)position : 0;
    drift->fraction = at - whole;
}

static float resampled(const rvcd_drift *drift)
{
    const double phase = drift->fraction * PHASES;
    const uint32_t row = phase < PHASES ? (uint32_t)phase : PHASES - 1;
    const float between = (float)(phase - row);
    const float *low = drift->table + (size_t)row * drift->taps, *high = low + drift->taps;
    const uint64_t first = drift->position + 1 - drift->half;
    float near_sum = 0.0f, far_sum = 0.0f;
    for (uint32_t k = 0; k < drift->taps; k++) {
        const float sample = LOAD(drift->ring[(first + k) & RING_MASK]);
        near_sum += sample * low[k];
        far_sum += sample * high[k];
    }
    return near_sum + between * (far_sum - near_sum);
}

/* The wanted step of this period, from the fill at its begin. */
static void steer(rvcd_drift *drift, double error_s, double period_s)
{
    const double hz = fmax(LOOP_LAST_HZ, LOOP_FIRST_HZ / (1.0 + drift->running_s / LOOP_NARROWS_S));
    const double omega = 2.0 * PI * hz;
    drift->running_s += period_s;
    drift->integral += omega * omega * error_s * period_s;
    drift->integral = fmin(fmax(drift->integral, -MOST_CORRECTION), MOST_CORRECTION);
    const double correction = drift->integral + 2.0 * LOOP_DAMPING * omega * error_s;
    drift->correction = fmin(fmax(correction, -MOST_CORRECTION), MOST_CORRECTION);
}

void rvcd_drift_pull(rvcd_drift *drift, float *out, uint64_t count, uint64_t now_ns)
{
    const double now_s = clock_called(&drift->output_clock, drift->pulled_before, drift->origin_ns, now_ns);
    const double period_s = (double)count * drift->output_clock.sample_s;
    drift->pulled_before = count;
    if (!look_at_source(drift)) {
        memset(out, 0, count * sizeof(float));
        return;
    }
    /* How far the source has come now, and how far behind it reading is. */
    const double ahead = (now_s - drift->known_s) / drift->known_sample_s;
    if (!drift->reading) {
        drift->reading = 1;
        drift->position = drift->known_count;
        drift->fraction = 0.0;
        move(drift, ahead - drift->wanted_fill);
        STORE(drift->running, 1);
    }
    const double read_from = (double)drift->position + drift->fraction;
    const double fill = (double)((int64_t)(drift->known_count - drift->position)) - drift->fraction + ahead;
    const double error_s = (fill - drift->wanted_fill) / drift->source_rate_hz;
    drift->wrong_s = fabs(error_s) > SNAP_S ? drift->wrong_s + period_s : 0.0;
    if (!drift->jumping && (drift->wrong_s > SNAP_AFTER_S || fill > RING_SAMPLES / 2)) {
        drift->jumping = 1;
        drift->wrong_s = 0.0;
    }
    drift->jump = fill - drift->wanted_fill;
    if (drift->wrong_s == 0.0 && !drift->jumping && !drift->starving)
        steer(drift, error_s, period_s);
    else
        drift->correction = drift->integral; /* a fill that will be leapt over says nothing about the speed */
    const double ratio = drift->nominal_ratio * (1.0 + drift->correction);

    const uint64_t written = atomic_load_explicit(&drift->written, memory_order_acquire);
    const uint64_t fade_samples = (uint64_t)(1.0f / drift->fade_step);
    for (uint64_t i = 0; i < count; i++) {
        const int64_t left = (int64_t)(written - drift->position) - (int64_t)drift->half; /* > 0: all taps are there */
        const int there = left > 0 && drift->position + 1 >= drift->half;
        if (there)
            drift->held = resampled(drift);
        /* Missing at the end of this period? Then begin to fall early enough, as far as this period reaches. */
        const double short_of = (double)(count - i) * ratio - (double)left;
        const int falls = !there || drift->jumping || (short_of > 0.0 && (double)left < (double)fade_samples * ratio);
        if (!there && !drift->starving) {
            drift->starving = 1;
            rvcd_add(&drift->starved, 1);
        }
        drift->envelope = falls ? fmaxf(0.0f, drift->envelope - drift->fade_step)
                                : fminf(1.0f, drift->envelope + drift->fade_step);
        out[i] = drift->held * drift->envelope * drift->envelope * (3.0f - 2.0f * drift->envelope);
        move(drift, ratio);
        if (drift->jumping && drift->envelope <= 0.0f) {
            drift->jumping = 0;
            move(drift, drift->jump);
            rvcd_add(&drift->recentred, 1);
        }
        if (there && !falls)
            drift->starving = 0;
    }
    STORE(drift->fill, fill);
    STORE(drift->read_from, read_from);
    STORE(drift->ratio, ratio);
    STORE(drift->drift_ppm, 1e6 * drift->integral);
}

void rvcd_drift_read(rvcd_drift *drift, rvcd_drift_figures *out)
{
    out->starved = LOAD(drift->starved);
    out->recentred = LOAD(drift->recentred);
    out->fill_samples = LOAD(drift->fill);
    out->read_from = LOAD(drift->read_from);
    out->ratio = LOAD(drift->ratio);
    out->drift_ppm = LOAD(drift->drift_ppm);
    out->running = LOAD(drift->running);
}

/* ---- two streams of PortAudio ---- */

struct rvcd_pair {
    rvcd_context *context;
    rvcd_drift *drift;
    uint32_t capture_channels;
    uint64_t first_ns;   /* of output */
    uint64_t bad_told;   /* of output */
    uint64_t xruns_told; /* of output */
    float pulled[PAIR_FRAMES];
    _Alignas(RVCD_LINE) float mono[PAIR_FRAMES]; /* from here on: of capture */
    _Atomic uint64_t capture_ns; /* of the last call; 0 before the first */
    _Atomic uint64_t bad;
    _Atomic uint64_t xruns;
};

rvcd_pair *rvcd_pair_new(rvcd_context *context, uint32_t capture_channels)
{
    rvcd_pair *pair = aligned_alloc(RVCD_LINE, sizeof *pair);
    if (pair == NULL)
        return NULL;
    memset(pair, 0, sizeof *pair);
    pair->context = context;
    pair->capture_channels = capture_channels;
    return pair;
}

void rvcd_pair_set_drift(rvcd_pair *pair, rvcd_drift *drift)
{
    pair->drift = drift;
}

void rvcd_pair_free(rvcd_pair *pair)
{
    free(pair);
}

static void take_mono(rvcd_pair *pair, const float *input, uint64_t count)
{
    const uint32_t channels = pair->capture_channels, chosen = LOAD(pair->context->segment->input_channel);
    const int one = chosen >= 1 && chosen <= channels;
    for (uint64_t i = 0; i < count; i++) {
        double sum = 0.0;
        for (uint32_t c = one ? chosen - 1 : 0; c < (one ? chosen : channels); c++) {
            const float sample = input[i * channels + c];
            if (isfinite(sample))
                sum += sample;
            else
                rvcd_add(&pair->bad, 1);
        }
        pair->mono[i] = (float)(one ? sum : sum / channels);
    }
}

int rvcd_pa_capture(const void *input, void *output, unsigned long frames, const void *time_info,
                    unsigned long status_flags, void *user_data)
{
    rvcd_pair *pair = user_data;
    const uint64_t now_ns = rvcd_now_ns();
    (void)output;
    (void)time_info;
    if (status_flags & 3) /* input underflow, overflow */
        rvcd_add(&pair->xruns, 1);
    for (uint64_t done = 0; input != NULL && done < frames;) {
        const uint64_t count = frames - done < PAIR_FRAMES ? frames - done : PAIR_FRAMES;
        take_mono(pair, (const float *)input + done * pair->capture_channels, count);
        rvcd_drift_push(pair->drift, pair->mono, count, now_ns);
        done += count;
    }
    STORE(pair->capture_ns, now_ns);
    return 0;
}

/* The master: this thread's callbacks are the device's. It ends when the capture side has died, so that both are opened anew. */
int rvcd_pa_output(const void *input, void *output, unsigned long frames, const void *time_info,
                   unsigned long status_flags, void *user_data)
{
    rvcd_pair *pair = user_data;
    const uint64_t now_ns = rvcd_now_ns();
    const uint64_t xruns = LOAD(pair->xruns);
    const uint64_t capture_ns = LOAD(pair->capture_ns);
    int result = 0;
    (void)input;
    (void)time_info;
    if (pair->first_ns == 0)
        pair->first_ns = now_ns;
    const uint64_t heard_ns = capture_ns > pair->first_ns ? capture_ns : pair->first_ns;
    if (now_ns > heard_ns && now_ns - heard_ns > CAPTURE_SILENT_NS) {
        if (output != NULL)
            memset(output, 0, (size_t)frames * pair->context->out_channels * sizeof(float));
        return 2; /* abort */
    }
    if (xruns != pair->xruns_told)
        status_flags |= 2;
    pair->xruns_told = xruns;
    for (uint64_t done = 0; done < frames;) {
        const uint64_t count = frames - done < PAIR_FRAMES ? frames - done : PAIR_FRAMES;
        float *to = output == NULL ? NULL : (float *)output + done * pair->context->out_channels;
        rvcd_drift_pull(pair->drift, pair->pulled, count, now_ns);
        result = rvcd_process(pair->context, pair->pulled, to, count, done == 0 ? status_flags : 0);
        done += count;
    }
    const uint64_t bad = LOAD(pair->bad);
    if (result == 0 && bad != pair->bad_told)
        rvcd_add(&pair->context->segment->bad_input_samples, bad - pair->bad_told);
    pair->bad_told = bad;
    return result;
}
