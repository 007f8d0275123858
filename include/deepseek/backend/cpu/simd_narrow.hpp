// SPDX-License-Identifier: Apache-2.0
// Elements of 16 and 8 bits in registers: widened exactly, rounded once (ties to even, as the
// element types do), and multiplied in pairs or fours.
//   dot_pairs: acc[lane] += a[2 lane] b[2 lane] + a[2 lane + 1] b[2 lane + 1] of bf16. With AVX-512
//     BF16 the processor's own instruction: one rounding a product, subnormal numbers count as
//     zero. Elsewhere two fused multiply-adds, the first of the pair first.
//   dot_bytes: acc[lane] += the four products of unsigned by signed bytes, exact.
//   dot_words: acc[lane] += the two products of signed words, exact below 2^31.
//   add_byte_pairs: acc[word] += the two products of unsigned by signed bytes, exact where every
//     such pair and the sum fit 16 bits.
#pragma once

#include "deepseek/backend/cpu/simd.hpp"
#include "deepseek/core/dtype.hpp"

namespace deepseek::simd {

inline constexpr int half_register = register_bytes / 2;
using half_words = vector<std::uint16_t, half_register>;  // as many as a pack of floats has lanes

// 16-bit words to float lanes, exactly; `read` elements in memory, the rest zero.
DEEPSEEK_INLINE half_words load_words(const std::uint16_t* p, int read) {
  half_words words{};
  __builtin_memcpy(&words, p, static_cast<std::size_t>(read) * 2);
  return words;
}
DEEPSEEK_INLINE vector<std::int32_t> widened(half_words words) {
#if defined(__AVX512F__) && defined(__AVX512BW__)  // g++ 12 takes two halves
  const auto all = static_cast<__mmask16>(0xffff);
  return std::bit_cast<vector<std::int32_t>>(
      _mm512_maskz_cvtepu16_epi32(all, std::bit_cast<__m256i>(words)));
#elif defined(__AVX2__)
  return std::bit_cast<vector<std::int32_t>>(_mm256_cvtepu16_epi32(std::bit_cast<__m128i>(words)));
#else
  return __builtin_convertvector(words, vector<std::int32_t>);
#endif
}
DEEPSEEK_INLINE vector<std::int32_t> widen_words(const std::uint16_t* p, int read) {
  return widened(load_words(p, read));
}

// As many unsigned bytes as a pack of floats has lanes.
DEEPSEEK_INLINE vector<std::int32_t> widen_bytes(const std::uint8_t* p) {
  vector<std::uint8_t, register_bytes / 4> bytes;
  __builtin_memcpy(&bytes, p, sizeof bytes);
#if defined(__AVX512F__)  // g++ 12 takes bytes apart one by one, or halves of them
  const auto all = static_cast<__mmask16>(0xffff);
  return std::bit_cast<vector<std::int32_t>>(
      _mm512_maskz_cvtepu8_epi32(all, std::bit_cast<__m128i>(bytes)));
#elif defined(__AVX2__)
  return std::bit_cast<vector<std::int32_t>>(
      _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(std::bit_cast<long long>(bytes))));
#else
  return __builtin_convertvector(__builtin_convertvector(bytes, half_words), vector<std::int32_t>);
#endif
}

DEEPSEEK_INLINE pack<float> load_bf16(const std::uint16_t* p, int n = pack<float>::width) {
  return from_bits<float>(widen_words(p, n) << 16);
}

// 16-bit words a0 a1 ... and b0 b1 ... as a0 b0 a1 b1 ...: the first half of them, and the second.
DEEPSEEK_INLINE void interleave_words(vector<std::int32_t>& a, vector<std::int32_t>& b) {
  using words = vector<std::uint16_t>;
  constexpr int n = register_bytes / 2;
  const auto x = std::bit_cast<words>(a), y = std::bit_cast<words>(b);
  const auto mixed = [&]<int... I>(std::integer_sequence<int, I...>, auto from)
      __attribute__((always_inline)) {
    constexpr int first = decltype(from)::value;
    return __builtin_shufflevector(x, y, (first + I / 2 + (I % 2) * n)...);
  };
  constexpr std::make_integer_sequence<int, n> order{};
  a = std::bit_cast<vector<std::int32_t>>(mixed(order, std::integral_constant<int, 0>{}));
  b = std::bit_cast<vector<std::int32_t>>(mixed(order, std::integral_constant<int, n / 2>{}));
}

