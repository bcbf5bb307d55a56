/* The kernels over planes for AVX-512: 16 floats a vector, 32 registers. */
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
#define WIDEN(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i_u *)(p)))
#define KERNELS plane_kernels_avx512
#include "plane_kernels.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int plane_no_avx512;
#endif
