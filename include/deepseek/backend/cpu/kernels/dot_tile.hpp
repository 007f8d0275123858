// SPDX-License-Identifier: Apache-2.0
// The innermost product of narrow weights: rows of A against one panel of B with all sums in
// registers, as panel_tile.hpp does it for floats. A form says what one step along k is:
//   bf16_pairs  two bf16 of a row by two of a column, sums in float (simd::dot_pairs); where the
//               processor does not multiply pairs, two floats of a row by two bf16, one by one
//   f16_steps   one float of a row by one f16 of a column, sums in float, fused
//   float_steps one float of a row by one of a column, fused: what the two before become where many
//               rows meet a panel
//   byte_fours  four unsigned bytes of a row by four signed of a column, sums in exact int32; with
//               AVX2 alone the bytes of a row lie as words, the two even ones of four first
// A step is done in `parts`: one `left` of a row by what the form makes of a column's word. B: step
// after step, the columns of a panel side by side. A: rows of unit steps. Every sum runs
// over the steps in ascending order whatever the tile: same bits for every number of rows. While
// it multiplies, a tile fetches what memory has to bring next. Source: Goto and van de Geijn,
// "Anatomy of High-Performance Matrix Multiplication", 2008.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <type_traits>

#include "deepseek/backend/cpu/kernels/fetch.hpp"
#include "deepseek/backend/cpu/simd_narrow.hpp"
#include "deepseek/config.hpp"

namespace deepseek::kernels {

// Rows of a tile of float sums: what the registers hold beside the columns.
inline constexpr int dot_tile_rows = simd::register_count == 32 ? 8 : simd::has_fma ? 6 : 4;

template <class Raw>
DEEPSEEK_INLINE Raw load_register(const std::byte* p) {
  Raw r;
  __builtin_memcpy(&r, p, sizeof r);
  return r;
}

struct bf16_pairs {
  using sum = float;
  using left = std::conditional_t<simd::has_dot_pairs, std::int32_t, float>;  // what is broadcast
  using raw = simd::vector<std::int32_t>;
  using right = simd::vector<left>;
  static constexpr int parts = simd::has_dot_pairs ? 1 : 2;
  static constexpr int vectors = simd::register_count == 32 ? 3 : 2;
  static constexpr int rows = dot_tile_rows;
  // Elements of k; bytes of a step in one column of a panel; steps whose rows and columns are in
  // the first cache at once; tiles of rows from which on panels are widened to float_steps first
  // (0: never).
  static constexpr std::ptrdiff_t steps = 2, column_bytes = 4, chunk = parts == 1 ? 1024 : 256;
  static constexpr std::ptrdiff_t widened_strips = parts == 1 ? 0 : 6;
  // How far few rows fetch ahead, in bytes, and up to how many rows into the first cache. Measured,
  // a Zen 4 core, one row: compiled for AVX2 16 -> 20 GB/s at 8 KiB.
  static constexpr std::ptrdiff_t few_ahead = parts == 1 ? stream_ahead(true) : 8192;
  static constexpr int near_rows = 0;

  static DEEPSEEK_INLINE raw load(const std::byte* p) { return load_register<raw>(p); }
  template <int Part>
  static DEEPSEEK_INLINE right part(raw word) {
    if constexpr (simd::has_dot_pairs) {
      return std::bit_cast<right>(word);
    } else {
      if constexpr (Part == 0) return std::bit_cast<right>(word << 16);
      if constexpr (simd::register_count == 32) {
        return std::bit_cast<right>(word & static_cast<std::int32_t>(0xffff0000U));
      } else {  // shifted down and up: a mask would take the last register
        return std::bit_cast<right>(simd::native::rounded(word >> 16) << 16);
      }
    }
  }
  static DEEPSEEK_INLINE right spread(left x) { return x - right{}; }
  static DEEPSEEK_INLINE simd::vector<float> add(simd::vector<float> acc, right a, right b) {
    if constexpr (simd::has_dot_pairs) {
      return simd::dot_pairs(acc, std::bit_cast<raw>(a), std::bit_cast<raw>(b));
    } else {
      using floats = simd::vector<float>;
      return simd::fma_in_place(std::bit_cast<floats>(a), std::bit_cast<floats>(b), acc);
    }
  }
  // Two neighbours of each column against those of a row, `word_lefts` numbers.
  static constexpr int word_lefts = parts;
  static DEEPSEEK_INLINE simd::vector<float> add_word(simd::vector<float> acc, const left* x,
                                                      simd::vector<std::int32_t> word) {
    simd::unrolled<parts>([&](auto p) __attribute__((always_inline)) {
      acc = add(acc, spread(x[p]), part<p>(word));
    });
    return acc;
  }
};

struct f16_steps {
  using sum = float;
  using left = float;
  using raw = simd::half_words;
  using right = simd::vector<float>;
  static constexpr int parts = 1;
  static constexpr int vectors = bf16_pairs::vectors, rows = dot_tile_rows;
  static constexpr std::ptrdiff_t steps = 1, column_bytes = 2, widened_strips = 6;
  static constexpr std::ptrdiff_t chunk = simd::register_count == 32 ? 1024 : 512;
  // One row into the first cache: 19 -> 28 GB/s with AVX-512; 2 rows 8 KiB ahead instead of 4: 21
  // ->
  // 29. AVX2: 21 -> 25, from the second cache.
  static constexpr std::ptrdiff_t few_ahead = 8192;
  static constexpr int near_rows = simd::register_count == 32 ? 1 : 0;