DEEPSEEK_INLINE pack<float> widen_f16(half_words h) {
#if defined(__AVX512F__) && defined(__AVX512VL__)
  return {_mm512_maskz_cvtph_ps(0xffff, std::bit_cast<__m256i>(h))};
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
  return {_mm256_cvtph_ps(std::bit_cast<__m128i>(h))};
#else
  const auto words = __builtin_convertvector(h, vector<std::int32_t>);
  const vector<std::int32_t> magnitude = words & 0x7fff;
  const auto scaled = from_bits<float>(magnitude << 13) * pack<float>::broadcast(0x1p112F);
  const vector<std::int32_t> special = (magnitude << 13) | 0x7f800000;
  const vector<std::int32_t> sign = (words & 0x8000) << 16;
  return from_bits<float>((magnitude > 0x7bff ? special : bits_of(scaled)) | sign);
#endif
}
DEEPSEEK_INLINE pack<float> load_f16(const std::uint16_t* p, int n = pack<float>::width) {
  return widen_f16(load_words(p, n));
}

DEEPSEEK_INLINE half_words narrow_bf16(pack<float> x) {
  const auto bits = bits_of(x);
  const vector<std::int32_t> rounded = bits + (((bits >> 16) & 1) + 0x7fff);
  const vector<std::int32_t> chosen = x.v != x.v ? bits | 0x400000 : rounded;
#if defined(__AVX2__) && !defined(__AVX512F__)  // g++ 12 packs with more steps
  const __m256i upper = _mm256_srli_epi32(std::bit_cast<__m256i>(chosen), 16);
  return std::bit_cast<half_words>(
      _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1)));
#else
  return __builtin_convertvector(chosen >> 16, half_words);
#endif
}

// Whether dot_pairs is one instruction, and one that pays: on Intel's cores, told by AVX-512 FP16,
// it takes the time of four multiply-adds of floats (measured on an Emerald Rapids).
#if defined(__AVX512BF16__) && defined(__AVX512VL__) && !defined(__AVX512FP16__)
inline constexpr bool has_dot_pairs = true;
#else
inline constexpr bool has_dot_pairs = false;
#endif

// Where a subnormal number may become zero: it does with AVX-512 BF16.
DEEPSEEK_INLINE half_words narrow_normal_bf16(pack<float> x) {
#if defined(__AVX512BF16__) && defined(__AVX512VL__)
  return std::bit_cast<half_words>(_mm512_cvtneps_pbh(x.v));
#else
  return narrow_bf16(x);
#endif
}

