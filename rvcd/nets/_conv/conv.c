/* A call from its shape to its pieces: which kernels, how much each thread takes at a time, how much scratch. */
#include "conv.h"

#include <stdatomic.h>

#include "tile_sizes.h"

#define ALIGNED_FLOATS 16          /* 64 bytes */
#define EVALUATED_BYTES (384 << 10) /* of a piece's evaluated tiles: they stay in the second cache, with the products */
#define DIRECT_BYTES (16 << 10)    /* of a piece's activated rows */
#define FEW_BYTES (256 << 10)      /* of rows that stay in the second cache beside the weights */
#define PIECES_A_THREAD 4
#define LEAST_PRODUCTS (2 << 20)   /* that are worth a thread: some 50 us, where waking and waiting for one takes 5 to 10 */

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

struct shared {
    const struct conv_plan *plan;
    const struct conv_call *call;
    void (*kernel)(const struct conv_plan *, const struct conv_call *, struct conv_piece, float *);
    int64_t total, size;            /* of tiles or positions */
    int64_t panels, panels_a_piece;
    int64_t scratch;
    atomic_llong next_piece, next_thread;
};

static int64_t parts(int64_t whole, int64_t part) { return (whole + part - 1) / part; }

static struct conv_piece piece_at(const struct shared *shared, int64_t number) {
    int64_t columns = parts(shared->panels, shared->panels_a_piece);
    int64_t first = number / columns * shared->size, panel = number % columns * shared->panels_a_piece;
    struct conv_piece piece = {first, smaller(shared->size, shared->total - first),
                               panel, smaller(shared->panels_a_piece, shared->panels - panel)};
    return piece;
}

static int64_t piece_count(const struct shared *shared) {
    return parts(shared->total, shared->size) * parts(shared->panels, shared->panels_a_piece);
}

/* A thread takes the next piece when it is done with one: one that others keep from its core takes fewer. */
static void take_pieces(void *argument) {
    struct shared *shared = argument;
    float *scratch = shared->call->scratch + shared->scratch * atomic_fetch_add(&shared->next_thread, 1);
    int64_t pieces = piece_count(shared), number;
    while ((number = atomic_fetch_add(&shared->next_piece, 1)) < pieces)
        shared->kernel(shared->plan, shared->call, piece_at(shared, number), scratch);
}

static void run(const struct conv_plan *plan, const struct conv_call *call) {
    const struct conv_kernels *kernels = kernels_for(plan->instructions);
    int64_t size = piece_size(plan, call->count, call->threads);
    struct shared shared = {
        .plan = plan, .call = call, .kernel = plan->outputs ? kernels->tiles : kernels->direct,
        .total = total_of(plan, call->count), .size = size,
        .panels = panels_of(plan), .panels_a_piece = piece_panels(plan, call->count, call->threads),
        .scratch = piece_scratch(plan, size),
    };
    int64_t products = shared.total * plan->channels_in * plan->channels_out * (plan->outputs ? conv_points(plan) : plan->kernel);
    int64_t worth = larger(products / LEAST_PRODUCTS, 1);
    conv_on_threads(take_pieces, &shared, (int)smaller(smaller(call->threads, worth), piece_count(&shared)));
}

void conv_run(const struct conv_plan *plan, uintptr_t x, uintptr_t y, uintptr_t residual, int64_t count, float slope_in,
              float slope_out, float scale, int accumulate, int threads, uintptr_t scratch) {
    struct conv_call call = {
        .x = (const float *)x, .y = (float *)y, .residual = (const float *)residual, .count = count,
        .slope_in = slope_in, .slope_out = slope_out, .scale = scale, .accumulate = accumulate,
        .threads = threads, .scratch = (float *)scratch,
    };
    run(plan, &call);
}

int conv_has_tile(int outputs, int kernel) {
#define IS_SIZE(size_outputs, size_kernel) \
    if (outputs == size_outputs && kernel == size_kernel) \
        return 1;
    TILE_SIZES(IS_SIZE)
    return 0;
}
