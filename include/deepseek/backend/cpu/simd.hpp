// SPDX-License-Identifier: Apache-2.0
// Registers of the processor the compiler was told to build for: AVX-512, AVX2 with FMA, NEON, or
// 16-byte generic. pack<T>, T in {float, double}: T lanes[width]; fma(a, b, c) rounds once wherever
// the target has the instruction (all but generic, which rounds the product too) and is the only
// fused operation: a * b + c rounds twice for every compiler. Loads and stores need no alignment.
// Partial forms touch only the first n elements, missing lanes are zero, so that a tail behaves as
// full lanes do. Reductions add lane i and i + width/2 first: one fixed tree. Narrow elements and
// their products: simd_narrow.hpp; rows that become columns: simd_turn.hpp. These three are the
// only headers that ask which instructions exist.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "deepseek/config.hpp"
#include "deepseek/core/error.hpp"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include <immintrin.h>
#define DEEPSEEK_SIMD 512
#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AMX_INT8__) && defined(__linux__)
#define DEEPSEEK_AMX
#endif
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>
#define DEEPSEEK_SIMD 256
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#define DEEPSEEK_SIMD 128
#else
#define DEEPSEEK_SIMD 0
#endif

namespace deepseek::simd {

inline constexpr int register_bytes = DEEPSEEK_SIMD > 128 ? DEEPSEEK_SIMD / 8 : 16;
inline constexpr int register_count = DEEPSEEK_SIMD == 512 || DEEPSEEK_SIMD == 128 ? 32 : 16;
inline constexpr bool has_fma = DEEPSEEK_SIMD != 0;

// The compiler's own vector type: + - * / and comparisons work lane by lane on it.
template <class T, int Bytes = register_bytes>
struct vector_of {
  typedef T type __attribute__((vector_size(Bytes)));
};
template <class T, int Bytes = register_bytes>
using vector = typename vector_of<T, Bytes>::type;

template <class T>
using integer_of = std::conditional_t<sizeof(T) == 8, std::int64_t, std::int32_t>;

// f(0), ..., f(N - 1) with compile-time arguments, written out: arrays indexed by them stay in
// registers.
template <int N, class F>
DEEPSEEK_INLINE void unrolled(F&& f) {
  [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    (f(std::integral_constant<int, I>{}), ...);
  }
  (std::make_integer_sequence<int, N>{});
}

namespace native {

// g++ would fuse a * b + c behind our back, in one place and not in another.
template <class Raw>
DEEPSEEK_INLINE Raw rounded(Raw x) {
#if defined(__GNUC__) && !defined(__clang__)
#if DEEPSEEK_SIMD == 512
  asm("" : "+v"(x));
#elif DEEPSEEK_SIMD == 128
  asm("" : "+w"(x));
#elif defined(__SSE2__)
  asm("" : "+x"(x));
#endif
#endif
  return x;
}

// The second operand where either is NaN, as a > b ? a : b.
template <class Raw>
DEEPSEEK_INLINE Raw larger(Raw a, Raw b) {
  return a > b ? a : b;
}
template <class Raw>
DEEPSEEK_INLINE Raw smaller(Raw a, Raw b) {
  return a < b ? a : b;
}

#if DEEPSEEK_SIMD == 512
// g++ 12 compares into a mask otherwise; the plain forms warn there.
DEEPSEEK_INLINE vector<float> larger(vector<float> a, vector<float> b) {
  return _mm512_maskz_max_ps(0xffff, a, b);
}
DEEPSEEK_INLINE vector<float> smaller(vector<float> a, vector<float> b) {
  return _mm512_maskz_min_ps(0xffff, a, b);
}
DEEPSEEK_INLINE __m512 fma(__m512 a, __m512 b, __m512 c) {
  return _mm512_fmadd_ps(a, b, c);
}
DEEPSEEK_INLINE __m512d fma(__m512d a, __m512d b, __m512d c) {
  return _mm512_fmadd_pd(a, b, c);
}
DEEPSEEK_INLINE __mmask16 first_lanes16(int n) {
  return static_cast<__mmask16>((1U << n) - 1U);
}
DEEPSEEK_INLINE __mmask8 first_lanes8(int n) {
  return static_cast<__mmask8>((1U << n) - 1U);
}
DEEPSEEK_INLINE __m512 load_partial(const float* p, int n) {
  return _mm512_maskz_loadu_ps(first_lanes16(n), p);
}
DEEPSEEK_INLINE __m512d load_partial(const double* p, int n) {
  return _mm512_maskz_loadu_pd(first_lanes8(n), p);
}
DEEPSEEK_INLINE void store_partial(float* p, __m512 v, int n) {
  _mm512_mask_storeu_ps(p, first_lanes16(n), v);
}
DEEPSEEK_INLINE void store_partial(double* p, __m512d v, int n) {
  _mm512_mask_storeu_pd(p, first_lanes8(n), v);
}
#else
#if DEEPSEEK_SIMD == 256
DEEPSEEK_INLINE __m256 fma(__m256 a, __m256 b, __m256 c) {
  return _mm256_fmadd_ps(a, b, c);
}
DEEPSEEK_INLINE __m256d fma(__m256d a, __m256d b, __m256d c) {
  return _mm256_fmadd_pd(a, b, c);
}
#elif DEEPSEEK_SIMD == 128
DEEPSEEK_INLINE float32x4_t fma(float32x4_t a, float32x4_t b, float32x4_t c) {
  return vfmaq_f32(c, a, b);
}
DEEPSEEK_INLINE float64x2_t fma(float64x2_t a, float64x2_t b, float64x2_t c) {
  return vfmaq_f64(c, a, b);
}
#else
template <class Raw>
DEEPSEEK_INLINE Raw fma(Raw a, Raw b, Raw c) {
  return rounded(a * b) + c;
}
#endif
template <class T>
DEEPSEEK_INLINE vector<T> load_partial(const T* p, int n) {
  vector<T> v{};
  __builtin_memcpy(&v, p, static_cast<std::size_t>(n) * sizeof(T));
  return v;
}
template <class T>
DEEPSEEK_INLINE void store_partial(T* p, vector<T> v, int n) {
  __builtin_memcpy(p, &v, static_cast<std::size_t>(n) * sizeof(T));
}
#endif

// Sum or maximum of the lanes, halves first.
template <class T, int Bytes, class Op>
DEEPSEEK_INLINE T reduce(vector<T, Bytes> v, Op op) {
  if constexpr (Bytes == sizeof(T)) {
    return v[0];
  } else {
    vector<T, Bytes / 2> halves[2];
    __builtin_memcpy(&halves, &v, Bytes);
    if constexpr (Bytes / 2 == sizeof(T)) {
      return op(halves[0], halves[1])[0];
    } else {
      return reduce<T, Bytes / 2>(op(halves[0], halves[1]), op);
    }
  }
}

}  // namespace native

template <class T>
struct pack {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>,
                "deepseek::simd::pack: T is neither float nor double; widen 16-bit elements first");
  using raw = vector<T>;
  static constexpr int width = register_bytes / static_cast<int>(sizeof(T));
  raw v;