DEEPSEEK_INLINE half_words narrow_f16(pack<float> x) {
#if defined(__AVX512F__) && defined(__AVX512VL__)
  return std::bit_cast<half_words>(_mm512_maskz_cvtps_ph(0xffff, x.v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
  return std::bit_cast<half_words>(_mm256_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT));
#else
  half_words out;
  for (int i = 0; i < pack<float>::width; ++i) out[i] = f16(x.v[i]).bits;
  return out;
#endif
}

// The first n elements of a float, bf16 or f16 row, and back, rounded once.
template <class T>
DEEPSEEK_INLINE pack<float> load_as_float(const T* p, std::ptrdiff_t n) {
  constexpr int width = pack<float>::width;
  if constexpr (std::is_same_v<T, float>) {
    return pack<float>::load_up_to(p, n);
  } else {
    const auto* from = reinterpret_cast<const std::uint16_t*>(p);
    const half_words words =
        n >= width ? load_words(from, width) : load_words(from, static_cast<int>(n));
    if constexpr (std::is_same_v<T, f16>) {
      return widen_f16(words);
    } else {
      return from_bits<float>(widened(words) << 16);
    }
  }
}
// The bits of T in memory.
template <class T>
DEEPSEEK_INLINE auto narrowed(pack<accumulate_t<T>> x) {
  if constexpr (std::is_same_v<T, f16>) {
    return narrow_f16(x);
  } else if constexpr (std::is_same_v<T, bf16>) {
    return narrow_bf16(x);
  } else {
    return x.v;
  }
}
template <class T>
DEEPSEEK_INLINE void store_from_float(T* p, pack<float> x, std::ptrdiff_t n) {
  constexpr std::ptrdiff_t width = pack<float>::width;
  if constexpr (std::is_same_v<T, float>) {
    x.store_up_to(p, n);
  } else {
    const half_words words = narrowed<T>(x);
    auto* const to = reinterpret_cast<unsigned char*>(p);
    if (n >= width) {
      __builtin_memcpy(to, &words, sizeof words);
    } else {
      __builtin_memcpy(to, &words, static_cast<std::size_t>(n) * 2);
    }
  }
}

// The same in the lanes that elements of T are computed in: accumulate_t<T>, double for double.
template <class T>
DEEPSEEK_INLINE pack<accumulate_t<T>> load_wide(const T* p, std::ptrdiff_t n) {
  if constexpr (std::is_same_v<T, double>) {
    return pack<double>::load_up_to(p, n);
  } else {
    return load_as_float(p, n);
  }
}
// v to p past the caches, p aligned to its size. Other threads see it after end_of_streams.
template <class Raw>
DEEPSEEK_INLINE void stream(void* p, Raw v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(Raw) == 64) return _mm512_stream_si512(static_cast<__m512i*>(p), (__m512i)v);
#endif
#if defined(__AVX2__)
  if constexpr (sizeof(Raw) == 32) return _mm256_stream_si256(static_cast<__m256i*>(p), (__m256i)v);
  if constexpr (sizeof(Raw) == 16) return _mm_stream_si128(static_cast<__m128i*>(p), (__m128i)v);
#endif
  __builtin_memcpy(p, &v, sizeof v);
}
inline void end_of_streams() {
#if defined(__AVX2__)
  _mm_sfence();
#endif
}
// Brings the line of p to the second cache; p may lie outside of what is allocated.
DEEPSEEK_INLINE void expect_soon(const void* p) {
  __builtin_prefetch(p, 0, 2);
}

// Streamed: whole registers are streamed.
template <bool Streamed = false, class T>
DEEPSEEK_INLINE void store_narrow(T* p, pack<accumulate_t<T>> x, std::ptrdiff_t n) {
  if constexpr (Streamed) {
    if (n >= pack<accumulate_t<T>>::width) return stream(p, narrowed<T>(x));
  }
  if constexpr (std::is_same_v<T, double>) {
    x.store_up_to(p, n);
  } else {
    store_from_float(p, x, n);
  }
}

// Bit i tells whether a >= b in lane i; false where either is NaN.
template <class T>
DEEPSEEK_INLINE std::uint32_t lanes_at_least(pack<T> a, pack<T> b) {
  if constexpr (std::is_same_v<T, float>) {
#if defined(__AVX512F__) && defined(__AVX512VL__)
    return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ);
#elif defined(__AVX2__) && defined(__FMA__)
    return static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a.v, b.v, _CMP_GE_OQ)));
#endif
  }
  const vector<integer_of<T>> holds = a.v >= b.v;
  std::uint32_t bits = 0;
  for (int i = 0; i < pack<T>::width; ++i) bits |= holds[i] != 0 ? 1U << i : 0U;
  return bits;
}

// Whether a > b in some lane.
template <class T>
DEEPSEEK_INLINE bool some_above(pack<T> a, pack<T> b) {
  if constexpr (std::is_same_v<T, float>) {
#if defined(__AVX512F__) && defined(__AVX512VL__)
    return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ) != 0;
#elif defined(__AVX2__) && defined(__FMA__)
    return _mm256_movemask_ps(_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ)) != 0;
#endif
  }
  const vector<integer_of<T>> above = a.v > b.v;
  integer_of<T> all = 0;
  for (int i = 0; i < pack<T>::width; ++i) all |= above[i];
  return all != 0;
}

// native::fma where a tile's sums leave no register over: g++ 12 moves sums about otherwise.
DEEPSEEK_INLINE vector<float> fma_in_place(vector<float> a, vector<float> b, vector<float> acc) {
#if defined(__AVX2__) && defined(__FMA__) && !defined(__AVX512F__)
  asm("vfmadd231ps %2, %1, %0" : "+x"(acc) : "x"(a), "x"(b));
  return acc;
#else
  return native::fma(a, b, acc);
#endif
}

