// SPDX-License-Identifier: Apache-2.0
// Few rows of A by rows of B that are contiguous along k: a layer's plain weights [out, in], or the
// keys of a cache. A few bytes of a register of rows turn in registers and are multiplied there, so
// that B streams through once and no panel is written. The sums are those of panels, over ascending
// k (gemm_tile.hpp, dot_tile.hpp): same bits for any number of rows.
#pragma once

#include <algorithm>
#include <cstddef>

#include "deepseek/backend/cpu/kernels/dot_tile.hpp"
#include "deepseek/backend/cpu/kernels/fetch.hpp"
#include "deepseek/backend/cpu/kernels/gemm_tile.hpp"
#include "deepseek/backend/cpu/simd_turn.hpp"

namespace deepseek::kernels {

inline constexpr std::ptrdiff_t most_turned_rows = 8;

// The compiled height for so many rows.
constexpr int turned_height(std::ptrdiff_t rows) {
  return rows <= 1 ? 1 : rows <= 2 ? 2 : rows <= 4 ? 4 : 8;
}

// Words that are elements, beside those of dot_tile.hpp; T: float or double.
template <class T>
struct element_words {
  using sum = T;
  using left = T;
  static constexpr int word_lefts = 1;

  static DEEPSEEK_INLINE simd::vector<T> add_word(simd::vector<T> acc, const left* x,
                                                  simd::vector<simd::integer_of<T>> word) {
    return simd::native::fma(simd::pack<T>::broadcast(*x).v, std::bit_cast<simd::vector<T>>(word),
                             acc);
  }
};

// Rows of B, in bytes.
struct turning_rows {
  const std::byte* data;
  std::ptrdiff_t row, count, bytes;
  std::ptrdiff_t ahead;         // how far ahead they are asked for,
  line_order* order = nullptr;  // or in which order

