// SPDX-License-Identifier: Apache-2.0
// The version and the one place that looks at the compiler; every DEEPSEEK_ macro is defined here.
#pragma once

#define DEEPSEEK_VERSION_MAJOR 0
#define DEEPSEEK_VERSION_MINOR 1
#define DEEPSEEK_VERSION_PATCH 0

#if !defined(__cplusplus) || __cplusplus < 202002L
#error "deepseek: C++20 is needed; compile with -std=c++20 or later"
#endif

// Masks are -inf, empty rows are judged by it, errors are found by NaN.
#if defined(__FAST_MATH__)
#error "deepseek: -ffast-math breaks NaN and infinity handling; compile without it"
#elif defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ > 0
#error "deepseek: -ffinite-math-only breaks NaN and infinity handling; compile without it"
#endif
// Rounding errors and bits are promised for sums and quotients as they are written. g++ 12 tells of
// these options; clang 14 does not: there only who compiles can keep them off.
#if defined(__ASSOCIATIVE_MATH__)
#error "deepseek: -fassociative-math (-funsafe-math-optimizations) reorders sums; compile without"
#elif defined(__RECIPROCAL_MATH__)
#error "deepseek: -freciprocal-math (-funsafe-math-optimizations) rounds twice; compile without"
#endif

// Marks a function that a GPU kernel may call too. Before its `template`, DEEPSEEK_EITHER_SIDE says
// that it calls what it is given, which may be a host function where the host calls it.
#if defined(__CUDACC__)
#define DEEPSEEK_HOST_DEVICE __host__ __device__
#define DEEPSEEK_EITHER_SIDE _Pragma("nv_exec_check_disable")
#else
#define DEEPSEEK_HOST_DEVICE
#define DEEPSEEK_EITHER_SIDE
#endif

// Before a loop whose arrays must stay in the registers of a GPU; host compilers decide themselves.
#if defined(__CUDA_ARCH__)
#define DEEPSEEK_UNROLL _Pragma("unroll")
#else
#define DEEPSEEK_UNROLL
#endif

// 1 where address sanitizer watches memory: the arena then poisons what is not allocated.
#if defined(__SANITIZE_ADDRESS__)
#define DEEPSEEK_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DEEPSEEK_ASAN 1
#endif
#endif
#if !defined(DEEPSEEK_ASAN)
#define DEEPSEEK_ASAN 0
#endif

// Inner kernels whose accumulators must stay in registers are inlined whatever the compiler thinks.
#if defined(__GNUC__) || defined(__clang__)
#define DEEPSEEK_INLINE inline __attribute__((always_inline))
#else
#define DEEPSEEK_INLINE inline
#endif

namespace deepseek {

// Whether what is compiled runs on the host: only there can a check throw.
#if defined(__CUDA_ARCH__)
inline constexpr bool on_host = false;
#else
inline constexpr bool on_host = true;
#endif

}  // namespace deepseek
