/* The kernels of plane.h, written once for vectors of LANES floats. Included by a file for each set of instructions, which
 * defines LANES, ROWS (of the register tile), MAXIMUM, WIDEN and KERNELS. No include guard: it is a template.
 */
#include <string.h>

#include "conv.h"
#include "plane.h"

#define PANEL (2 * LANES)
#define INLINE static inline __attribute__((always_inline))
#define AHEAD (4096 / PANEL) /* rows of PANEL weights that are asked for before they are wanted: memory takes that long */

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE vec load(const float *p) { return *(const vec *)p; }
INLINE void store(float *p, vec v) { *(vec *)p = v; }
INLINE vec spread(float value) { return value - (vec){0}; }

/* Weights: rows of PANEL, as floats or as halves. */

INLINE vec weight_at(const void *weights, int64_t at, int halves) {
    return halves ? (vec)WIDEN((const uint16_t *)weights + at) : load((const float *)weights + at);
}

INLINE void ask_for(const void *weights, int64_t at, int halves) {
    if (halves)
        __builtin_prefetch((const uint16_t *)weights + at);
    else
        __builtin_prefetch((const float *)weights + at);
}

/* sums[row] of PANEL channels, for `rows` positions beside each other: over the taps of times, and over depth, which is the
 * taps of bands and the channels in one, because they lie in one piece. vectors: 1 where only the panel's first half exists, as
 * in the first level, which would be multiplied with zeros for half of its time.
 */
INLINE void product_of(int rows, int halves, int vectors, int64_t taps, int64_t tap_pitch, int64_t depth, const float *x,
                       int64_t x_step, const void *weights, float *sums) {
    vec sum[ROWS][2];
    int64_t at = 0;
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
        sum[r][0] = sum[r][1] = (vec){0};
    for (int64_t tap = 0; tap < taps; tap++, x += tap_pitch) {
        for (int64_t k = 0; k < depth; k++, at += PANEL) {
            ask_for(weights, at + AHEAD * PANEL, halves);
            vec w0 = weight_at(weights, at, halves), w1 = vectors == 2 ? weight_at(weights, at + LANES, halves) : w0;
#pragma GCC unroll 12
            for (int r = 0; r < rows; r++) {
                vec value = spread(x[r * x_step + k]);
                sum[r][0] += value * w0;
                if (vectors == 2)
                    sum[r][1] += value * w1;
            }
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        store(sums + r * PANEL, sum[r][0]);
        if (vectors == 2)
            store(sums + r * PANEL + LANES, sum[r][1]);
    }
}

typedef void product_function(int64_t taps, int64_t tap_pitch, int64_t depth, const float *x, int64_t x_step,
                              const void *weights, float *sums);

#define PRODUCT(rows, halves, vectors)                                                                                     \
    static __attribute__((noinline)) void product_##rows##_##halves##_##vectors(                                           \
        int64_t taps, int64_t tap_pitch, int64_t depth, const float *x, int64_t x_step, const void *weights, float *sums) { \
        product_of(rows, halves, vectors, taps, tap_pitch, depth, x, x_step, weights, sums);                               \
    }
#define PRODUCTS(rows) PRODUCT(rows, 0, 1) PRODUCT(rows, 1, 1) PRODUCT(rows, 0, 2) PRODUCT(rows, 1, 2)
PRODUCTS(1) PRODUCTS(2) PRODUCTS(3) PRODUCTS(4) PRODUCTS(5) PRODUCTS(6)
#if ROWS > 6
PRODUCTS(7) PRODUCTS(8) PRODUCTS(9) PRODUCTS(10) PRODUCTS(11) PRODUCTS(12)
#endif

/* By the rows less one, whether the weights are halves, and the vectors less one. */
#define NAMES(rows) {{product_##rows##_0_1, product_##rows##_0_2}, {product_##rows##_1_1, product_##rows##_1_2}}
static product_function *const products[ROWS][2][2] = {
    NAMES(1), NAMES(2), NAMES(3), NAMES(4), NAMES(5), NAMES(6),
#if ROWS > 6
    NAMES(7), NAMES(8), NAMES(9), NAMES(10), NAMES(11), NAMES(12),
#endif
};