  static DEEPSEEK_INLINE pack zero() { return {raw{}}; }
  static DEEPSEEK_INLINE pack broadcast(T x) { return {x - raw{}}; }
  static DEEPSEEK_INLINE pack load(const T* p) {
    pack out;
    __builtin_memcpy(&out.v, p, sizeof(raw));
    return out;
  }
  static DEEPSEEK_INLINE pack load_partial(const T* p, int n) {
    return {native::load_partial(p, n)};
  }
  // Picks the full form where n >= width.
  static DEEPSEEK_INLINE pack load_up_to(const T* p, std::ptrdiff_t n) {
    return n >= width ? load(p) : load_partial(p, static_cast<int>(n));
  }
  DEEPSEEK_INLINE void store(T* p) const { __builtin_memcpy(p, &v, sizeof(raw)); }
  DEEPSEEK_INLINE void store_partial(T* p, int n) const { native::store_partial(p, v, n); }
  DEEPSEEK_INLINE void store_up_to(T* p, std::ptrdiff_t n) const {
    if (n >= width) {
      store(p);
    } else {
      store_partial(p, static_cast<int>(n));
    }
  }

  friend DEEPSEEK_INLINE pack operator+(pack a, pack b) { return {a.v + b.v}; }
  friend DEEPSEEK_INLINE pack operator-(pack a, pack b) { return {a.v - b.v}; }
  friend DEEPSEEK_INLINE pack operator*(pack a, pack b) { return {native::rounded(a.v * b.v)}; }
  friend DEEPSEEK_INLINE pack operator/(pack a, pack b) { return {a.v / b.v}; }
  friend DEEPSEEK_INLINE pack operator-(pack a) { return {-a.v}; }
};

