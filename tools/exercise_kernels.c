/* Every kernel on buffers of the exact size, with odd shapes, for valgrind and sanitizers, which a whole Python is too much for.
 *
 *   cd rvcd/nets/_conv && C="gcc -g -std=gnu11 -ffp-contract=fast -I. ../../../tools/exercise_kernels.c *.c -ldl -lm"
 *   $C -O1 -o /tmp/kernels && valgrind --error-exitcode=1 /tmp/kernels
 *   $C -O2 -fsanitize=address,undefined -fno-sanitize-recover=all -o /tmp/kernels && /tmp/kernels
 *   $C -O2 -fsanitize=address,undefined -fno-sanitize-recover=all -Wl,--no-as-needed -lgomp -o /tmp/kernels && /tmp/kernels
 *
 * It runs the kernels of each set of instructions that the processor has, or that valgrind says it has (no AVX-512); an argument
 * says how many rounds. With -lgomp calls run on up to three threads.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conv.h"
#include "plane.h"

#define ROUNDS 240
#define MOST_KEPT 64

static void *kept[MOST_KEPT];
static int kept_count;
static double sum; /* of what came out: whoever reads what was not written is found */

static int any(int least, int most) { return least + rand() % (most - least + 1); }
static int maybe(void) { return rand() % 2; }

/* Buffers of this size to the byte, until the round ends. */
static void *room(size_t bytes) {
    void *p;
    if (kept_count == MOST_KEPT || posix_memalign(&p, 64, bytes ? bytes : 1))
        abort();
    return kept[kept_count++] = p;
}

static void end_round(void) {
    while (kept_count)
        free(kept[--kept_count]);
}

static float *floats(int64_t n) {
    float *p = room((size_t)n * sizeof *p);
    for (int64_t i = 0; i < n; i++)
        p[i] = (float)any(-1000, 1000) / 1000.0f;
    return p;
}

/* Where results go: not written yet. */
static float *unwritten(int64_t n) { return room((size_t)n * sizeof(float)); }

static int16_t *whole_numbers(int64_t n) {
    int16_t *p = room((size_t)n * sizeof *p);
    for (int64_t i = 0; i < n; i++)
        p[i] = (int16_t)any(-32767, 32767);
    return p;
}

static uint16_t *halves(int64_t n) {
    uint16_t *p = room((size_t)n * sizeof *p);
    for (int64_t i = 0; i < n; i++)
        p[i] = (uint16_t)(maybe() << 15 | any(0, 0x3c00)); /* -1..1, and numbers too small for a full mantissa */
    return p;
}

static void read_all(const float *p, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        sum += p[i] > 0;
}

static int64_t parts(int64_t whole, int64_t part) { return (whole + part - 1) / part; }

/* Steps over rows */

static struct conv_plan *random_plan(int instructions) {
    static const int kernels[] = {1, 2, 3, 5, 7, 11}, most = 16;
    struct conv_plan *plan = room(sizeof *plan);
    int kernel = kernels[any(0, 5)], outputs = any(0, most);
    while (outputs && !conv_has_tile(outputs, kernel))
        outputs--;
    int64_t width = conv_panel_width(instructions), in = any(1, 70), out = any(1, 70), panels = parts(out, width);
    int64_t points = outputs ? outputs + kernel - 1 : kernel, depth = outputs ? parts(in, width / 2) * (width / 2) : in;
    int narrow = !outputs && maybe();
    struct conv_plan made = {
        .instructions = instructions, .channels_in = (int)in, .channels_out = (int)out, .kernel = kernel, .dilation = any(1, 5),
        .stride = outputs ? 1 : any(1, 3), .outputs = outputs,
        .weights = narrow ? NULL : floats(panels * points * depth * width),
        .narrow = narrow ? whole_numbers(panels * points * depth * width) : NULL,
        .unit = floats(panels * width), .bias = floats(panels * width),
        .evaluate = outputs ? floats(points * points) : NULL, .combine = outputs ? floats(points * outputs) : NULL,
    };
    *plan = made;
    return plan;
}

