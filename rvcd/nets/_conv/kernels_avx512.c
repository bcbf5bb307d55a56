/* The kernels for AVX-512: 16 floats a vector, 32 registers. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512vl,avx512dq,fma")
#endif

#include <immintrin.h>

#define LANES 16
#define ROWS 12
#define MAXIMUM(a, b) ((vec)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define MINIMUM(a, b) ((vec)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define WIDEN(p) ((vec)_mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)(p)))))
#define KERNELS conv_kernels_avx512
#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int conv_no_avx512;
#endif
