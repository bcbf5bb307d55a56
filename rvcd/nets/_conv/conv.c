/* A call from its shape to its pieces: which kernels, how much each thread takes at a time, how much scratch. */
#include "conv.h"

#include <sched.h>
#include <stdatomic.h>

#include "tile_sizes.h"

#define ALIGNED_FLOATS 16          /* 64 bytes */
#define EVALUATED_BYTES (384 << 10) /* of a piece's evaluated tiles: they stay in the second cache, with the products */
#define DIRECT_BYTES (16 << 10)    /* of a piece's activated rows */
#define FEW_BYTES (256 << 10)      /* of rows that stay in the second cache beside the weights */
#define PIECES_A_THREAD 4
#define LEAST_ELEMENTS 4096        /* of a norm or a gate that are worth a piece: some microseconds */
#define LEAST_PRODUCTS (2 << 20)   /* that are worth a thread: some 50 us, where waking and waiting for one takes 5 to 10 */

#if defined(__x86_64__)
#define PAUSE() __builtin_ia32_pause()
#else
#define PAUSE() ((void)0)
#endif

static const struct conv_kernels *kernels_for(int instructions) {
#if defined(__x86_64__)
    return instructions == CONV_AVX512 ? conv_kernels_avx512() : conv_kernels_avx2();
#else
    (void)instructions;
    return NULL;
#endif
}

int conv_instructions(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return CONV_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return CONV_AVX2;
#endif
    return 0;
}

int conv_panel_width(int instructions) { return instructions == CONV_AVX512 ? 32 : 16; }

/* Phases: the positions t with the same t % dilation, one phase's tiles behind the other's. */

static int64_t phase_positions(const struct conv_plan *plan, int64_t count, int64_t phase) {
    return phase >= count ? 0 : (count - phase - 1) / plan->dilation + 1;
}

static int64_t phase_tiles(const struct conv_plan *plan, int64_t count, int64_t phase) {
    return (phase_positions(plan, count, phase) + plan->outputs - 1) / plan->outputs;
}

int64_t conv_tile_count(const struct conv_plan *plan, int64_t count) {
    int64_t tiles = 0;
    for (int64_t phase = 0; phase < plan->dilation; phase++)
        tiles += phase_tiles(plan, count, phase);
    return tiles;
}

struct conv_tile conv_tile_at(const struct conv_plan *plan, int64_t count, int64_t number) {
    int64_t phase = 0, tiles;
    while (number >= (tiles = phase_tiles(plan, count, phase))) {
        number -= tiles;
        phase++;
    }
    int64_t left = phase_positions(plan, count, phase) - number * plan->outputs;
    struct conv_tile tile = {phase + number * plan->outputs * plan->dilation, left < plan->outputs ? left : plan->outputs};
    return tile;
}

/* Pieces */

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static int64_t total_of(const struct conv_plan *plan, int64_t count) {
    return plan->outputs ? conv_tile_count(plan, count) : count;
}

static int64_t panels_of(const struct conv_plan *plan) {
    int64_t width = conv_panel_width(plan->instructions);
    return (plan->channels_out + width - 1) / width;
}

/* Few rows and many weights, as in a matrix product for one block: each thread reads a part of the weights for all rows. */
static int shares_panels(const struct conv_plan *plan, int64_t count) {
    int64_t row_bytes = (int64_t)sizeof(float) * plan->stride * plan->channels_in;
    return plan->outputs == 0 && count < plan->channels_out && count * row_bytes <= FEW_BYTES;
}

/* Tiles or positions of a piece. */
static int64_t piece_size(const struct conv_plan *plan, int64_t count, int threads) {
    int64_t total = total_of(plan, count), row_bytes = (int64_t)sizeof(float) * plan->stride * plan->channels_in;
    if (shares_panels(plan, count))
        return total;
    int64_t rows = kernels_for(plan->instructions)->rows;
    int64_t fitting = plan->outputs ? EVALUATED_BYTES / (row_bytes * conv_points(plan)) : DIRECT_BYTES / row_bytes;
    fitting = larger(fitting / rows * rows, rows);
    int64_t share = (total + threads - 1) / threads;
    int64_t pieces = (share + fitting - 1) / fitting;
    return larger((share + pieces - 1) / pieces, 1);
}