  turning_rows in(line_order& lines) const {
    turning_rows same = *this;
    if (lines.at != nullptr) same.order = &lines;
    return same;
  }
};

// What lies `rows` rows after b, and at least 8 KiB, in the order of memory; null where lines of
// other rows lie between. For rows in 16 bits: a matrix of bf16 then comes at 33 to 38 GB/s to 1 to
// 4 rows of A, at 25 to 33 when each row is asked for further on (a Zen 5 core, [4096, 4096]); of
// floats at 28 to 31, where that way brings 29 to 33.
inline line_order order_after(const turning_rows& b, std::ptrdiff_t rows) {
  if (b.row != b.bytes) return {};
  return {b.data + std::max<std::ptrdiff_t>(rows * b.row, 8192), b.bytes, 0, b.bytes};
}

template <class Form>
inline constexpr auto left_word_bytes =
    Form::word_lefts* static_cast<std::ptrdiff_t>(sizeof(typename Form::left));

// Rows of A: for each word of B Form::word_lefts of `left`, the last filled up with zero.
struct turned_left {
  const std::byte* a;
  std::ptrdiff_t row, word;  // bytes
  int rows;                  // <= most_turned_rows
};

// Bytes of a row that are loaded at once: a cache line where there are registers for it, for rows
// that lie 4 KiB apart would evict each other's lines before these are read again.
inline constexpr std::ptrdiff_t turned_step = simd::register_bytes == 64 ? 64 : simd::turned_bytes;
inline constexpr int turned_parts = static_cast<int>(turned_step) / simd::turned_bytes;
template <class W>
using rows_in_registers = simd::vector<W>[turned_parts][simd::turned_columns<W>];

template <class W>
DEEPSEEK_INLINE void load_line(const std::byte* from, std::ptrdiff_t row,
                               rows_in_registers<W>& out) {
  simd::unrolled<turned_parts>([&](auto p) __attribute__((always_inline)) {
    simd::load_rows<W>(from + p * simd::turned_bytes, row, out[p]);
    // Here, not where they are used.
    simd::unrolled<simd::turned_columns<W>>([&](auto i) __attribute__((always_inline)) {
      out[p][i] = simd::native::rounded(out[p][i]);
    });
  });
}
// From byte k on, where a register of rows or turned_step bytes are not there; zero outside.
template <class W>
__attribute__((noinline)) void load_line_edge(const turning_rows& b, std::ptrdiff_t k,
                                              rows_in_registers<W>& out) {
  constexpr std::ptrdiff_t width = simd::turned_rows<W>;
  alignas(64) std::byte copy[width * turned_step] = {};
  const auto bytes = static_cast<std::size_t>(std::min(turned_step, b.bytes - k));
  for (std::ptrdiff_t i = 0; i < std::min(width, b.count); ++i) {
    __builtin_memcpy(copy + turned_step * i, b.data + i * b.row + k, bytes);
  }
  load_line<W>(copy, turned_step, out);
}

// A register of rows of B. Sums as in dot_tile.hpp: sums.begin(i, j), sums.end(i, j, value) of row
// i and register j, here 0.
template <class Form, int Rows, class Sums>
__attribute__((noinline)) void multiply_turned(const turned_left& left, const turning_rows& b,
                                               const Sums& sums) {
  using T = typename Form::sum;
  using W = simd::integer_of<T>;
  constexpr std::ptrdiff_t width = simd::pack<T>::width;
  simd::vector<T> acc[Rows];
  std::ptrdiff_t row[Rows];
  simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
    row[i] = std::min<int>(i, left.rows - 1) * left.row;
    acc[i] = sums.continues() && i < left.rows ? sums.begin(i, 0) : simd::vector<T>{};
  });
  const std::byte *a = left.a, *at = b.data;
  line_order order = b.order != nullptr ? *b.order : line_order{};
  for (std::ptrdiff_t k = 0; k < b.bytes; k += turned_step, at += turned_step) {
    rows_in_registers<W> raw;
    if (b.count >= width && k + turned_step <= b.bytes) [[likely]] {
      if (b.order != nullptr) {
        fetch_next<width * turned_step>(order);
      } else {
        simd::unrolled<width>([&](auto i) __attribute__((always_inline)) {
          __builtin_prefetch(at + i * b.row + b.ahead, 0, 2);
        });
      }
      load_line<W>(at, b.row, raw);
    } else {
      load_line_edge<W>(b, k, raw);
    }
    simd::unrolled<turned_parts>([&](auto p) __attribute__((always_inline)) {
      simd::vector<W> t[simd::turned_columns<W>];
      simd::turn<W>(raw[p], t);
      const std::ptrdiff_t bytes = b.bytes - k - p * simd::turned_bytes;
      simd::unrolled<simd::turned_columns<W>>([&](auto c) __attribute__((always_inline)) {
        if (c * std::ptrdiff_t{sizeof(W)} >= bytes) return;
        simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
          typename Form::left x[Form::word_lefts];
          __builtin_memcpy(x, a + row[i], sizeof x);
          acc[i] = Form::add_word(acc[i], x, t[c]);
        });
        a += left.word;
      });
    });
  }
  if (b.order != nullptr) *b.order = order;
  simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
    if (i < left.rows) sums.end(i, 0, acc[i]);
  });
}

template <class Form, int Rows, class Sums>
void multiply_turned_blocks(const turned_left& left, turning_rows b, const Sums& sums) {
  constexpr std::ptrdiff_t width = simd::pack<typename Form::sum>::width;
  for (std::ptrdiff_t j = 0; b.count > 0; j += width) {
    multiply_turned<Form, Rows>(left, b, sums(j));
    b.data += width * b.row, b.count -= width;
  }
}

// sums(j): those of the rows of B from j on.
template <class Form, class Sums>
void multiply_turned_rows(const turned_left& left, const turning_rows& b, const Sums& sums) {
  switch (turned_height(left.rows)) {
    case 1:
      return multiply_turned_blocks<Form, 1>(left, b, sums);
    case 2:
      return multiply_turned_blocks<Form, 2>(left, b, sums);
    case 4:
      return multiply_turned_blocks<Form, 4>(left, b, sums);
    default:
      return multiply_turned_blocks<Form, 8>(left, b, sums);
  }
}

// Sums that stay where they are, `there` columns of them.
template <class T>
struct sums_in_c {
  T* c;
  std::ptrdiff_t row, there;
  start from;

  using pack = simd::pack<T>;
  bool continues() const { return from == start::from_c; }
  DEEPSEEK_INLINE simd::vector<T> begin(int i, int j) const {
    return pack::load_up_to(c + i * row + j * pack::width, there - j * pack::width).v;
  }
  DEEPSEEK_INLINE void end(int i, int j, simd::vector<T> acc) const {
    pack{acc}.store_up_to(c + i * row + j * pack::width, there - j * pack::width);
  }
};

template <class T>
const std::byte* as_bytes(const T* p) {
  return reinterpret_cast<const std::byte*>(p);
}

}  // namespace deepseek::kernels
