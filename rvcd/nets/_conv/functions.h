/* Functions of vectors, to within some 1e-7 of what they give; a part of kernels.h. NaN stays NaN. */

typedef int32_t ints __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* MAXIMUM and MINIMUM give their second argument where one is NaN. */
INLINE vec exponential(vec x) {
    x = MINIMUM(spread(88.0f), MAXIMUM(spread(-87.0f), x));
    const vec shift = spread(12582912.0f); /* 1.5 * 2^23: the sum's last bits are the rounded number */
    vec shifted = x * spread(1.44269504088896341f) + shift, n = shifted - shift;
    vec r = x - n * spread(0.693359375f) + n * spread(2.12194440e-4f);
    /* exp(r) - 1 - r over r * r for |r| <= log(2) / 2: Taylor's series, shortened. */
    vec p = spread(1.9875691500e-4f);
    p = p * r + spread(1.3981999507e-3f);
    p = p * r + spread(8.3334519073e-3f);
    p = p * r + spread(4.1665795894e-2f);
    p = p * r + spread(1.6666665459e-1f);
    p = p * r + spread(5.0000001201e-1f);
    vec power = (vec)((((ints)shifted) << 23) + 0x3f800000);
    return (p * r * r + r + spread(1.0f)) * power;
}

/* x times the share of a normal distribution below x; by Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26. */
INLINE vec gelu(vec x) {
    vec z = MAXIMUM(x, -x) * spread(0.70710678118654752f);
    vec t = spread(1.0f) / (spread(1.0f) + spread(0.3275911f) * z);
    vec p = spread(1.061405429f);
    p = p * t + spread(-1.453152027f);
    p = p * t + spread(1.421413741f);
    p = p * t + spread(-0.284496736f);
    p = p * t + spread(0.254829592f);
    vec above = spread(0.5f) * p * t * exponential(-(z * z)); /* the share beyond |x| */
    vec positive = MAXIMUM(spread(0.0f), x);
    return positive - MAXIMUM(x, -x) * above;
}

INLINE vec sigmoid(vec x) { return spread(1.0f) / (spread(1.0f) + exponential(-x)); }
INLINE vec hyperbolic_tangent(vec x) { return spread(1.0f) - spread(2.0f) / (exponential(x + x) + spread(1.0f)); }

INLINE float sum_of(vec v) {
    float sum = 0;
    for (int i = 0; i < LANES; i++)
        sum += v[i];
    return sum;
}