DEEPSEEK_INLINE vector<float> dot_pairs(vector<float> acc, vector<std::int32_t> a,
                                        vector<std::int32_t> b) {
#if defined(__AVX512BF16__) && defined(__AVX512VL__)
  // Spelled out because g++ 12 copies and spills accumulators of the intrinsic.
  asm("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
  return acc;
#else
  constexpr auto upper = static_cast<std::int32_t>(0xffff0000U);
  acc = native::fma(from_bits<float>(a << 16).v, from_bits<float>(b << 16).v, acc);
  return native::fma(from_bits<float>(a & upper).v, from_bits<float>(b & upper).v, acc);
#endif
}

// Whether four products of bytes are one instruction.
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
inline constexpr bool has_dot_bytes = true;
#else
inline constexpr bool has_dot_bytes = false;
#endif
// AVX2 alone: two products of words, or of bytes that are small enough, are the fastest exact ones.
inline constexpr bool prefers_dot_words = register_bytes == 32;

DEEPSEEK_INLINE vector<std::int32_t> dot_words(vector<std::int32_t> acc, vector<std::int32_t> a,
                                               vector<std::int32_t> b) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  return acc + std::bit_cast<vector<std::int32_t>>(_mm512_madd_epi16((__m512i)a, (__m512i)b));
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
  // Spelled out because g++ 12 sums several of them in another order, which takes more registers.
  vector<std::int32_t> product;
  asm("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(acc), "=&x"(product) : "x"(a), "x"(b));
  return acc;
#else
  return acc + ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
#endif
}

// Of each four signed bytes the even or the odd ones as two words.
DEEPSEEK_INLINE vector<std::int32_t> even_bytes(vector<std::int32_t> four) {
  const auto words = std::bit_cast<vector<std::int16_t>>(four);
  return std::bit_cast<vector<std::int32_t>>((words << 8) >> 8);
}
DEEPSEEK_INLINE vector<std::int32_t> odd_bytes(vector<std::int32_t> four) {
  return std::bit_cast<vector<std::int32_t>>(std::bit_cast<vector<std::int16_t>>(four) >> 8);
}

DEEPSEEK_INLINE vector<std::int16_t> add_byte_pairs(vector<std::int16_t> acc,
                                                    vector<std::int32_t> u,
                                                    vector<std::int32_t> s) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  return acc + std::bit_cast<vector<std::int16_t>>(_mm512_maddubs_epi16((__m512i)u, (__m512i)s));
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
  vector<std::int16_t> product;
  asm("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0" : "+x"(acc), "=&x"(product) : "x"(u), "x"(s));
  return acc;
#else
  using words = vector<std::int16_t>;
  const auto odd = std::bit_cast<words>(std::bit_cast<vector<std::uint16_t>>(u) >> 8);
  return acc + (std::bit_cast<words>(u) & 255) * std::bit_cast<words>(even_bytes(s)) +
         odd * std::bit_cast<words>(odd_bytes(s));
#endif
}

DEEPSEEK_INLINE vector<std::int32_t> dot_bytes(vector<std::int32_t> acc, vector<std::int32_t> u,
                                               vector<std::int32_t> s) {
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
  // Spelled out because g++ 12 copies and spills accumulators of the intrinsic.
  asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(u), "v"(s));
  return acc;
#elif defined(__AVX2__) && defined(__FMA__)
  using words = vector<std::uint16_t>;
  const words even = std::bit_cast<words>(u) & 255, odd = std::bit_cast<words>(u) >> 8;
  acc = dot_words(acc, std::bit_cast<vector<std::int32_t>>(even), even_bytes(s));
  return dot_words(acc, std::bit_cast<vector<std::int32_t>>(odd), odd_bytes(s));
#else
  const auto unsigned_u = std::bit_cast<vector<std::uint32_t>>(u);
  unrolled<4>([&](auto byte) __attribute__((always_inline)) {
    const auto a = std::bit_cast<vector<std::int32_t>>((unsigned_u >> (8 * byte)) & 255);
    acc += a * ((s << (24 - 8 * byte)) >> 24);
  });
  return acc;
#endif
}

}  // namespace deepseek::simd
