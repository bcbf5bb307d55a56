/* The kernels over planes for AVX2, FMA and F16C: 8 floats a vector, 16 registers. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif

#include <immintrin.h>

#define LANES 8
#define ROWS 6
#define MAXIMUM(a, b) ((vec)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define WIDEN(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i_u *)(p)))
#define KERNELS plane_kernels_avx2
#include "plane_kernels.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int plane_no_avx2;
#endif
