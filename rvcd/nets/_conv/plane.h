/* Convolution over planes (times x bands), and recurrent layers: what RMVPE is made of, in float32.
 *
 * A plane is rows of positions, of channels each, x[time][band][channel], within a border of one position of zeros. Weights may
 * be IEEE half floats, which are widened as they are read: a network of which each weight is used for few positions is as fast
 * as memory brings them, and published weights are halves to begin with.
 */
#ifndef RVCD_PLANE_H
#define RVCD_PLANE_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */

/* One convolution of stride 1, prepared. Owns nothing: Python keeps what the pointers point to. */
struct plane_plan {
    int32_t instructions;   /* CONV_AVX2 or CONV_AVX512 */
    int32_t channels_in, channels_out;
    int32_t taps_times, taps_bands;
    int32_t halves;         /* 1: the weights are half floats */
    int32_t relu;           /* 1: what is below 0 becomes 0, ahead of the residual */
    const void *weights;    /* [panel][tap of times][tap of bands][channels_in][panel width], zeros beyond channels_out */
    const float *scale;     /* [panels * panel width]; the sum is multiplied with it */
    const float *bias;      /* [panels * panel width], added behind */
};

/* Whether half floats can be widened (F16C or AVX-512). */
int plane_has_halves(void);

/* y[t][m] = relu(scale * sum over taps of x[t + tap of times][m + tap of bands] + bias) + residual[t][m].
 *
 * Pitches are floats from a time to the next, steps those from a band to the next; those of x from a band to the next are
 * channels_in. first, rows: which of x's rows are not the border's: the others are known to be zeros, and are not read.
 */
void plane_run(const struct plane_plan *plan, uintptr_t x, int64_t x_pitch, int64_t first, int64_t rows, uintptr_t y,
               int64_t y_pitch, int64_t y_step, uintptr_t residual, int64_t residual_pitch, int64_t residual_step,
               int64_t times, int64_t bands, int threads);

/* y[t][m] = the mean of x[2 t .. 2 t + 1][2 m .. 2 m + 1]; channels a multiple of 8 or few. */
void plane_halve(uintptr_t x, int64_t x_pitch, int64_t x_step, uintptr_t y, int64_t y_pitch, int64_t y_step, int64_t times,
                 int64_t bands, int64_t channels);

/* The recurrent part of a bidirectional GRU layer, gates in torch's order: reset, update, new. */
struct gru_plan {
    int32_t instructions;
    int32_t width;          /* a multiple of 8 */
    int32_t halves;
    const void *weights[2]; /* forward and backward: [panel][width][panel width], of 3 * width outputs */
    const float *bias[2];   /* [3 * width] */
};

/* Floats of scratch that a call needs. */
int64_t gru_scratch(const struct gru_plan *plan);
/* inputs[time][direction][3 * width]: what the layer's input gives to its gates, biases included. y[time][direction][width]. */
void gru_run(const struct gru_plan *plan, uintptr_t inputs, uintptr_t y, int64_t times, int threads, uintptr_t scratch);

/* cffi: end */

struct plane_call {
    const float *x, *residual;
    float *y;
    int64_t x_pitch, first, rows, y_pitch, y_step, residual_pitch, residual_step, bands;
};

/* What one thread computes at a time: some times of one panel. */
struct plane_piece {
    int64_t panel, first, count;
};

struct plane_kernels {
    int panel;
    void (*convolve)(const struct plane_plan *, const struct plane_call *, struct plane_piece);
    /* sums[outputs] = bias + state[width] times the weights of one direction. */
    void (*recur)(const struct gru_plan *, int direction, const float *state, float *sums);
};

const struct plane_kernels *plane_kernels_avx2(void);
const struct plane_kernels *plane_kernels_avx512(void);

#endif