template <class T>
DEEPSEEK_INLINE pack<T> fma(pack<T> a, pack<T> b, pack<T> c) {
  return {native::fma(a.v, b.v, c.v)};
}

// a where a > b, else b: the second operand where either is NaN. min likewise.
template <class T>
DEEPSEEK_INLINE pack<T> max(pack<T> a, pack<T> b) {
  return {native::larger(a.v, b.v)};
}
template <class T>
DEEPSEEK_INLINE pack<T> min(pack<T> a, pack<T> b) {
  return {native::smaller(a.v, b.v)};
}

template <class T>
DEEPSEEK_INLINE T reduce_sum(pack<T> a) {
  return native::reduce<T, register_bytes>(a.v, [](auto x, auto y) { return x + y; });
}
template <class T>
DEEPSEEK_INLINE T reduce_max(pack<T> a) {
  return native::reduce<T, register_bytes>(a.v, [](auto x, auto y) { return x > y ? x : y; });
}

// yes where a < b, else no (also where either is NaN).
template <class T>
DEEPSEEK_INLINE pack<T> select_less(pack<T> a, pack<T> b, pack<T> yes, pack<T> no) {
  return {a.v < b.v ? yes.v : no.v};
}

template <class T>
DEEPSEEK_INLINE vector<integer_of<T>> bits_of(pack<T> a) {
  return std::bit_cast<vector<integer_of<T>>>(a.v);
}

template <class T>
DEEPSEEK_INLINE pack<T> from_bits(vector<integer_of<T>> bits) {
  return {std::bit_cast<vector<T>>(bits)};
}

template <class T>
DEEPSEEK_INLINE pack<T> abs(pack<T> a) {
  constexpr auto most = std::numeric_limits<integer_of<T>>::max();
  return from_bits<T>(bits_of(a) & most);
}

// To the nearest integer, ties to even, for |a| < 2^22 (float), 2^51 (double).
template <class T>
DEEPSEEK_INLINE pack<T> round(pack<T> a) {
  const auto magic =
      pack<T>::broadcast(std::is_same_v<T, float> ? T(12582912) : T(6755399441055744));
  pack<T> shifted{native::rounded((a + magic).v)};
  return shifted - magic;
}

// a * 2^n for integral n with |n| <= 2 * (largest exponent): two exact steps, so the result is
// rounded once. Where has_lookup, any n counts as the integer below it.
template <class T>
DEEPSEEK_INLINE pack<T> scale_by_power(pack<T> a, pack<T> n) {
#if DEEPSEEK_SIMD == 512
  if constexpr (std::is_same_v<T, float>) {
    return {_mm512_maskz_scalef_ps(0xffff, a.v, n.v)};  // the plain form warns in g++ 12
  } else {
    return {_mm512_maskz_scalef_pd(0xff, a.v, n.v)};
  }
#else
  constexpr bool single = std::is_same_v<T, float>;
  const auto biased = pack<T>::broadcast(single ? T(12582912 + 127) : T(6755399441055744 + 1023));
  const auto half = round(n * pack<T>::broadcast(T(0.5)));
  const auto power = [&](pack<T> e) {
    return from_bits<T>(bits_of(pack<T>{native::rounded((e + biased).v)}) << (single ? 23 : 52));
  };
  return a * power(half) * power(n - half);
#endif
}

