/* Every kernel on buffers of the exact size, with odd shapes, for valgrind and sanitizers, which a whole Python is too much for:
 *
 *   cd rvcd/nets/_conv && gcc -O1 -g -std=gnu11 -I. -o /tmp/kernels ../../../tools/exercise_kernels.c conv.c threads.c \
 *       kernels_avx2.c kernels_avx512.c -ldl -lm && valgrind --error-exitcode=1 /tmp/kernels
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "conv.h"
static void *room(size_t bytes) { void *p; if (posix_memalign(&p, 64, bytes ? bytes : 64)) abort(); return p; }
static float *floats(int64_t n) { float *p = room((size_t)n * 4); for (int64_t i = 0; i < n; i++) p[i] = (float)(rand() % 2001 - 1000) / 1000.0f; return p; }
int main(void) {
    int isa = CONV_AVX2, width = conv_panel_width(isa);
    static const int kernels[] = {1, 3, 7, 11, 2, 5}, tiles[6][4] = {{0}, {0, 4, 6, 8}, {0, 4, 6, 8}, {0, 4, 5, 6}, {0}, {0}};
    double sum = 0;
    for (int round = 0; round < 120; round++) {
        int which = round % 6, kernel = kernels[which], outputs = tiles[which][rand() % 4], narrow = !outputs && rand() % 2;
        int in = 1 + rand() % 40, out = 1 + rand() % 40, dilation = 1 + rand() % 3, stride = outputs ? 1 : 1 + rand() % 2, threads = 1 + rand() % 2;
        int64_t count = 1 + rand() % 30, points = outputs ? outputs + kernel - 1 : kernel, depth = outputs ? (in + 7) / 8 * 8 : in, panels = (out + width - 1) / width;
        float *weights = narrow ? NULL : floats(panels * points * depth * width), *bias = floats(panels * width), *unit = floats(panels * width);
        int16_t *small = NULL;
        if (narrow) { int64_t n = panels * points * depth * width; small = room((size_t)n * 2); for (int64_t i = 0; i < n; i++) small[i] = (int16_t)(rand() % 65535 - 32767); }
        float *evaluate = floats(points * points), *combine = floats(points * (outputs ? outputs : 1));
        struct conv_plan plan = {isa, in, out, kernel, dilation, stride, outputs, weights, small, unit, bias, evaluate, combine};
        int64_t rows = (count - 1) * stride + (int64_t)dilation * (kernel - 1) + 1;
        float *x = floats(rows * in), *y = floats(count * out), *residual = floats(count * out), *normed = floats(count * out), *gamma = floats(out), *beta = floats(out);
        int heads = 1 + rand() % 3, head = 1 + rand() % 20, keys = (int)count + rand() % 20, window = rand() % 2 ? 3 : -1, gated = 1 + rand() % 30;
        float *seen = floats((int64_t)keys * 3 * heads * head), *attended = floats(count * heads * head), *near = floats(7 * head), *near_v = floats(7 * head);
        float *both = floats(count * 2 * gated), *opened = floats(count * gated), *added = floats(2 * gated);
        struct conv_step steps[4] = {
            {.kind = STEP_CONV, .plan = &plan, .x = (uintptr_t)x, .y = (uintptr_t)y, .residual = rand() % 2 ? (uintptr_t)residual : 0, .count = count,
             .slope_in = rand() % 2 ? 1.0f : 0.1f, .slope_out = 0.1f, .scale = 0.5f, .accumulate = rand() % 2, .gelu = rand() % 2, .together = rand() % 2},
            {.kind = STEP_ATTEND, .x = (uintptr_t)(seen + (keys - count) * 3 * heads * head), .y = (uintptr_t)attended, .count = count, .heads = heads, .keys = keys, .window = window,
             .width = head, .x_stride = 3 * heads * head, .scale = 0.3f, .first = (uintptr_t)(seen + heads * head), .second = (uintptr_t)(seen + 2 * heads * head),
             .near_keys = window < 0 ? 0 : (uintptr_t)near, .near_values = window < 0 ? 0 : (uintptr_t)near_v},
            {.kind = STEP_GATE, .x = (uintptr_t)both, .y = (uintptr_t)opened, .count = count, .width = gated, .first = (uintptr_t)added},
            {.kind = STEP_NORM, .x = (uintptr_t)y, .y = (uintptr_t)normed, .count = count, .width = out, .first = (uintptr_t)gamma, .second = (uintptr_t)beta, .epsilon = 1e-5f},
        };
        float *scratch = room((size_t)conv_steps_scratch(steps, 4, threads) * 4);
        conv_run_steps(steps, 4, threads, (uintptr_t)scratch);
        for (int64_t i = 0; i < count * out; i++) sum += normed[i] > 0; /* whoever reads what was not written is found */
        for (int64_t i = 0; i < count * heads * head; i++) sum += attended[i] > 0;
        for (int64_t i = 0; i < count * gated; i++) sum += opened[i] > 0;
        void *all[] = {weights, bias, unit, small, evaluate, combine, x, y, residual, normed, gamma, beta, seen, attended, near, near_v, both, opened, added, scratch};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    }
    printf("done %g\n", sum);
    return 0;
}