  static DEEPSEEK_INLINE raw load(const std::byte* p) { return load_register<raw>(p); }
  template <int>
  static DEEPSEEK_INLINE right part(raw h) {
    return simd::widen_f16(h).v;
  }
  static DEEPSEEK_INLINE right spread(left x) { return x - right{}; }
  static DEEPSEEK_INLINE right add(right acc, right a, right b) {
    return simd::native::fma(a, b, acc);
  }
  static constexpr int word_lefts = 2;
  static DEEPSEEK_INLINE right add_word(right acc, const left* x, simd::vector<std::int32_t> word) {
    const auto low = __builtin_convertvector(word, simd::half_words);
    const auto high = __builtin_convertvector(word >> 16, simd::half_words);
    acc = add(acc, spread(x[0]), simd::widen_f16(low).v);
    return add(acc, spread(x[1]), simd::widen_f16(high).v);
  }
};

struct float_steps {
  using sum = float;
  using left = float;
  using raw = simd::vector<float>;
  using right = raw;
  static constexpr int parts = 1;
  static constexpr int vectors = bf16_pairs::vectors, rows = dot_tile_rows;
  static constexpr std::ptrdiff_t steps = 1, column_bytes = 4, widened_strips = 0;
  static constexpr std::ptrdiff_t chunk = f16_steps::chunk, few_ahead = stream_ahead(true);
  static constexpr int near_rows = 0;

  static DEEPSEEK_INLINE raw load(const std::byte* p) { return load_register<raw>(p); }
  template <int>
  static DEEPSEEK_INLINE right part(raw r) {
    return r;
  }
  static DEEPSEEK_INLINE right spread(left x) { return f16_steps::spread(x); }
  static DEEPSEEK_INLINE right add(right acc, right a, right b) {
    return simd::fma_in_place(a, b, acc);
  }
};

struct byte_fours {
  using sum = std::int32_t;
  using left = std::int32_t;
  using raw = simd::vector<std::int32_t>;
  using right = raw;
  static constexpr int parts = simd::prefers_dot_words ? 2 : 1;
  static constexpr int vectors = 2;
  static constexpr int rows = simd::register_count == 32 ? 8 : simd::prefers_dot_words ? 6 : 4;
  static constexpr std::ptrdiff_t steps = 4, column_bytes = 4, chunk = PTRDIFF_MAX;
  // AVX2, one row: 16 -> 23 GB/s at 12 KiB, 21 at 8.
  static constexpr std::ptrdiff_t few_ahead = parts == 1 ? stream_ahead(true) : 12288;
  static constexpr int near_rows = 0;

