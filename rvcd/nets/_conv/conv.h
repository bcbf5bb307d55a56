/* Streaming convolution in one dimension, float32: what Python, the kernels of each processor and the threads share.
 *
 * Data are rows of channels, one row a position: x[position][channel]. Output position t is the sum over k of
 * x[t * stride + k * dilation] times the weights of tap k. Two ways to compute it:
 * - direct: every tap is multiplied;
 * - minimal filtering (Winograd 1980; Toom, Cook): `outputs` positions that lie `dilation` apart are a tile. A tile is
 *   evaluated at outputs + kernel - 1 points, multiplied there with weights evaluated alike, and interpolated.
 */
#ifndef RVCD_CONV_H
#define RVCD_CONV_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */

enum { CONV_AVX2 = 1, CONV_AVX512 = 2 };

/* One convolution, prepared. Owns nothing: Python keeps what the pointers point to. */
struct conv_plan {
    int32_t instructions;   /* CONV_AVX2 or CONV_AVX512 */
    int32_t channels_in, channels_out, kernel, dilation;
    int32_t stride;         /* 1 unless direct */
    int32_t outputs;        /* of a tile; 0: direct */
    const float *weights;   /* [panel][point or tap][channels_in][panel width], 64-byte aligned, zeros beyond channels_out */
    const int16_t *narrow;  /* in place of weights when direct: the same as whole numbers; NULL: none */
    const float *unit;      /* [panels * panel width]: what a weight of 1 stands for, 1 but for narrow ones */
    const float *bias;      /* [panels * panel width] */
    const float *evaluate;  /* [points][points]: what a tile's inputs are multiplied with; NULL when direct */
    const float *combine;   /* [points][outputs]: what makes outputs of the points' products */
};

/* Which instructions this processor has: CONV_AVX512, CONV_AVX2, or 0 for neither. */
int conv_instructions(void);
/* Output channels that are computed together. */
int conv_panel_width(int instructions);
/* Whether tiles of so many outputs can be computed for a kernel. */
int conv_has_tile(int outputs, int kernel);
/* Take the threads of the OpenMP that a loaded library uses; without it, calls run on the caller's thread. Returns 1 if found. */
int conv_use_threads_of(const char *library);
/* Floats of scratch that a call needs. */
int64_t conv_scratch(const struct conv_plan *plan, int64_t count, int threads);
/* y = scale * (leaky(conv(leaky(x))) + residual + y where it accumulates); see struct conv_call. Addresses are whole numbers,
 * because that is what a tensor gives, and Python makes thousands of calls a second.
 */
void conv_run(const struct conv_plan *plan, uintptr_t x, uintptr_t y, uintptr_t residual, int64_t count, float slope_in,
              float slope_out, float scale, int accumulate, int threads, uintptr_t scratch);


/* Layers as a list of steps that one call computes: every thread goes through the list, takes pieces of the step it is at, and goes
 * on when all pieces of that step are done. So a layer's threads are woken once, and none waits for one that is late.
 */
enum { STEP_CONV = 0, STEP_NORM = 1, STEP_ATTEND = 2, STEP_GATE = 3 };
enum { MOST_STEPS = 32 };

struct conv_step {
    int32_t kind;
    int32_t together;               /* 1: the next step does not need this one, and begins without waiting for it */
    int32_t accumulate, gelu;       /* conv: y is added to; GELU in the place of the leaky ReLU of slope_out */
    int32_t heads, keys, window;    /* attend; window -1: no distances */
    const struct conv_plan *plan;   /* conv */
    uintptr_t x, y, residual;       /* rows; residual may be 0 */
    int64_t count;                  /* of rows that come out */
    int64_t width;                  /* norm: channels; attend: of a head; gate: of what comes out */
    int64_t x_stride;               /* attend: floats from one row of queries, keys or values to the next */
    float slope_in, slope_out, scale, epsilon;
    uintptr_t first, second;        /* norm: gamma, beta. attend: keys, values. gate: what is added to x; 0: nothing */
    uintptr_t near_keys, near_values; /* attend: [2 * window + 1][width], what is added by distance */
};

/* Floats of scratch that a call needs. */
int64_t conv_steps_scratch(const struct conv_step *steps, int count, int threads);
/* conv: as conv_run. norm: y = (x + residual) over its channels, normed, times first, plus second. attend: each row of queries
 * sees all rows of keys, of which the last `count` lie where the queries do; scale times products of queries, softmax, values.
 * gate: y = tanh of the first half of x times sigmoid of the second. Instructions: those of the first plan in the list.
 */
void conv_run_steps(const struct conv_step *steps, int count, int threads, uintptr_t scratch);

/* cffi: end */

/* One call. A slope of 1 means: no activation. */
struct conv_call {
    const float *x;         /* [(count - 1) * stride + dilation * (kernel - 1) + 1][channels_in] */
    float *y;               /* [count][channels_out] */
    const float *residual;  /* [count][channels_out], added behind the activation; NULL: none */
    int64_t count;
    float slope_in;         /* of the leaky ReLU that x goes through */
    float slope_out;        /* of the one that the sum goes through */
    float scale;            /* what comes out is multiplied with it */
    int32_t accumulate;     /* 1: added to what y holds, before it is scaled */
    int32_t gelu;           /* 1: the sum goes through GELU, not through a leaky ReLU */
};

/* The piece of a call that one thread computes at a time. */
struct conv_piece {
    int64_t first, count;               /* tiles, or positions when direct */
    int64_t first_panel, panels;
};

/* The kernels of one set of instructions. */
struct conv_kernels {
    int lanes, rows;        /* floats of a vector; rows of the register tile */
    void (*tiles)(const struct conv_plan *, const struct conv_call *, struct conv_piece, float *scratch);
    void (*direct)(const struct conv_plan *, const struct conv_call *, struct conv_piece, float *scratch);
    /* Rows first .. first + count of a step of another kind; those of attend of one head. */
    void (*norm)(const struct conv_step *, int64_t first, int64_t count);
    void (*gate)(const struct conv_step *, int64_t first, int64_t count);
    void (*attend)(const struct conv_step *, int64_t head, int64_t first, int64_t count, float *scratch);
};

const struct conv_kernels *conv_kernels_avx2(void);
const struct conv_kernels *conv_kernels_avx512(void);

/* Where a tile lies: its first output, of those that lie `dilation` apart. */
struct conv_tile {
    int64_t position;
    int64_t valid;          /* outputs that exist, <= outputs */
};

int64_t conv_tile_count(const struct conv_plan *plan, int64_t count);
struct conv_tile conv_tile_at(const struct conv_plan *plan, int64_t count, int64_t number);

#define ATTEND_ROWS 8      /* queries of a piece; its scratch holds their scores */

/* Sizes of scratch, in floats. */
int64_t conv_point_stride(int64_t tiles, int64_t width);
static inline int conv_points(const struct conv_plan *plan) { return plan->outputs + plan->kernel - 1; }
static inline int64_t conv_rows_in(const struct conv_plan *plan, int64_t count) {
    return (count - 1) * plan->stride + (int64_t)plan->dilation * (plan->kernel - 1) + 1;
}
static inline int64_t conv_round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

/* Runs work(argument) on up to `threads` threads, on each once, and returns when all are done. */
void conv_on_threads(void (*work)(void *), void *argument, int threads);

#endif
