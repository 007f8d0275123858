// SPDX-License-Identifier: Apache-2.0
// The innermost product where the processor multiplies whole tiles (simd_tiles.hpp), rows and
// panels as in dot_tile.hpp, sums in memory.
//   bf16_tiles  two bf16 of a row by two of a column, sums in float: blocks of 32 steps of k in
//               ascending order, each as dot_pair_tiles adds it
//   byte_tiles  four unsigned bytes by four signed ones, exact
// 32 rows are two strips of tiles and each tile of B is read once for both; up to 16 rows are one
// strip. The same order of sums for any number of rows. While it multiplies, a strip fetches what
// memory has to bring next.
#pragma once

#include <algorithm>
#include <cstddef>

#include "deepseek/backend/cpu/kernels/dot_tile.hpp"
#include "deepseek/backend/cpu/simd_tiles.hpp"

namespace deepseek::kernels {

struct bf16_tiles {
  using sum = float;
  using left = std::int32_t;
  static constexpr bool tiled = true;
  static constexpr int parts = 1, vectors = 3, rows = 2 * simd::tile_rows;
  static constexpr std::ptrdiff_t steps = 2, column_bytes = 4, widened_strips = 0;

  template <int C, int A, int B>
  static DEEPSEEK_INLINE void add() {
    simd::dot_pair_tiles<C, A, B>();
  }
};

struct byte_tiles {
  using sum = std::int32_t;
  using left = std::int32_t;
  static constexpr bool tiled = true;
  static constexpr int parts = 1, vectors = 2, rows = 2 * simd::tile_rows;
  static constexpr std::ptrdiff_t steps = 4, column_bytes = 4;

  template <int C, int A, int B>
  static DEEPSEEK_INLINE void add() {
    simd::dot_byte_tiles<C, A, B>();
  }
};

// Sums, `row` elements from one row to the next.
template <class T>
struct tile_memory {
  T* data;
  std::ptrdiff_t row;
};

// Rows of results, `row` elements apart, that the second cache does not hold until they are read:
// they are written past the caches where they lie on whole lines (512 rows by 4096 x 4096: 1.12
// times as fast).
constexpr bool passes_caches(std::ptrdiff_t rows, std::ptrdiff_t row) {
  constexpr std::ptrdiff_t kept = 1 << 19;
  return rows * row >= kept;
}
DEEPSEEK_INLINE void store_past_caches(float* to, simd::pack<float> x) {
  if (reinterpret_cast<std::uintptr_t>(to) % sizeof x == 0) return simd::stream(to, x.v);
  x.store(to);
}

// `lines` cache lines for every 16 steps, from `from` on.
struct tile_fetch {
  int lines = 0;
  const std::byte* from = nullptr;
};

// Numbers of tiles: sums 0 .., first those of the upper strip; an operand of A and one of B.
inline constexpr int tile_a = 6, tile_b = 7;

// `rows` rows of sums and of A, `words` words of k.
DEEPSEEK_INLINE void shape_strips(int rows, int words) {
  const auto name = static_cast<std::uint32_t>(rows << 8 | words);
  simd::shape_tiles(name, [&] {
    simd::tile_shapes s;
    for (int t = 0; t < tile_a; ++t) s.set(t, rows, simd::tile_words);
    return s.set(tile_a, rows, words).set(tile_b, words, simd::tile_words);
  });
}

// f(tile, where its sums are) for each tile of sums.
template <class Form, int Strips, class F>
DEEPSEEK_INLINE void for_each_sum_tile(tile_memory<typename Form::sum> c, F&& f) {
  simd::unrolled<Strips * Form::vectors>([&](auto t) __attribute__((always_inline)) {
    constexpr std::ptrdiff_t strip = t / Form::vectors, column = t % Form::vectors;
    f(t, c.data + strip * simd::tile_rows * c.row + column * simd::tile_words);
  });
}

// One block of at most 16 steps. Strips take turns, so that a tile of A serves two of B.
template <class Form, int Strips, class Between>
DEEPSEEK_INLINE void add_tile_block(const dot_operands& o, const std::byte* a, const std::byte* b,
                                    Between&& between) {
  if constexpr (Strips == 1) simd::load_tile<tile_a>(a, o.a_row);
  simd::unrolled<Form::vectors>([&](auto j) __attribute__((always_inline)) {
    simd::load_tile<tile_b>(b + j * simd::tile_words * 4, o.b_step);
    if constexpr (Strips == 1) {
      Form::template add<j, tile_a, tile_b>();
    } else {
      constexpr int first = j % 2, second = 1 - first;
      const std::ptrdiff_t strip = simd::tile_rows * o.a_row;
      if constexpr (j == 0) simd::load_tile<tile_a>(a + first * strip, o.a_row);
      Form::template add<first * Form::vectors + j, tile_a, tile_b>();
      simd::load_tile<tile_a>(a + second * strip, o.a_row);
      Form::template add<second * Form::vectors + j, tile_a, tile_b>();
    }
    between(j);
  });
}

// `rows` rows of a strip are there (16 where Strips is 2).
template <class Form, int Strips>
__attribute__((noinline)) void multiply_tiles(const dot_operands o, int rows, tile_fetch next,
                                              bool continues, tile_memory<typename Form::sum> c) {
  constexpr int words = simd::tile_words;
  constexpr std::ptrdiff_t sum_bytes = sizeof(typename Form::sum);
  const auto begin = [&](bool from_memory) {
    for_each_sum_tile<Form, Strips>(c, [&](auto t, const auto* at) {
      from_memory ? simd::load_tile<t>(at, c.row * sum_bytes) : simd::zero_tile<t>();
    });
  };
  const auto end = [&] {
    for_each_sum_tile<Form, Strips>(
        c, [&](auto t, auto* at) { simd::store_tile<t>(at, c.row * sum_bytes); });
  };
  shape_strips(rows, words);
  begin(continues);
  const std::byte *a = o.a, *b = o.b, *fetch = next.from;
  for (std::ptrdiff_t left = o.steps / words; left > 0; --left) {
    add_tile_block<Form, Strips>(
        o, a, b, [&](auto j) __attribute__((always_inline)) {
          const int lines = next.lines * (j + 1) / Form::vectors - next.lines * j / Form::vectors;
          for (int i = 0; i < lines; ++i, fetch += 64) __builtin_prefetch(fetch, 0, 2);
        });
    a += words * dot_size<Form>::left_bytes, b += words * o.b_step;
  }
  end();
  if (const auto rest = static_cast<int>(o.steps % words); rest > 0) {
    shape_strips(rows, rest);
    begin(true);
    add_tile_block<Form, Strips>(o, a, b, [](auto) {});
    end();
  }
}

// 1 .. 16 or 32 rows.
template <class Form>
void multiply_tile_strip(int rows, const dot_operands& o, tile_fetch next, bool continues,
                         tile_memory<typename Form::sum> c) {
  if (rows > simd::tile_rows) {
    return multiply_tiles<Form, 2>(o, simd::tile_rows, next, continues, c);
  }
  multiply_tiles<Form, 1>(o, rows, next, continues, c);
}

}  // namespace deepseek::kernels