  static DEEPSEEK_INLINE raw load(const std::byte* p) { return load_register<raw>(p); }
  template <int Part>
  static DEEPSEEK_INLINE right part(raw four) {
    if constexpr (parts == 1) return four;
    return Part == 0 ? simd::even_bytes(four) : simd::odd_bytes(four);
  }
  static DEEPSEEK_INLINE right spread(left x) { return x - right{}; }
  static DEEPSEEK_INLINE right add(right acc, right a, right b) {
    if constexpr (parts == 1) return simd::dot_bytes(acc, a, b);
    return simd::dot_words(acc, a, b);
  }
};

// Forms that whole tiles multiply (tile_dots.hpp).
template <class Form>
concept TiledForm = requires {
  requires Form::tiled;
};

template <class Form>
struct dot_size {
  static constexpr int tile_words = 16;
  // Columns of a register of sums.
  static constexpr int width = TiledForm<Form> ? tile_words : simd::pack<float>::width;
  static constexpr int columns = Form::vectors * width, rows = Form::rows;
  static constexpr std::ptrdiff_t step_bytes = columns * Form::column_bytes;
  static constexpr int lines = static_cast<int>((step_bytes + 63) / 64);
  static constexpr std::ptrdiff_t left_bytes = Form::parts * sizeof(typename Form::left);
};

// `lines` cache lines at each step, from `from` on, `step` bytes further at the next.
struct line_fetch {
  int lines = 0;
  const std::byte* from = nullptr;
  std::ptrdiff_t step = 0;
};

struct dot_operands {
  const std::byte* a;
  std::ptrdiff_t a_row;  // bytes
  const std::byte* b;
  std::ptrdiff_t b_step;  // bytes
  std::ptrdiff_t steps;
  std::ptrdiff_t fetch_step = 0;  // bytes; panels of several lines a step: always b_step
  // So many of the tile's last rows are not there, of its last four at most all but one: the last
  // that is there is read again in their place, nothing is stored.
  int missing = 0;
};

template <class Sums>
struct plain_column {
  const Sums& sums;
  int j;

  template <class V>
  DEEPSEEK_INLINE void end(int i, V acc) const {
    sums.end(i, j, acc);
  }
};
template <class Sums>
DEEPSEEK_INLINE auto column_of(const Sums& sums, int j) {
  if constexpr (requires { sums.column(j); }) {
    return sums.column(j);
  } else {
    return plain_column<Sums>{sums, j};
  }
}

// sums.continues(): whether they start at sums.begin(i, j) instead of zero; sums.end(i, j, value)
// takes them: row i, register j. Where rows share what is done at the end, sums.column(j) holds it
// and its end(i, value) takes them.
template <class Form, int Rows, int Lines, class Sums>
__attribute__((noinline)) void multiply_dots(const dot_operands& o, const std::byte* fetch,
                                             const Sums& sums) {
  using left = typename Form::left;
  constexpr int vectors = Form::vectors;
  constexpr std::ptrdiff_t bytes = Form::column_bytes * dot_size<Form>::width;
  using sums_type = simd::vector<typename Form::sum>;
  sums_type acc[Rows * vectors];
  constexpr int fours = (Rows - 1) / 4;  // whole groups of four rows before the last group
  const int there = Rows - o.missing;
  if (sums.continues()) {
    simd::unrolled<Rows * vectors>([&](auto q) __attribute__((always_inline)) {
      acc[q] = sums.begin(std::min(q / vectors, there - 1), q % vectors);
    });
  } else {
    simd::unrolled<Rows * vectors>([&](auto q)
                                       __attribute__((always_inline)) { acc[q] = sums_type{}; });
  }
  const std::ptrdiff_t row = o.a_row, row3 = 3 * row, b_step = o.b_step;
  std::ptrdiff_t last[4];
  simd::unrolled<4>([&](auto i) __attribute__((always_inline)) {
    last[i] = std::min<int>(i, there - 1 - 4 * fours) * row;
  });
  const std::byte *b = o.b, *a0 = o.a, *a1 = a0 + 4 * row, *a2 = a1 + 4 * row;
  for (std::ptrdiff_t k = o.steps; k > 0; --k) {
    simd::unrolled<Form::parts>([&](auto part) __attribute__((always_inline)) {
      // The next part reads memory again: registers for both words and parts are not there.
      if constexpr (part > 0) asm("" : "+r"(b));
      typename Form::right right[vectors];
      simd::unrolled<vectors>([&](auto j) __attribute__((always_inline)) {
        right[j] = Form::template part<part>(Form::load(b + j * bytes));
      });
      if constexpr (part == 0 && Lines > 0) {
        simd::unrolled<Lines>([&](auto i) __attribute__((always_inline)) {
          __builtin_prefetch(fetch + i * 64, 0, Rows <= Form::near_rows ? 3 : 2);
        });
        fetch += Lines > 1 ? b_step : o.fetch_step;
      }
      simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
        const std::byte* group = i < 4 ? a0 : i < 8 ? a1 : a2;
        const std::ptrdiff_t at = i % 4 == 0       ? 0
                                  : i / 4 == fours ? last[i % 4]
                                  : i % 4 == 3     ? row3
                                                   : i % 4 * row;
        left x;
        __builtin_memcpy(&x, group + at + part * static_cast<std::ptrdiff_t>(sizeof x), sizeof x);
        const auto spread = Form::spread(x);
        simd::unrolled<vectors>([&](auto j) __attribute__((always_inline)) {
          acc[i * vectors + j] = Form::add(acc[i * vectors + j], spread, right[j]);
        });
      });
    });
    a0 += dot_size<Form>::left_bytes;
    if constexpr (Rows > 4) a1 += dot_size<Form>::left_bytes;
    if constexpr (Rows > 8) a2 += dot_size<Form>::left_bytes;
    b += b_step;
  }
  simd::unrolled<vectors>([&](auto j) __attribute__((always_inline)) {
    const auto to = column_of(sums, j);
    simd::unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
      if (i < there) [[likely]]
        to.end(i, acc[i * vectors + j]);
    });
  });
}