static int64_t piece_panels(const struct conv_plan *plan, int64_t count, int threads) {
    int64_t panels = panels_of(plan);
    return shares_panels(plan, count) && threads > 1 ? larger(panels / (PIECES_A_THREAD * threads), 1) : panels;
}

int64_t conv_point_stride(int64_t tiles, int64_t width) {
    /* Odd in cache lines: points at a power of two from each other would share few lines of the first cache. */
    return conv_round_up(tiles * width, 2 * ALIGNED_FLOATS) + ALIGNED_FLOATS;
}

static int64_t piece_scratch(const struct conv_plan *plan, int64_t size) {
    int64_t lanes = kernels_for(plan->instructions)->lanes, depth = conv_round_up(plan->channels_in, lanes);
    if (plan->outputs == 0)
        return conv_round_up(conv_rows_in(plan, size) * plan->channels_in, ALIGNED_FLOATS);
    int64_t points = conv_points(plan), tile = conv_round_up(points * depth, ALIGNED_FLOATS);
    return tile + points * (conv_point_stride(size, depth) + conv_point_stride(size, 2 * lanes));
}

int64_t conv_scratch(const struct conv_plan *plan, int64_t count, int threads) {
    return threads * piece_scratch(plan, piece_size(plan, count, threads));
}

/* The call */

static int64_t parts(int64_t whole, int64_t part) { return (whole + part - 1) / part; }

struct pieces {
    int64_t total, size;            /* of tiles or positions */
    int64_t panels, panels_a_piece;
};

static struct pieces pieces_of(const struct conv_plan *plan, int64_t count, int threads) {
    struct pieces pieces = {total_of(plan, count), piece_size(plan, count, threads), panels_of(plan),
                            piece_panels(plan, count, threads)};
    return pieces;
}

static struct conv_piece piece_at(const struct pieces *pieces, int64_t number) {
    int64_t columns = parts(pieces->panels, pieces->panels_a_piece);
    int64_t first = number / columns * pieces->size, panel = number % columns * pieces->panels_a_piece;
    struct conv_piece piece = {first, smaller(pieces->size, pieces->total - first),
                               panel, smaller(pieces->panels_a_piece, pieces->panels - panel)};
    return piece;
}

static int64_t piece_count(const struct pieces *pieces) {
    return parts(pieces->total, pieces->size) * parts(pieces->panels, pieces->panels_a_piece);
}

static int64_t products_of(const struct conv_plan *plan, int64_t count) {
    int64_t multiplied = plan->outputs ? conv_points(plan) : plan->kernel;
    return total_of(plan, count) * plan->channels_in * plan->channels_out * multiplied;
}

int conv_has_tile(int outputs, int kernel) {
#define IS_SIZE(size_outputs, size_kernel) \
    if (outputs == size_outputs && kernel == size_kernel) \
        return 1;
    TILE_SIZES(IS_SIZE)
    return 0;
}

/* Steps */

#define LINE 64
#define SPINS 30000                 /* about a millisecond, as long as a piece may take; then another thread may want the core */

struct prepared {
    const struct conv_step *step;
    struct conv_call call;
    struct pieces pieces;
    int64_t count;                  /* of pieces */
    int64_t rows;                   /* of a piece that is not of a convolution */
    _Alignas(LINE) atomic_llong next;
    _Alignas(LINE) atomic_llong done;
};

struct steps {
    struct prepared *prepared;
    int count;
    const struct conv_kernels *kernels;
    float *scratch;
    int64_t scratch_a_thread;
    atomic_llong next_thread;
};

static int64_t step_scratch(const struct conv_step *step, int threads) {
    if (step->kind == STEP_CONV)
        return piece_scratch(step->plan, piece_size(step->plan, step->count, threads));
    return step->kind == STEP_ATTEND ? conv_round_up(ATTEND_ROWS * (int64_t)step->keys, ALIGNED_FLOATS) : 0;
}

static int64_t scratch_of(const struct conv_step *steps, int count, int threads) {
    int64_t most = 0;
    for (int i = 0; i < count; i++)
        most = larger(most, step_scratch(steps + i, threads));
    return most;
}

int64_t conv_steps_scratch(const struct conv_step *steps, int count, int threads) {
    return threads * scratch_of(steps, count, threads);
}