static struct conv_step random_conv(int instructions) {
    const struct conv_plan *plan = random_plan(instructions);
    int64_t count = any(1, maybe() ? 40 : 400), out = plan->channels_out;
    int accumulate = maybe();
    struct conv_step step = {
        .kind = STEP_CONV, .plan = plan, .count = count, .accumulate = accumulate, .gelu = maybe(), .together = maybe(),
        .x = (uintptr_t)floats(conv_rows_in(plan, count) * plan->channels_in),
        .residual = maybe() ? (uintptr_t)floats(count * out) : 0,
        .y = (uintptr_t)(accumulate ? floats(count * out) : unwritten(count * out)),
        .slope_in = maybe() ? 1.0f : 0.1f, .slope_out = maybe() ? 1.0f : 0.1f, .scale = 0.5f,
    };
    return step;
}

static struct conv_step random_attend(void) {
    int heads = any(1, 3), count = any(1, 30), keys = count + any(0, 40), window = maybe() ? any(1, 10) : -1;
    int64_t width = any(1, 70), stride = 3 * heads * width;
    float *rows = floats(keys * stride);
    struct conv_step step = {
        .kind = STEP_ATTEND, .count = count, .heads = heads, .keys = keys, .window = window, .width = width, .x_stride = stride,
        .x = (uintptr_t)(rows + (keys - count) * stride), .y = (uintptr_t)unwritten(count * heads * width), .scale = 0.3f,
        .first = (uintptr_t)(rows + heads * width), .second = (uintptr_t)(rows + 2 * heads * width),
        .near_keys = window < 0 ? 0 : (uintptr_t)floats((2 * window + 1) * width),
        .near_values = window < 0 ? 0 : (uintptr_t)floats((2 * window + 1) * width),
    };
    return step;
}

static void exercise_steps(int instructions, int threads) {
    struct conv_step conv = random_conv(instructions), attend = random_attend();
    int64_t out = conv.plan->channels_out, gated = any(1, 70), opened = any(1, 50);
    struct conv_step norm = {
        .kind = STEP_NORM, .x = conv.y, .y = (uintptr_t)unwritten(conv.count * out), .count = conv.count, .width = out,
        .residual = maybe() ? (uintptr_t)floats(conv.count * out) : 0, .first = (uintptr_t)floats(out), .second = (uintptr_t)floats(out), .epsilon = 1e-5f,
    };
    struct conv_step gate = {
        .kind = STEP_GATE, .x = (uintptr_t)floats(opened * 2 * gated), .y = (uintptr_t)unwritten(opened * gated), .count = opened,
        .width = gated, .first = maybe() ? (uintptr_t)floats(2 * gated) : 0,
    };
    struct conv_step steps[] = {conv, attend, gate, norm};
    if (conv.together) /* the norm needs what the convolution gives, and waits behind the gate */
        steps[1].together = maybe();
    float *scratch = unwritten(conv_steps_scratch(steps, 4, threads));
    conv_run_steps(steps, 4, threads, (uintptr_t)scratch);
    read_all((const float *)conv.y, conv.count * out);
    read_all((const float *)norm.y, norm.count * out);
    read_all((const float *)attend.y, attend.count * attend.heads * attend.width);
    read_all((const float *)gate.y, opened * gated);
}

/* One call of its own, as the decoder makes them. */
static void exercise_conv(int instructions, int threads) {
    struct conv_step step = random_conv(instructions);
    float *scratch = unwritten(conv_scratch(step.plan, step.count, threads));
    conv_run(step.plan, step.x, step.y, step.residual, step.count, step.slope_in, step.slope_out, step.scale,
             step.accumulate, threads, (uintptr_t)scratch);
    read_all((const float *)step.y, step.count * step.plan->channels_out);
}

/* Planes */

/* Within a border of zeros; what is not known yet is not written. */
static float *plane(int64_t times, int64_t bands, int64_t channels, int known) {
    int64_t row = (bands + 2) * channels, total = (times + 2) * row;
    float *p = known ? floats(total) : unwritten(total);
    memset(p, 0, (size_t)row * sizeof *p);
    memset(p + (times + 1) * row, 0, (size_t)row * sizeof *p);
    for (int64_t t = 1; t <= times; t++) {
        memset(p + t * row, 0, (size_t)channels * sizeof *p);
        memset(p + t * row + (bands + 1) * channels, 0, (size_t)channels * sizeof *p);
    }
    return p;
}