// The compiled tile for the first of `left` rows: where a few are missing the next taller one, for
// low tiles have too few sums at once, which wait for each other. (8 rows are better two tiles of 4
// than of 6 and 2.) Tiles are as low as the rows that are there.
template <class Form>
constexpr int dot_rows(std::ptrdiff_t left) {
  constexpr int most = Form::rows;
  if constexpr (TiledForm<Form>) {
    return static_cast<int>(left >= most ? most : std::min<std::ptrdiff_t>(left, most / 2));
  }
  if (most == 6 && (left == 7 || left == 8)) return 4;
  if (left > 8) return most;
  if (left > 4) return std::min(most, 8);
  return left >= 3 ? 4 : left >= 2 ? 2 : 1;
}
template <class Form>
constexpr std::ptrdiff_t dot_strips(std::ptrdiff_t rows) {
  const std::ptrdiff_t whole = std::max<std::ptrdiff_t>(rows / Form::rows - 1, 0);
  std::ptrdiff_t strips = whole;
  for (std::ptrdiff_t left = rows - whole * Form::rows; left > 0; left -= dot_rows<Form>(left)) {
    ++strips;
  }
  return strips;
}

template <class Form>
constexpr std::ptrdiff_t dot_steps(std::ptrdiff_t k) {
  return (k + Form::steps - 1) / Form::steps;
}

// Rows that meet a panel at once: at most so many, in blocks of nearly one height, whole tiles.
inline constexpr std::ptrdiff_t most_dot_rows = 1008;

constexpr std::ptrdiff_t dot_block(std::ptrdiff_t rows, std::ptrdiff_t most = most_dot_rows,
                                   std::ptrdiff_t tile = 24) {  // a multiple of a tile's rows
  const std::ptrdiff_t blocks = std::max<std::ptrdiff_t>((rows + most - 1) / most, 1);
  return std::max<std::ptrdiff_t>(((rows + blocks - 1) / blocks + tile - 1) / tile * tile, tile);
}
static_assert(dot_block(512) == 528 && dot_block(1009) == 528 && dot_block(0) == 24);

template <class Form, int Lines, class Sums>
void multiply_dots_of(int rows, const dot_operands& o, const std::byte* fetch, const Sums& sums) {
  switch (rows) {
    case 1:
      return multiply_dots<Form, 1, Lines>(o, fetch, sums);
    case 2:
      return multiply_dots<Form, 2, Lines>(o, fetch, sums);
    case 4:
      return multiply_dots<Form, 4, Lines>(o, fetch, sums);
    case 8:
      return multiply_dots<Form, std::min(Form::rows, 8), Lines>(o, fetch, sums);
    default:
      return multiply_dots<Form, Form::rows, Lines>(o, fetch, sums);
  }
}

template <class Form, class Sums>
void multiply_dots(int rows, dot_operands o, line_fetch next, const Sums& sums) {
  o.fetch_step = next.step;
  switch (next.lines) {
    case 0:
      return multiply_dots_of<Form, 0>(rows, o, nullptr, sums);
    case 1:
      return multiply_dots_of<Form, 1>(rows, o, next.from, sums);
    default:
      return multiply_dots_of<Form, dot_size<Form>::lines>(rows, o, next.from, sums);
  }
}

}  // namespace deepseek::kernels
