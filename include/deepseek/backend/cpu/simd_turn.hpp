// SPDX-License-Identifier: Apache-2.0
// Rows that become columns, in registers.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "deepseek/backend/cpu/simd.hpp"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define DEEPSEEK_TURN 512
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define DEEPSEEK_TURN 256
#else
#define DEEPSEEK_TURN 0
#endif

namespace deepseek::simd {

// Rows become columns: width registers of width lanes, in place. Each round interleaves register i
// with i + width/2.
template <class T>
DEEPSEEK_INLINE void transpose(pack<T> (&r)[pack<T>::width]) {
  constexpr int w = pack<T>::width;
  const auto interleave = [&]<int... I>(vector<T> a, vector<T> b, std::integer_sequence<int, I...>,
                                        auto from) __attribute__((always_inline)) {
    constexpr int first = decltype(from)::value;
    return __builtin_shufflevector(a, b, (first + I / 2 + (I % 2) * w)...);
  };
  constexpr std::make_integer_sequence<int, w> lanes{};
  constexpr int rounds = std::countr_zero(static_cast<unsigned>(w));
  unrolled<rounds>([&](auto) __attribute__((always_inline)) {
    vector<T> t[w];
    unrolled<w / 2>([&](auto i) __attribute__((always_inline)) {
      t[2 * i] = interleave(r[i].v, r[i + w / 2].v, lanes, std::integral_constant<int, 0>{});
      t[2 * i + 1] =
          interleave(r[i].v, r[i + w / 2].v, lanes, std::integral_constant<int, w / 2>{});
    });
    unrolled<w>([&](auto i) __attribute__((always_inline)) { r[i].v = t[i]; });
  });
}

// Bytes of a row that turn at once: half a register of AVX-512, where a whole one would move more
// between registers' lanes.
inline constexpr int turned_bytes = register_bytes == 64 ? 32 : 16;
template <class W>
inline constexpr int turned_columns = turned_bytes / static_cast<int>(sizeof(W));
// Elements of 16 bytes, and of a register.
template <class W>
inline constexpr int lane_size = 16 / static_cast<int>(sizeof(W));
template <class W>
inline constexpr int turned_rows = register_bytes / static_cast<int>(sizeof(W));

// turned_bytes of turned_rows<W> rows, `row` bytes apart, as turn() wants them: two rows side by
// side in a register of AVX-512 or AVX2.
template <class W>
DEEPSEEK_INLINE void load_rows(const std::byte* from, std::ptrdiff_t row,
                               vector<W> (&out)[turned_columns<W>]) {
  constexpr int lane = lane_size<W>;
  unrolled<turned_columns<W>>([&](auto i) __attribute__((always_inline)) {
    const std::byte* const at = from + (i / lane * 2 * lane + i % lane) * row;
#if DEEPSEEK_TURN == 512
    const auto half = [](const std::byte* p) __attribute__((always_inline)) {
      return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    };
    const __m512i x = _mm512_castsi256_si512(half(at));
    out[i] = std::bit_cast<vector<W>>(_mm512_mask_broadcast_i64x4(x, 0xf0, half(at + lane * row)));
#elif DEEPSEEK_TURN == 256
    const auto half = [](const std::byte* p) __attribute__((always_inline)) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    };
    const __m256i x = _mm256_castsi128_si256(half(at));
    out[i] = std::bit_cast<vector<W>>(_mm256_inserti128_si256(x, half(at + lane * row), 1));
#else
    __builtin_memcpy(&out[i], at, sizeof out[i]);
#endif
  });
}

// By turns an element of each of two registers, from the lower or upper half of each 16 bytes.
template <bool Upper, class V, int... I>
DEEPSEEK_INLINE V zip_lanes(V x, V y, std::integer_sequence<int, I...>) {
  constexpr int n = sizeof...(I), part = n * 16 / register_bytes, first = Upper ? part / 2 : 0;
  return __builtin_shufflevector(x, y, (I / part * part + first + I % part / 2 + I % 2 * n)...);
}
// Each 16 bytes of lane_size registers turned.
template <class W>
DEEPSEEK_INLINE void turn_lanes(const vector<W>* r, vector<W>* out) {
  constexpr std::make_integer_sequence<int, turned_rows<W>> all{};
  if constexpr (lane_size<W> == 2) {
    out[0] = zip_lanes<false>(r[0], r[1], all), out[1] = zip_lanes<true>(r[0], r[1], all);
  } else {
    using pairs = vector<std::int64_t>;
    constexpr std::make_integer_sequence<int, register_bytes / 8> halves{};
    const auto a = std::bit_cast<pairs>(zip_lanes<false>(r[0], r[1], all)),
               b = std::bit_cast<pairs>(zip_lanes<false>(r[2], r[3], all)),
               c = std::bit_cast<pairs>(zip_lanes<true>(r[0], r[1], all)),
               d = std::bit_cast<pairs>(zip_lanes<true>(r[2], r[3], all));
    out[0] = std::bit_cast<vector<W>>(zip_lanes<false>(a, b, halves));
    out[1] = std::bit_cast<vector<W>>(zip_lanes<true>(a, b, halves));
    out[2] = std::bit_cast<vector<W>>(zip_lanes<false>(c, d, halves));
    out[3] = std::bit_cast<vector<W>>(zip_lanes<true>(c, d, halves));
  }
}
// The first or second 16 bytes of each half of two registers.
template <int Second, class W, int... I>
DEEPSEEK_INLINE vector<W> pick_lanes(vector<W> x, vector<W> y, std::integer_sequence<int, I...>) {
  constexpr int n = sizeof...(I), lane = lane_size<W>;
  return __builtin_shufflevector(
      x, y, (I / (2 * lane) * n + (I / lane % 2 * 2 + Second) * lane + I % lane)...);
}
// What load_rows loaded: lane i of out[c] becomes element c of row i.
template <class W>
DEEPSEEK_INLINE void turn(const vector<W> (&r)[turned_columns<W>],
                          vector<W> (&out)[turned_columns<W>]) {
  if constexpr (register_bytes == 64) {
    constexpr int lane = lane_size<W>;
    constexpr std::make_integer_sequence<int, turned_rows<W>> all{};
    vector<W> first[lane], second[lane];
    turn_lanes<W>(r, first), turn_lanes<W>(r + lane, second);
    unrolled<lane>([&](auto c) __attribute__((always_inline)) {
      out[c] = pick_lanes<0, W>(first[c], second[c], all);
      out[c + lane] = pick_lanes<1, W>(first[c], second[c], all);
    });
  } else {
    turn_lanes<W>(r, out);
  }
}

}  // namespace deepseek::simd

#undef DEEPSEEK_TURN
