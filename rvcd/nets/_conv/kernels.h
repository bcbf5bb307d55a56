/* The kernels, written once for vectors of LANES floats. Included by a file for each set of instructions, which defines
 * LANES, ROWS (of the register tile), MAXIMUM, MINIMUM, WIDEN (LANES numbers of 16 bits as floats) and KERNELS. No include guard:
 * it is a template.
 */
#include <string.h>

#include "conv.h"
#include "tile_sizes.h"

#define PANEL (2 * LANES)
#define INLINE static inline __attribute__((always_inline))
#define MOST_POINTS 18
#define AHEAD 64 /* rows of PANEL weights that are asked for before they are wanted */

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE vec load(const float *p) { return *(const vec *)p; }
INLINE void store(float *p, vec v) { *(vec *)p = v; }
INLINE vec spread(float value) { return value - (vec){0}; }
INLINE vec leaky(vec v, vec slope) { return MAXIMUM(v, v * slope); }

#include "functions.h"

/* Products */

#define DEPTH 64 /* products in one running sum: longer sums round more, which minimal filtering amplifies */

/* c[row] (+)= sum over taps and depth of a[row + tap] * b: `rows` rows of PANEL channels, all in registers.
 * b holds floats, or whole numbers of 16 bits where `wide` is 0.
 */
