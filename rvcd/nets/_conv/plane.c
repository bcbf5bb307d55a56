/* A call over planes from its shape to its pieces, and the steps of a recurrent layer. */
#include "plane.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "conv.h"

#define PIECES_A_THREAD 4
#define LEAST_PRODUCTS (1 << 20) /* that are worth a thread: waking and waiting for one takes 5 to 10 us */
#define CACHE_LINE_FLOATS 16

static const struct plane_kernels *kernels_for(int instructions) {
#if defined(__x86_64__)
    return instructions == CONV_AVX512 ? plane_kernels_avx512() : plane_kernels_avx2();
#else
    (void)instructions;
    return NULL;
#endif
}

int plane_has_halves(void) {
#if defined(__x86_64__)
    unsigned a, b, c, d;
    __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(1), "c"(0));
    return c >> 29 & 1; /* F16C */
#else
    return 0;
#endif
}

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t parts(int64_t whole, int64_t part) { return (whole + part - 1) / part; }

/* Convolution */

struct shared {
    const struct plane_plan *plan;
    const struct plane_call *call;
    void (*convolve)(const struct plane_plan *, const struct plane_call *, struct plane_piece);
    int64_t panels, times, times_a_piece;
    atomic_llong next_piece;
};

/* Consecutive pieces share a panel's weights. */
static void take_pieces(void *argument) {
    struct shared *shared = argument;
    int64_t columns = parts(shared->times, shared->times_a_piece), number;
    while ((number = atomic_fetch_add(&shared->next_piece, 1)) < shared->panels * columns) {
        int64_t first = number % columns * shared->times_a_piece;
        struct plane_piece piece = {number / columns, first, smaller(shared->times_a_piece, shared->times - first)};
        shared->convolve(shared->plan, shared->call, piece);
    }
}

void plane_run(const struct plane_plan *plan, uintptr_t x, int64_t x_pitch, int64_t first, int64_t rows, uintptr_t y,
               int64_t y_pitch, int64_t y_step, uintptr_t residual, int64_t residual_pitch, int64_t residual_step,
               int64_t times, int64_t bands, int threads) {
    const struct plane_kernels *kernels = kernels_for(plan->instructions);
    struct plane_call call = {
        .x = (const float *)x, .residual = (const float *)residual, .y = (float *)y, .x_pitch = x_pitch, .first = first,
        .rows = rows, .y_pitch = y_pitch, .y_step = y_step, .residual_pitch = residual_pitch,
        .residual_step = residual_step, .bands = bands,
    };
    struct shared shared = {.plan = plan, .call = &call, .convolve = kernels->convolve,
                            .panels = parts(plan->channels_out, kernels->panel), .times = times};
    int64_t products = times * bands * plan->taps_times * plan->taps_bands * plan->channels_in * plan->channels_out;
    threads = (int)smaller(threads, larger(products / LEAST_PRODUCTS, 1));
    int64_t columns = threads > 1 ? smaller(parts((int64_t)PIECES_A_THREAD * threads, shared.panels), times) : 1;
    shared.times_a_piece = parts(times, columns);
    conv_on_threads(take_pieces, &shared, threads);
}

void plane_halve(uintptr_t x_at, int64_t x_pitch, int64_t x_step, uintptr_t y_at, int64_t y_pitch, int64_t y_step,
                 int64_t times, int64_t bands, int64_t channels) {
    const float *x = (const float *)x_at;
    float *y = (float *)y_at;
    for (int64_t t = 0; t < times; t++)
        for (int64_t m = 0; m < bands; m++) {
            const float *restrict a = x + 2 * t * x_pitch + 2 * m * x_step, *restrict b = a + x_pitch;
            float *restrict to = y + t * y_pitch + m * y_step;
            for (int64_t c = 0; c < channels; c++)
                to[c] = 0.25f * ((a[c] + a[x_step + c]) + (b[c] + b[x_step + c]));
        }
}

/* GRU */

struct directions {
    const struct gru_plan *plan;
    const float *inputs;
    float *y, *scratch;
    int64_t times;
    atomic_int next;
};

static int64_t direction_scratch(const struct gru_plan *plan) { return 4 * (int64_t)plan->width + CACHE_LINE_FLOATS; }

int64_t gru_scratch(const struct gru_plan *plan) { return 2 * direction_scratch(plan); }

static float logistic(float v) { return 1.0f / (1.0f + expf(-v)); }

static void run_direction(const struct directions *all, int direction) {
    const struct gru_plan *plan = all->plan;
    int64_t width = plan->width;
    float *state = all->scratch + direction * direction_scratch(plan), *sums = state + width;
    memset(state, 0, sizeof(float) * (size_t)width);
    for (int64_t i = 0; i < all->times; i++) {
        int64_t t = direction ? all->times - 1 - i : i;
        const float *in = all->inputs + (2 * t + direction) * 3 * width;
        kernels_for(plan->instructions)->recur(plan, direction, state, sums);
        for (int64_t k = 0; k < width; k++) {
            float reset = logistic(in[k] + sums[k]), update = logistic(in[width + k] + sums[width + k]);
            float fresh = tanhf(in[2 * width + k] + reset * sums[2 * width + k]);
            state[k] = fresh + update * (state[k] - fresh);
        }
        memcpy(all->y + (2 * t + direction) * width, state, sizeof(float) * (size_t)width);
    }
}

static void take_directions(void *argument) {
    struct directions *all = argument;
    int direction;
    while ((direction = atomic_fetch_add(&all->next, 1)) < 2)
        run_direction(all, direction);
}

void gru_run(const struct gru_plan *plan, uintptr_t inputs, uintptr_t y, int64_t times, int threads, uintptr_t scratch) {
    struct directions all = {.plan = plan, .inputs = (const float *)inputs, .y = (float *)y, .scratch = (float *)scratch,
                             .times = times};
    conv_on_threads(take_directions, &all, (int)smaller(threads, 2));
}