/* x (times, bands, in) -> every position, or each phase of twice as many, of some channels of a wider plane. */
static void exercise_planes(int instructions, int threads) {
    int64_t times = any(1, 9), bands = any(1, 30), in = any(1, 70), out = any(1, 70), width = conv_panel_width(instructions);
    int64_t before = any(0, 9), all = before + out + any(0, 9), every = any(1, 2), taps[2];
    for (int i = 0; i < 2; i++)
        taps[i] = every == 1 ? any(0, 1) * 2 + 1 : any(1, 2);
    int64_t weights = parts(out, width) * taps[0] * taps[1] * in * width, outputs = parts(out, width) * width;
    int narrow = plane_has_halves() && maybe();
    struct plane_plan plan = {
        .instructions = instructions, .channels_in = (int)in, .channels_out = (int)out, .taps_times = (int)taps[0],
        .taps_bands = (int)taps[1], .halves = narrow, .relu = maybe(),
        .weights = narrow ? (const void *)halves(weights) : (const void *)floats(weights), .scale = floats(outputs),
        .bias = floats(outputs),
    };
    int64_t x_before[2] = {every == 1 ? taps[0] / 2 : 0, every == 1 ? taps[1] / 2 : 0}, x_pitch = (bands + 2) * in;
    int64_t y_row = (every * bands + 2) * all, y_pitch = every * y_row, y_step = every * all, y_first = y_row + all + before;
    int adds = any(0, 2); /* nothing, to what y holds, or what lies elsewhere */
    float *x = plane(times, bands, in, 1), *y_at = plane(every * times, every * bands, all, adds == 1) + y_first;
    float *residual = adds == 2 ? plane(every * times, every * bands, all, 1) + y_first : adds == 1 ? y_at : NULL;
    x += (1 - x_before[0]) * x_pitch + (1 - x_before[1]) * in;
    plane_run(&plan, (uintptr_t)x, x_pitch, x_before[0], times, (uintptr_t)y_at, y_pitch, y_step, (uintptr_t)residual, y_pitch, y_step,
              times, bands, threads);
    x += x_before[0] * x_pitch + x_before[1] * in;
    for (int64_t t = 0; t < times; t++)
        for (int64_t m = 0; m < bands; m++)
            read_all(y_at + t * y_pitch + m * y_step, out);
    float *half = unwritten((times + 1) / 2 * ((bands + 1) / 2) * in);
    plane_halve((uintptr_t)x, x_pitch, in, (uintptr_t)half, bands / 2 * in, in, times / 2, bands / 2, in);
    read_all(half, times / 2 * (bands / 2) * in);
}

/* Recurrent layers */

static void exercise_gru(int instructions, int threads) {
    int64_t width = 8 * any(1, 9), times = any(1, 6), panel = conv_panel_width(instructions), panels = parts(3 * width, panel);
    int narrow = plane_has_halves() && maybe();
    struct gru_plan plan = {.instructions = instructions, .width = (int)width, .halves = narrow};
    for (int i = 0; i < 2; i++) {
        plan.weights[i] = narrow ? (const void *)halves(panels * width * panel) : (const void *)floats(panels * width * panel);
        plan.bias[i] = floats(3 * width);
    }
    float *inputs = floats(times * 2 * 3 * width), *y = unwritten(times * 2 * width), *scratch = unwritten(gru_scratch(&plan));
    gru_run(&plan, (uintptr_t)inputs, (uintptr_t)y, times, threads, (uintptr_t)scratch);
    read_all(y, times * 2 * width);
}

int main(int count, char **arguments) {
    int rounds = count > 1 ? atoi(arguments[1]) : ROUNDS, threads = conv_use_threads_of("libgomp.so.1") ? 3 : 1;
    int found = conv_instructions();
    void (*const exercises[])(int, int) = {exercise_steps, exercise_conv, exercise_planes, exercise_gru};
    for (int instructions = CONV_AVX2; instructions <= found; instructions++)
        for (int round = 0; round < rounds; round++, end_round())
            exercises[round % 4](instructions, any(1, threads));
    const char *ran = found == CONV_AVX512 ? "AVX2 and AVX-512" : found ? "AVX2" : "nothing";
    printf("%s, up to %d threads, %d rounds each: done, %g\n", ran, threads, rounds, sum);
    return 0;
}
