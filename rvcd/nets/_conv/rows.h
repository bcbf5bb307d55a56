/* Steps that are no convolutions: norms, gates and attention, a few rows at a time; a part of kernels.h. */
#include <math.h>

/* The last vector of a row, where its channels are no multiple of LANES. */
INLINE vec load_some(const float *p, int64_t count) {
    float made[LANES] = {0};
    memcpy(made, p, sizeof(float) * (size_t)count);
    return load(made);
}

INLINE void store_some(float *p, vec v, int64_t count) {
    float made[LANES];
    store(made, v);
    memcpy(p, made, sizeof(float) * (size_t)count);
}

INLINE vec load_up_to(const float *p, int64_t left) { return left >= LANES ? load(p) : load_some(p, left); }

INLINE void store_up_to(float *p, vec v, int64_t left) {
    if (left >= LANES)
        store(p, v);
    else
        store_some(p, v, left);
}

/* v with zeros beyond its first `count` floats. */
INLINE vec first_lanes(vec v, int64_t count) {
    if (count >= LANES)
        return v;
    float some[LANES] = {0};
    store_some(some, v, count);
    return load(some);
}

static void norm(const struct conv_step *step, int64_t first, int64_t count) {
    const float *gamma = (const float *)step->first, *beta = (const float *)step->second;
    int64_t width = step->width;
    for (int64_t row = first; row < first + count; row++) {
        const float *x = (const float *)step->x + row * width;
        const float *residual = step->residual ? (const float *)step->residual + row * width : NULL;
        float *y = (float *)step->y + row * width;
        vec sum = {0}, squares = {0};
        for (int64_t c = 0; c < width; c += LANES) {
            vec v = load_up_to(x + c, width - c);
            if (residual)
                v += load_up_to(residual + c, width - c);
            store_up_to(y + c, v, width - c);
            sum += v;
        }
        float mean = sum_of(sum) / (float)width;
        for (int64_t c = 0; c < width; c += LANES) {
            vec v = first_lanes(load_up_to(y + c, width - c) - spread(mean), width - c);
            squares += v * v;
        }
        float scale = 1.0f / sqrtf(sum_of(squares) / (float)width + step->epsilon);
        for (int64_t c = 0; c < width; c += LANES) {
            vec v = (load_up_to(y + c, width - c) - spread(mean)) * spread(scale);
            store_up_to(y + c, v * load_up_to(gamma + c, width - c) + load_up_to(beta + c, width - c), width - c);
        }
    }
}

static void gate(const struct conv_step *step, int64_t first, int64_t count) {
    const float *added = (const float *)step->first;
    int64_t width = step->width;
    for (int64_t row = first; row < first + count; row++) {
        const float *x = (const float *)step->x + row * 2 * width;
        float *y = (float *)step->y + row * width;
        for (int64_t c = 0; c < width; c += LANES) {
            vec filtered = load_up_to(x + c, width - c), opened = load_up_to(x + width + c, width - c);
            if (added) {
                filtered += load_up_to(added + c, width - c);
                opened += load_up_to(added + width + c, width - c);
            }
            store_up_to(y + c, hyperbolic_tangent(filtered) * sigmoid(opened), width - c);
        }
    }
}

static float product_of_rows(const float *a, const float *b, int64_t width) {
    vec sum[2] = {{0}, {0}};
    int64_t c = 0;
    for (; c + 2 * LANES <= width; c += 2 * LANES) {
        sum[0] += load(a + c) * load(b + c);
        sum[1] += load(a + c + LANES) * load(b + c + LANES);
    }
    for (; c < width; c += LANES)
        sum[0] += load_up_to(a + c, width - c) * load_up_to(b + c, width - c);
    return sum_of(sum[0] + sum[1]);
}

/* y += factor * x */
static void add_row(float *y, float factor, const float *x, int64_t width) {
    for (int64_t c = 0; c < width; c += LANES)
        store_up_to(y + c, load_up_to(y + c, width - c) + spread(factor) * load_up_to(x + c, width - c), width - c);
}

static void softmax(float *scores, int64_t count) {
    float largest = scores[0], sum = 0;
    for (int64_t i = 1; i < count; i++)
        largest = scores[i] > largest ? scores[i] : largest;
    for (int64_t i = 0; i < count; i += LANES) {
        vec v = exponential(load_up_to(scores + i, count - i) - spread(largest));
        store_up_to(scores + i, v, count - i);
    }
    for (int64_t i = 0; i < count; i++)
        sum += scores[i];
    for (int64_t i = 0; i < count; i++)
        scores[i] /= sum;
}

static void attend(const struct conv_step *step, int64_t head, int64_t first, int64_t count, float *scratch) {
    int64_t width = step->width, stride = step->x_stride, keys = step->keys, offset = head * width, window = step->window;
    const float *key = (const float *)step->first + offset, *value = (const float *)step->second + offset;
    const float *near_keys = (const float *)step->near_keys, *near_values = (const float *)step->near_values;
    for (int64_t row = first; row < first + count; row++) {
        const float *query = (const float *)step->x + row * stride + offset;
        float *scores = scratch + (row - first) * keys;
        int64_t here = keys - step->count + row; /* the key that lies where the query does */
        for (int64_t j = 0; j < keys; j++)
            scores[j] = step->scale * product_of_rows(query, key + j * stride, width);
        int64_t low = window < 0 || here - window < 0 ? 0 : here - window;
        int64_t high = window < 0 ? 0 : here + window + 1 < keys ? here + window + 1 : keys;
        for (int64_t j = low; j < high; j++)
            scores[j] += step->scale * product_of_rows(query, near_keys + (j - here + window) * width, width);
        softmax(scores, keys);
        float *y = (float *)step->y + row * step->heads * width + offset;
        memset(y, 0, sizeof(float) * (size_t)width);
        for (int64_t j = 0; j < keys; j++)
            add_row(y, scores[j], value + j * stride, width);
        for (int64_t j = low; j < high; j++)
            add_row(y, scores[j], near_values + (j - here + window) * width, width);
    }
}
