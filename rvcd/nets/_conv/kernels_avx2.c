/* The kernels for AVX2 and FMA: 8 floats a vector, 16 registers. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#include <immintrin.h>

#define LANES 8
#define ROWS 6
#define MAXIMUM(a, b) ((vec)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define MINIMUM(a, b) ((vec)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define WIDEN(p) ((vec)_mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)(p)))))
#define KERNELS conv_kernels_avx2
#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int conv_no_avx2;
#endif
