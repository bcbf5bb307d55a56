/* A call from its shape to its pieces: which kernels, how much each thread takes at a time, how much scratch. */
#include "conv.h"

#include <stdatomic.h>

#include "tile_sizes.h"

#define ALIGNED_FLOATS 16          /* 64 bytes */
#define EVALUATED_BYTES (384 << 10) /* of a piece's evaluated tiles: they stay in the second cache, with the products */
#define DIRECT_BYTES (16 << 10)    /* of a piece's activated rows */

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

static int64_t piece_size(const struct conv_plan *plan, int64_t total, int threads) {
    int64_t row_bytes = (int64_t)sizeof(float) * plan->channels_in;
    int64_t rows = kernels_for(plan->instructions)->rows;
    int64_t fitting = plan->outputs ? EVALUATED_BYTES / (row_bytes * conv_points(plan)) : DIRECT_BYTES / row_bytes;
    fitting = larger(fitting / rows * rows, rows);
    int64_t share = (total + threads - 1) / threads;
    int64_t pieces = (share + fitting - 1) / fitting;
    return larger((share + pieces - 1) / pieces, 1);
}

int64_t conv_point_stride(int64_t tiles, int64_t width) {
    /* Odd in cache lines: points at a power of two from each other would share few lines of the first cache. */
    return conv_round_up(tiles * width, 2 * ALIGNED_FLOATS) + ALIGNED_FLOATS;
}

static int64_t piece_scratch(const struct conv_plan *plan, int64_t size) {
    int64_t lanes = kernels_for(plan->instructions)->lanes, depth = conv_round_up(plan->channels_in, lanes);
    if (plan->outputs == 0)
        return conv_round_up((size + (int64_t)plan->dilation * (plan->kernel - 1)) * plan->channels_in, ALIGNED_FLOATS);
    int64_t points = conv_points(plan), tile = conv_round_up(points * depth, ALIGNED_FLOATS);
    return tile + points * (conv_point_stride(size, depth) + conv_point_stride(size, 2 * lanes));
}

int64_t conv_scratch(const struct conv_plan *plan, int64_t count, int threads) {
    int64_t size = piece_size(plan, total_of(plan, count), threads);
    return threads * piece_scratch(plan, size);
}

/* The call */

struct shared {
    const struct conv_plan *plan;
    const struct conv_call *call;
    void (*kernel)(const struct conv_plan *, const struct conv_call *, struct conv_piece, float *);
    int64_t total, size, scratch;
    atomic_llong next_piece, next_thread;
};

/* A thread takes the next piece when it is done with one: one that others keep from its core takes fewer. */
static void take_pieces(void *argument) {
    struct shared *shared = argument;
    float *scratch = shared->call->scratch + shared->scratch * atomic_fetch_add(&shared->next_thread, 1);
    for (;;) {
        int64_t first = shared->size * atomic_fetch_add(&shared->next_piece, 1);
        if (first >= shared->total)
            return;
        struct conv_piece piece = {first, smaller(shared->size, shared->total - first)};
        shared->kernel(shared->plan, shared->call, piece, scratch);
    }
}

void conv_run(const struct conv_plan *plan, const struct conv_call *call) {
    const struct conv_kernels *kernels = kernels_for(plan->instructions);
    int64_t total = total_of(plan, call->count), size = piece_size(plan, total, call->threads);
    struct shared shared = {plan, call, plan->outputs ? kernels->tiles : kernels->direct,
                            total, size, piece_scratch(plan, size), 0, 0};
    conv_on_threads(take_pieces, &shared, (int)smaller(call->threads, (total + size - 1) / size));
}

int conv_has_tile(int outputs, int kernel) {
#define IS_SIZE(size_outputs, size_kernel) \
    if (outputs == size_outputs && kernel == size_kernel) \
        return 1;
    TILE_SIZES(IS_SIZE)
    return 0;
}