/* One row of a panel: scale, bias, ReLU, residual. `channels` of it exist. */
INLINE void finish(const struct plane_plan *plan, int64_t panel, const float *sums, const float *residual, float *y) {
    int64_t channels = plan->channels_out - panel * PANEL;
    float odd[PANEL];
    for (int64_t lane = 0; lane < PANEL; lane += LANES) {
        int64_t c = panel * PANEL + lane, left = channels - lane < LANES ? channels - lane : LANES;
        if (left <= 0)
            return;
        vec v = load(sums + lane) * load(plan->scale + c) + load(plan->bias + c);
        if (plan->relu)
            v = MAXIMUM(v, (vec){0});
        if (left == LANES) {
            if (residual)
                v += load(residual + c);
            store(y + c, v);
            continue;
        }
        store(odd, v); /* the last channels of an odd number */
        for (int64_t i = 0; i < left; i++)
            y[c + i] = odd[i] + (residual ? residual[c + i] : 0.0f);
    }
}

static void convolve(const struct plane_plan *plan, const struct plane_call *call, struct plane_piece piece) {
    int64_t depth = (int64_t)plan->taps_bands * plan->channels_in, panel_size = plan->taps_times * depth * PANEL;
    float sums[ROWS * PANEL] __attribute__((aligned(64)));
    int whole = plan->channels_out - piece.panel * PANEL > LANES;
    for (int64_t t = piece.first; t < piece.first + piece.count; t++) {
        /* Rows of zeros give nothing: their weights are not even read. */
        int64_t first = call->first > t ? call->first - t : 0, end = call->first + call->rows - t;
        if (end > plan->taps_times)
            end = plan->taps_times;
        int64_t weights_at = piece.panel * panel_size + first * depth * PANEL;
        const void *weights = plan->halves ? (const void *)((const uint16_t *)plan->weights + weights_at)
                                           : (const void *)((const float *)plan->weights + weights_at);
        const float *x = call->x + (t + first) * call->x_pitch;
        int64_t groups = (call->bands + ROWS - 1) / ROWS;
        for (int64_t m = 0, now; m < call->bands; m += now, groups--) {
            now = (call->bands - m + groups - 1) / groups;
            products[now - 1][plan->halves][whole](end - first, call->x_pitch, depth, x + m * plan->channels_in,
                                                   plan->channels_in, weights, sums);
            for (int64_t r = 0; r < now; r++) {
                const float *residual = call->residual + t * call->residual_pitch + (m + r) * call->residual_step;
                finish(plan, piece.panel, sums + r * PANEL, call->residual ? residual : NULL,
                       call->y + t * call->y_pitch + (m + r) * call->y_step);
            }
        }
    }
}

/* One vector times a matrix: WIDE panels at a time, so that there are sums enough to hide how long each takes. */
#define WIDE 4

INLINE void recur_with(const struct gru_plan *plan, int halves, int direction, const float *state, float *sums) {
    int64_t width = plan->width, outputs = 3 * width;
    const void *weights = plan->weights[direction];
    const float *bias = plan->bias[direction];
    for (int64_t first = 0; first < outputs; first += WIDE * PANEL) {
        vec sum[2 * WIDE];
        int64_t panels = (outputs - first + PANEL - 1) / PANEL, at = first * width;
#pragma GCC unroll 8
        for (int i = 0; i < 2 * WIDE; i++)
            sum[i] = (vec){0};
        if (panels >= WIDE) {
            for (int64_t k = 0; k < width; k++) {
                vec value = spread(state[k]);
#pragma GCC unroll 8
                for (int i = 0; i < WIDE; i++) {
                    int64_t row = at + i * width * PANEL + k * PANEL;
                    sum[2 * i] += value * weight_at(weights, row, halves);
                    sum[2 * i + 1] += value * weight_at(weights, row + LANES, halves);
                }
            }
        } else {
            for (int64_t i = 0; i < panels; i++)
                for (int64_t k = 0; k < width; k++) {
                    int64_t row = at + i * width * PANEL + k * PANEL;
                    sum[2 * i] += state[k] * weight_at(weights, row, halves);
                    sum[2 * i + 1] += state[k] * weight_at(weights, row + LANES, halves);
                }
        }
        for (int64_t i = 0; i < 2 * WIDE && first + i * LANES < outputs; i++) {
            float made[LANES];
            int64_t c = first + i * LANES, left = outputs - c < LANES ? outputs - c : LANES;
            store(made, sum[i]);
            for (int64_t j = 0; j < left; j++)
                sums[c + j] = made[j] + bias[c + j];
        }
    }
}

static void recur(const struct gru_plan *plan, int direction, const float *state, float *sums) {
    if (plan->halves)
        recur_with(plan, 1, direction, state, sums);
    else
        recur_with(plan, 0, direction, state, sums);
}

const struct plane_kernels *KERNELS(void) {
    static const struct plane_kernels kernels = {PANEL, convolve, recur};
    return &kernels;
}