static void prepare(struct prepared *made, const struct conv_step *step, int threads) {
    made->step = step;
    atomic_init(&made->next, 0);
    atomic_init(&made->done, 0);
    if (step->kind == STEP_CONV) {
        struct conv_call call = {
            .x = (const float *)step->x, .y = (float *)step->y, .residual = (const float *)step->residual, .count = step->count,
            .slope_in = step->slope_in, .slope_out = step->slope_out, .scale = step->scale, .accumulate = step->accumulate,
            .gelu = step->gelu,
        };
        made->call = call;
        made->pieces = pieces_of(step->plan, step->count, threads);
        made->count = piece_count(&made->pieces);
    } else if (step->kind == STEP_ATTEND) {
        made->rows = smaller(step->count, ATTEND_ROWS);
        made->count = step->heads * parts(step->count, made->rows);
    } else {
        made->rows = larger(parts(step->count, PIECES_A_THREAD * threads), LEAST_ELEMENTS / larger(step->width, 1) + 1);
        made->count = parts(step->count, made->rows);
    }
}

static void compute(const struct conv_kernels *kernels, const struct prepared *prepared, int64_t number, float *scratch) {
    const struct conv_step *step = prepared->step;
    if (step->kind == STEP_CONV) {
        (step->plan->outputs ? kernels->tiles : kernels->direct)(step->plan, &prepared->call, piece_at(&prepared->pieces, number), scratch);
        return;
    }
    int64_t groups = parts(step->count, prepared->rows), first = number % groups * prepared->rows;
    int64_t rows = smaller(prepared->rows, step->count - first);
    if (step->kind == STEP_ATTEND)
        kernels->attend(step, number / groups, first, rows, scratch);
    else
        (step->kind == STEP_NORM ? kernels->norm : kernels->gate)(step, first, rows);
}

static void wait_for(atomic_llong *done, int64_t count) {
    for (int spins = 0; atomic_load_explicit(done, memory_order_acquire) < count; spins++) {
        if (spins < SPINS)
            PAUSE();
        else
            sched_yield();
    }
}

/* A thread takes the next piece when it is done with one: one that others keep from its core takes fewer, or none. */
static void take_pieces(void *argument) {
    struct steps *steps = argument;
    float *scratch = steps->scratch + steps->scratch_a_thread * atomic_fetch_add(&steps->next_thread, 1);
    for (int i = 0, waited = 0; i < steps->count; i++) {
        struct prepared *prepared = steps->prepared + i;
        int64_t number, taken = 0;
        for (; (number = atomic_fetch_add(&prepared->next, 1)) < prepared->count; taken++)
            compute(steps->kernels, prepared, number, scratch);
        if (taken > 0)
            atomic_fetch_add_explicit(&prepared->done, taken, memory_order_release);
        if (i + 1 < steps->count && !prepared->step->together)
            for (; waited <= i; waited++)
                wait_for(&steps->prepared[waited].done, steps->prepared[waited].count);
    }
}

void conv_run_steps(const struct conv_step *steps, int count, int threads, uintptr_t scratch) {
    struct prepared prepared[MOST_STEPS];
    int64_t products = 0, pieces = 0;
    int instructions = 0;
    for (int i = 0; i < count && i < MOST_STEPS; i++) {
        prepare(prepared + i, steps + i, threads);
        pieces += prepared[i].count;
        if (steps[i].kind == STEP_CONV) {
            products += products_of(steps[i].plan, steps[i].count);
            instructions = instructions ? instructions : steps[i].plan->instructions;
        }
    }
    struct steps shared = {
        .prepared = prepared, .count = count < MOST_STEPS ? count : MOST_STEPS, .kernels = kernels_for(instructions),
        .scratch = (float *)scratch, .scratch_a_thread = scratch_of(steps, count, threads),
    };
    int64_t worth = larger(products / LEAST_PRODUCTS, 1);
    conv_on_threads(take_pieces, &shared, (int)smaller(smaller(threads, worth), pieces));
}

void conv_run(const struct conv_plan *plan, uintptr_t x, uintptr_t y, uintptr_t residual, int64_t count, float slope_in,
              float slope_out, float scale, int accumulate, int threads, uintptr_t scratch) {
    struct conv_step step = {
        .kind = STEP_CONV, .plan = plan, .x = x, .y = y, .residual = residual, .count = count,
        .slope_in = slope_in, .slope_out = slope_out, .scale = scale, .accumulate = accumulate,
    };
    conv_run_steps(&step, 1, threads, scratch);
}