INLINE void product_of(int rows, int wide, int64_t taps, int64_t tap_stride, int64_t depth, const float *a, int64_t a_stride,
                       const void *weights, float *c, int add) {
    const float *b = weights;
    const int16_t *narrow = weights;
    vec sum[ROWS][2];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
        sum[r][0] = sum[r][1] = (vec){0};
    for (int64_t tap = 0; tap < taps; tap++, a += tap_stride) {
        for (int64_t k = 0; k < depth; k++, b += PANEL, narrow += PANEL) {
            /* Few rows are done with the weights before memory brings the next. */
            __builtin_prefetch(wide ? (const void *)(b + AHEAD * PANEL) : (const void *)(narrow + 2 * AHEAD * PANEL));
            vec b0 = wide ? load(b) : WIDEN(narrow), b1 = wide ? load(b + LANES) : WIDEN(narrow + LANES);
#pragma GCC unroll 12
            for (int r = 0; r < rows; r++) {
                vec value = spread(a[r * a_stride + k]);
                sum[r][0] += value * b0;
                sum[r][1] += value * b1;
            }
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++, c += PANEL) {
        if (add) {
            sum[r][0] += load(c);
            sum[r][1] += load(c + LANES);
        }
        store(c, sum[r][0]);
        store(c + LANES, sum[r][1]);
    }
}

typedef void product_function(int64_t taps, int64_t tap_stride, int64_t depth, const float *a, int64_t a_stride,
                              const void *weights, float *c, int add);

#define PRODUCT_OF(name, rows, wide)                                                                                   \
    static __attribute__((noinline)) void name(int64_t taps, int64_t tap_stride, int64_t depth, const float *a,        \
                                               int64_t a_stride, const void *weights, float *c, int add) {             \
        product_of(rows, wide, taps, tap_stride, depth, a, a_stride, weights, c, add);                                 \
    }
#define PRODUCT(rows) PRODUCT_OF(product_##rows, rows, 1) PRODUCT_OF(narrow_product_##rows, rows, 0)
PRODUCT(1) PRODUCT(2) PRODUCT(3) PRODUCT(4) PRODUCT(5) PRODUCT(6)
#if ROWS > 6
PRODUCT(7) PRODUCT(8) PRODUCT(9) PRODUCT(10) PRODUCT(11) PRODUCT(12)
#endif

/* By whether the weights are floats, and by the rows less one. */
static product_function *const products[2][ROWS] = {
    {narrow_product_1, narrow_product_2, narrow_product_3, narrow_product_4, narrow_product_5, narrow_product_6,
#if ROWS > 6
     narrow_product_7, narrow_product_8, narrow_product_9, narrow_product_10, narrow_product_11, narrow_product_12,
#endif
    },
    {product_1, product_2, product_3, product_4, product_5, product_6,
#if ROWS > 6
     product_7, product_8, product_9, product_10, product_11, product_12,
#endif
    },
};

/* Any number of rows, in groups as equal as can be: few rows use the registers badly. */
static void multiply(int64_t rows, int64_t depth, const float *a, const float *b, float *c) {
    for (int64_t groups = (rows + ROWS - 1) / ROWS; groups > 0; groups--) {
        int64_t now = (rows + groups - 1) / groups;
        for (int64_t k = 0; k < depth; k += DEPTH)
            products[1][now - 1](1, 0, depth - k < DEPTH ? depth - k : DEPTH, a + k, depth, b + k * PANEL, c, k > 0);
        a += now * depth;
        c += now * PANEL;
        rows -= now;
    }
}

/* What comes out */

struct finish {
    vec slope, scale;
    int accumulate, activated, gelu;
    int64_t channels;       /* of the panel that exist, >= PANEL for all */
};

INLINE vec finished(const struct finish *finish, vec sum, const float *residual, const float *y, int64_t offset) {
    if (finish->activated)
        sum = finish->gelu ? gelu(sum) : leaky(sum, finish->slope);
    if (residual)
        sum += load(residual + offset);
    if (finish->accumulate)
        sum += load(y + offset);
    return sum * finish->scale;
}

/* One vector of a row: `lane` is its first channel within the panel. */
INLINE void put(const struct finish *finish, vec sum, const float *residual, float *y, int64_t lane) {
    if (finish->channels >= lane + LANES) {
        store(y + lane, finished(finish, sum, residual, y, lane));
        return;
    }
    float old[2][LANES] = {{0}}, made[LANES]; /* the last channels of an odd number */
    int64_t left = finish->channels - lane;
    if (left <= 0)
        return;
    memcpy(old[0], y + lane, sizeof(float) * (size_t)left);
    if (residual)
        memcpy(old[1], residual + lane, sizeof(float) * (size_t)left);
    store(made, finished(finish, sum, residual ? old[1] : NULL, old[0], 0));
    memcpy(y + lane, made, sizeof(float) * (size_t)left);
}

static struct finish finish_of(const struct conv_plan *plan, const struct conv_call *call, int64_t panel) {
    struct finish finish = {spread(call->slope_out), spread(call->scale), call->accumulate, call->gelu || call->slope_out != 1.0f,
                            call->gelu, plan->channels_out - panel * PANEL};
    return finish;
}

/* Direct */

static const float *activated_rows(const struct conv_plan *plan, const struct conv_call *call, struct conv_piece piece,
                                   float *scratch) {
    const float *x = call->x + piece.first * plan->stride * plan->channels_in;
    int64_t total = conv_rows_in(plan, piece.count) * plan->channels_in, i = 0;
    if (call->slope_in == 1.0f)
        return x;
    vec slope = spread(call->slope_in);
    for (; i + LANES <= total; i += LANES)
        store(scratch + i, leaky(load(x + i), slope));
    for (; i < total; i++)
        scratch[i] = x[i] > 0 ? x[i] : x[i] * call->slope_in;
    return scratch;
}

static void direct(const struct conv_plan *plan, const struct conv_call *call, struct conv_piece piece, float *scratch) {
    const float *rows = activated_rows(plan, call, piece, scratch);
    int64_t in = plan->channels_in, out = plan->channels_out, step = plan->stride * in;
    float made[ROWS * PANEL] __attribute__((aligned(64)));
    for (int64_t panel = piece.first_panel; panel < piece.first_panel + piece.panels; panel++) {
        int64_t first_weight = panel * plan->kernel * in * PANEL;
        const void *weights = plan->narrow ? (const void *)(plan->narrow + first_weight) : (const void *)(plan->weights + first_weight);
        struct finish finish = finish_of(plan, call, panel);
        vec unit[2] = {load(plan->unit + panel * PANEL), load(plan->unit + panel * PANEL + LANES)};
        vec bias[2] = {load(plan->bias + panel * PANEL), load(plan->bias + panel * PANEL + LANES)};
        int64_t groups = (piece.count + ROWS - 1) / ROWS;
        for (int64_t t = 0, now; t < piece.count; t += now, groups--) {
            now = (piece.count - t + groups - 1) / groups;
            products[plan->narrow == NULL][now - 1](plan->kernel, plan->dilation * in, in, rows + t * step, step, weights, made, 0);
            for (int64_t r = 0; r < now; r++) {
                int64_t at = (piece.first + t + r) * out + panel * PANEL;
                const float *residual = call->residual ? call->residual + at : NULL;
                put(&finish, load(made + r * PANEL) * unit[0] + bias[0], residual, call->y + at, 0);
                put(&finish, load(made + r * PANEL + LANES) * unit[1] + bias[1], residual, call->y + at, LANES);
            }
        }
    }
}

/* Minimal filtering. Points come as: 0 (where their number is even), then pairs +p, -p, then infinity. */

/* The coefficients of one size of tiles, each in all lanes, in the order of their use: a multiplication reads them in place. */
struct coefficients {
    vec evaluate[MOST_POINTS * MOST_POINTS / 2], combine[MOST_POINTS * MOST_POINTS / 2];
};

/* Even rows of +p, then odd rows: those of -p are their difference. What is 0 for every pair is left out. */
INLINE int is_used(int points, int k) { return points % 2 == 0 ? k > 0 && k < points - 1 : k < points - 1; }

INLINE void spread_coefficients(int points, int outputs, const struct conv_plan *plan, struct coefficients *made) {
    const int zero = points % 2 == 0, pairs = (points - 1 - zero) / 2;
    vec *evaluate = made->evaluate, *combine = made->combine;
    for (int parity = 0; parity < 2; parity++)
        for (int k = parity; k < points; k += 2) {
            if (is_used(points, k))
                for (int p = 0; p < pairs; p++)
                    *evaluate++ = spread(plan->evaluate[(zero + 2 * p) * points + k]);
            if (zero && parity == 0)
                *evaluate++ = spread(plan->evaluate[k]);
            if ((points - 1) % 2 == parity)
                *evaluate++ = spread(plan->evaluate[(points - 1) * points + k]);
        }
    for (int p = 0; p < pairs; p++)
        for (int j = 1; j < outputs; j++)
            *combine++ = spread(plan->combine[(zero + 2 * p) * outputs + j]);
}

/* One tile, one vector of channels: input[k * step] -> evaluated[point * stride]. */
INLINE void evaluate_vector(int points, const vec *matrix, const float *input, int64_t step, int activated, vec slope,
                            float *evaluated, int64_t stride) {
    const int zero = points % 2 == 0, pairs = (points - 1 - zero) / 2;
    vec half[2][MOST_POINTS / 2], at_zero = {0}, at_infinity = {0};
#pragma GCC unroll 2
    for (int parity = 0; parity < 2; parity++) {
#pragma GCC unroll 9
        for (int p = 0; p < pairs; p++)
            half[parity][p] = (vec){0};
#pragma GCC unroll 9
        for (int k = parity; k < points; k += 2) {
            vec v = load(input + k * step);
            if (activated)
                v = leaky(v, slope);
            if (is_used(points, k)) {
#pragma GCC unroll 9
                for (int p = 0; p < pairs; p++)
                    half[parity][p] += v * *matrix++;
            }
            if (zero && parity == 0)
                at_zero += v * *matrix++;
            if ((points - 1) % 2 == parity)
                at_infinity += v * *matrix++;
        }
    }
    if (zero)
        store(evaluated, at_zero);
#pragma GCC unroll 9
    for (int p = 0; p < pairs; p++) {
        store(evaluated + (zero + 2 * p) * stride, half[0][p] + half[1][p]);
        store(evaluated + (zero + 2 * p + 1) * stride, half[0][p] - half[1][p]);
    }
    store(evaluated + (points - 1) * stride, at_infinity);
}

/* Products at the points, [point * stride] -> the tile's outputs. */
INLINE void combine_vector(int points, int outputs, const vec *matrix, const float *made, int64_t stride, vec bias, vec *y) {
    const int zero = points % 2 == 0, pairs = (points - 1 - zero) / 2;
#pragma GCC unroll 9
    for (int j = 0; j < outputs; j++)
        y[j] = bias;
    if (zero)
        y[0] += load(made);
    y[outputs - 1] += load(made + (points - 1) * stride);
#pragma GCC unroll 9
    for (int p = 0; p < pairs; p++) {
        vec plus = load(made + (zero + 2 * p) * stride), minus = load(made + (zero + 2 * p + 1) * stride);
        vec sum = plus + minus, difference = plus - minus;
        y[0] += sum;
#pragma GCC unroll 9
        for (int j = 1; j < outputs; j++)
            y[j] += (j % 2 ? difference : sum) * *matrix++;
    }
}

/* A tile's inputs with zeros beyond the end, and beyond the last channel: [point][depth]. */
static void gather(const struct conv_plan *plan, const struct conv_call *call, int64_t position, int64_t depth, float *rows) {
    int64_t in = plan->channels_in, end = call->count + (int64_t)plan->dilation * (plan->kernel - 1);
    for (int64_t k = 0; k < conv_points(plan); k++, position += plan->dilation) {
        int64_t known = position < end ? in : 0;
        if (known)
            memcpy(rows + k * depth, call->x + position * in, sizeof(float) * (size_t)known);
        memset(rows + k * depth + known, 0, sizeof(float) * (size_t)(depth - known));
    }
}

INLINE void evaluate_tile(int points, const struct conv_plan *plan, const struct conv_call *call,
                          const struct coefficients *coefficients, struct conv_tile tile, int64_t depth, float *gathered, float *evaluated, int64_t stride) {
    const float *rows = call->x + tile.position * plan->channels_in;
    int64_t step = (int64_t)plan->dilation * plan->channels_in;
    if (tile.valid < plan->outputs || depth != plan->channels_in) {
        gather(plan, call, tile.position, depth, gathered);
        rows = gathered;
        step = depth;
    }
    vec slope = spread(call->slope_in);
    if (call->slope_in != 1.0f)
        for (int64_t c = 0; c < depth; c += LANES)
            evaluate_vector(points, coefficients->evaluate, rows + c, step, 1, slope, evaluated + c, stride);
    else
        for (int64_t c = 0; c < depth; c += LANES)
            evaluate_vector(points, coefficients->evaluate, rows + c, step, 0, slope, evaluated + c, stride);
}

INLINE void combine_tile(int points, int outputs, const struct conv_plan *plan, const struct conv_call *call,
                         const struct coefficients *coefficients, const struct finish *finish, struct conv_tile tile,
                         int64_t panel, const float *made, int64_t stride) {
    for (int64_t lane = 0; lane < PANEL; lane += LANES) {
        vec y[MOST_POINTS];
        combine_vector(points, outputs, coefficients->combine, made + lane, stride, load(plan->bias + panel * PANEL + lane), y);
        int64_t row = (int64_t)plan->dilation * plan->channels_out, at = tile.position * plan->channels_out + panel * PANEL;
        if (tile.valid == outputs && finish->channels >= PANEL) {
            float *to = call->y + at + lane;
            const float *residual = call->residual ? call->residual + at + lane : NULL;
#pragma GCC unroll 9
            for (int j = 0; j < outputs; j++)
                store(to + j * row, finished(finish, y[j], residual, to, j * row));
            continue;
        }
#pragma GCC unroll 9
        for (int j = 0; j < outputs; j++)
            if (j < tile.valid)
                put(finish, y[j], call->residual ? call->residual + at + j * row : NULL, call->y + at + j * row, lane);
    }
}

/* A piece's tiles: evaluate them; then, panel by panel, multiply at every point and combine while the products are near. */
INLINE void tiles_of(int outputs, int kernel, const struct conv_plan *plan, const struct conv_call *call,
                     struct conv_piece piece, float *scratch) {
    const int points = outputs + kernel - 1;
    struct coefficients coefficients;
    spread_coefficients(points, outputs, plan, &coefficients);
    int64_t depth = conv_round_up(plan->channels_in, LANES);
    int64_t stride = conv_point_stride(piece.count, depth), made_stride = conv_point_stride(piece.count, PANEL);
    float *gathered = scratch, *evaluated = gathered + conv_round_up(points * depth, 16), *made = evaluated + points * stride;
    for (int64_t i = 0; i < piece.count; i++)
        evaluate_tile(points, plan, call, &coefficients, conv_tile_at(plan, call->count, piece.first + i), depth, gathered,
                      evaluated + i * depth, stride);
    for (int64_t panel = piece.first_panel; panel < piece.first_panel + piece.panels; panel++) {
        const float *weights = plan->weights + panel * points * depth * PANEL;
        for (int point = 0; point < points; point++, weights += depth * PANEL)
            multiply(piece.count, depth, evaluated + point * stride, weights, made + point * made_stride);
        struct finish finish = finish_of(plan, call, panel);
        for (int64_t i = 0; i < piece.count; i++)
            combine_tile(points, outputs, plan, call, &coefficients, &finish, conv_tile_at(plan, call->count, piece.first + i), panel,
                         made + i * PANEL, made_stride);
    }
}

#define TILES_OF(outputs, kernel)                                                                                       \
    static __attribute__((noinline)) void tiles_##outputs##_##kernel(const struct conv_plan *plan,                      \
                                                                     const struct conv_call *call,                      \
                                                                     struct conv_piece piece, float *scratch) {         \
        tiles_of(outputs, kernel, plan, call, piece, scratch);                                                          \
    }
TILE_SIZES(TILES_OF)

#define CASE_OF(size_outputs, size_kernel)                             \
    if (plan->outputs == size_outputs && plan->kernel == size_kernel)  \
        tiles_##size_outputs##_##size_kernel(plan, call, piece, scratch);

static void tiles(const struct conv_plan *plan, const struct conv_call *call, struct conv_piece piece, float *scratch) {
    TILE_SIZES(CASE_OF)
}

#include "rows.h"

const struct conv_kernels *KERNELS(void) {
    static const struct conv_kernels kernels = {LANES, ROWS, tiles, direct, norm, gate, attend};
    return &kernels;
}