// entries[index mod 16] in each lane; only where has_lookup.
inline constexpr bool has_lookup = DEEPSEEK_SIMD == 512;
DEEPSEEK_INLINE pack<float> lookup(pack<float> entries, vector<std::int32_t> index) {
#if DEEPSEEK_SIMD == 512
  return {_mm512_maskz_permutexvar_ps(0xffff, (__m512i)index, entries.v)};
#else
  static_cast<void>(index);
  return entries;
#endif
}

// Whether tiles of AMX may be used (simd_tiles.hpp).
#if defined(DEEPSEEK_AMX)
inline constexpr bool compiled_for_amx = true;
#else
inline constexpr bool compiled_for_amx = false;
#endif

// What the kernels were compiled for.
constexpr std::string_view instruction_set() {
#if defined(DEEPSEEK_AMX)
  return "avx512 with vnni, bf16 and amx";
#elif DEEPSEEK_SIMD == 512 && defined(__AVX512VNNI__) && defined(__AVX512BF16__)
  return "avx512 with vnni and bf16";
#elif DEEPSEEK_SIMD == 512 && defined(__AVX512VNNI__)
  return "avx512 with vnni";
#elif DEEPSEEK_SIMD == 512
  return "avx512";
#elif DEEPSEEK_SIMD == 256
  return "avx2 with fma";
#elif DEEPSEEK_SIMD == 128
  return "neon";
#else
  return "generic";
#endif
}

// The processor features that the kernels of this build use, as text.
constexpr std::string_view required() {
#if defined(DEEPSEEK_AMX)
  return "avx512f avx512bw avx512dq avx512vl avx512vnni avx512bf16 amx_tile amx_bf16 amx_int8";
#elif DEEPSEEK_SIMD == 512 && defined(__AVX512VNNI__) && defined(__AVX512BF16__)
  return "avx512f avx512bw avx512dq avx512vl avx512vnni avx512bf16";
#elif DEEPSEEK_SIMD == 512 && defined(__AVX512VNNI__)
  return "avx512f avx512bw avx512dq avx512vl avx512vnni";
#elif DEEPSEEK_SIMD == 512
  return "avx512f avx512bw avx512dq avx512vl";
#elif DEEPSEEK_SIMD == 256
  return "avx2 fma f16c";
#else
  return "";
#endif
}

// Throws error_code::unsupported where this processor lacks what the program was compiled for.
inline void check_processor() {
#if DEEPSEEK_SIMD >= 256
  std::string missing;
  const auto need = [&](bool there, const char* name) {
    if (!there) (missing += ' ') += name;
  };
#if DEEPSEEK_SIMD == 512
  need(__builtin_cpu_supports("avx512f") != 0, "avx512f");
  need(__builtin_cpu_supports("avx512bw") != 0, "avx512bw");
  need(__builtin_cpu_supports("avx512dq") != 0, "avx512dq");
  need(__builtin_cpu_supports("avx512vl") != 0, "avx512vl");
#if defined(__AVX512VNNI__)
  need(__builtin_cpu_supports("avx512vnni") != 0, "avx512vnni");
#endif
#if defined(__AVX512BF16__)
  need(__builtin_cpu_supports("avx512bf16") != 0, "avx512bf16");
#endif
#else
  need(__builtin_cpu_supports("avx2") != 0, "avx2");
  need(__builtin_cpu_supports("fma") != 0, "fma");
#endif
  require(missing.empty(), error_code::unsupported, "processor: it lacks", missing,
          ", which this program was compiled for (", instruction_set(),
          "); compile with -march=native on this machine, or for an older processor");
#endif
}

}  // namespace deepseek::simd

#undef DEEPSEEK_AMX
#undef DEEPSEEK_SIMD
