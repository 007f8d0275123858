// SPDX-License-Identifier: Apache-2.0
// C[m, n] = A[m, k] W[n, k]^T for weights of stored_weights.hpp: float activations, float sums.
// Every weight becomes the float it stands for, then the element is the fma chain over ascending k
// of kernels/gemm.hpp: same bits as gemm() on the weights as floats, for every m, tile and number
// of threads. Up to 8 rows decode in registers, so the stored bytes stream through once; more rows
// decode panels into scratch and run the tiles of gemm().
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>

#include "deepseek/backend/cpu/kernels/bf16_steps.hpp"
#include "deepseek/backend/cpu/kernels/gemm.hpp"
#include "deepseek/backend/cpu/kernels/stored_weights.hpp"
#include "deepseek/backend/cpu/kernels/turned_rows.hpp"

namespace deepseek::kernels {

template <class W>
struct stored_problem {
  gemm_shape shape;
  operand<float> a;
  W b;
  gemm_output<float> c;
};

template <class W>
concept WordForm = requires {
  W::per_word;
};

// Columns whose sums are in registers or the first cache level together.
inline constexpr std::ptrdiff_t stored_columns = 4 * simd::pack<float>::width;
inline constexpr std::ptrdiff_t most_few_rows = 8;

struct weight_words;
struct few_inputs;

// Some rows against the words of some columns: continues sums [Rows][stored_columns].
struct word_tile {
  word_block words;
  weight_place at;
  const float* x;  // step at.k0 of the first row
  std::ptrdiff_t x_row;
  float* sums;
};

// f(first step, number of steps, factors of the group's first step): full words, then the rest of
// one.
template <class W, class Factors, class F>
DEEPSEEK_INLINE void along_words(const W& w, std::ptrdiff_t steps, const Factors& factors,
                                 const F& f) {
  const std::ptrdiff_t group = w.group;
  for (std::ptrdiff_t k = 0; k < steps;) {
    const auto of_group = factors(k);
    const std::ptrdiff_t end = std::min(steps, k + group);
    for (; k + W::per_word <= end; k += W::per_word) f(k, W::per_word, of_group);
    if (k < end) f(k, static_cast<int>(end - k), of_group);
    k = end;
  }
}

template <class W, int Vectors>
struct vector_factors {
  typename W::factors_type of[Vectors];
};

template <class W, int Vectors>
DEEPSEEK_INLINE vector_factors<W, Vectors> factors_of(const W& w, std::ptrdiff_t k,
                                                      std::ptrdiff_t n) {
  vector_factors<W, Vectors> out;
  simd::unrolled<Vectors>([&](auto v) __attribute__((always_inline)) {
    out.of[v] = w.factors(k, n + v * simd::pack<float>::width);
  });
  return out;
}

template <class W, int Rows, int Vectors>
__attribute__((noinline)) void multiply_words(const W& w, const word_tile& t) {
  using pack = simd::pack<float>;
  constexpr int width = pack::width;
  constexpr std::ptrdiff_t ahead = 1024 / sizeof(std::int32_t);
  typename pack::raw acc[Rows * Vectors];
  const std::int32_t* from[Vectors];
  simd::unrolled<Rows * Vectors>([&](auto q) __attribute__((always_inline)) {
    acc[q] = pack::load(t.sums + q / Vectors * stored_columns + q % Vectors * width).v;
  });
  simd::unrolled<Vectors>([&](auto v) __attribute__((always_inline)) {
    from[v] = t.words.column(v * width);
  });
  const auto factors = [&](std::ptrdiff_t k) __attribute__((always_inline)) {
    return factors_of<W, Vectors>(w, t.at.k0 + k, t.at.n0);
  };
  const auto word = [&](std::ptrdiff_t k, int count, const vector_factors<W, Vectors>& f)
      __attribute__((always_inline)) {
    weight_word four[Vectors];
    simd::unrolled<Vectors>([&](auto v) __attribute__((always_inline)) {
      const std::int32_t* p = from[v] + k / W::per_word * word_block::lanes;
      if constexpr (Rows <= 2 && W::turned_bytes(1) == 0) __builtin_prefetch(p + ahead);
      __builtin_memcpy(&four[v], p, sizeof(weight_word));
    });
    simd::unrolled<W::per_word>([&](auto i) __attribute__((always_inline)) {
      if (i >= count) return;
      typename pack::raw right[Vectors];
      simd::unrolled<Vectors>([&](auto v) __attribute__((always_inline)) {
        right[v] = W::template value<i>(four[v], f.of[v]).v;
      });
      simd::unrolled<Rows>([&](auto r) __attribute__((always_inline)) {
        const auto left = pack::broadcast(t.x[r * t.x_row + k + i]).v;
        simd::unrolled<Vectors>([&](auto v) __attribute__((always_inline)) {
          acc[r * Vectors + v] = simd::native::fma(left, right[v], acc[r * Vectors + v]);
        });
      });
    });
  };
  along_words(w, t.at.k, factors, word);
  simd::unrolled<Rows * Vectors>([&](auto q) __attribute__((always_inline)) {
    pack{acc[q]}.store(t.sums + q / Vectors * stored_columns + q % Vectors * width);
  });
}

// As many vectors of columns at once as leave registers for the rows.
template <class W, int Rows>
void multiply_word_rows(const W& w, word_tile t) {
  constexpr int vectors = Rows <= 2 && simd::register_count == 32 ? 4 : 2;
  constexpr std::ptrdiff_t columns = vectors * simd::pack<float>::width;
  const word_tile all = t;
  for (std::ptrdiff_t j = 0; j < stored_columns; j += columns) {
    t.at.n0 = all.at.n0 + j;
    t.words.data = all.words.column(j);
    t.sums = all.sums + j;
    multiply_words<W, Rows, vectors>(w, t);
  }
}

// The most rows that are compiled, at once; returns how many.
template <class W>
std::ptrdiff_t multiply_some_rows(const W& w, const word_tile& t, std::ptrdiff_t left) {
  if (left >= 8) return multiply_word_rows<W, 8>(w, t), 8;
  if (left >= 4) return multiply_word_rows<W, 4>(w, t), 4;
  if (left >= 2) return multiply_word_rows<W, 2>(w, t), 2;
  return multiply_word_rows<W, 1>(w, t), 1;
}

// Rows whose steps are neighbours.
inline operand<float> unit_steps(operand<float> a, std::ptrdiff_t m, std::ptrdiff_t k) {
  if (a.column == 1) return a;
  float* const copy = scratch<few_inputs, float>(static_cast<std::size_t>(m * k));
  for (std::ptrdiff_t i = 0; i < m; ++i) {
    for (std::ptrdiff_t p = 0; p < k; ++p) copy[i * k + p] = *a.at(i, p);
  }
  return {copy, k, 1};
}

template <WordForm W>
std::int32_t* word_scratch(std::ptrdiff_t n, std::ptrdiff_t k) {
  return scratch<weight_words, std::int32_t>(static_cast<std::size_t>(
      n / word_block::lanes * turned_words(W::turned_bytes(std::min(k, W::chunk)))));
}

inline constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

template <class W, class F>
void mark_nan(const word_block& words, weight_place at, const F& mark) {
  if constexpr (requires { W::for_each_nan(words, at, mark); }) {
    W::for_each_nan(words, at, mark);
  }
}

template <WordForm W>
void multiply_few(const stored_problem<W>& p, gemm_part part) {
  alignas(64) float sums[most_few_rows * stored_columns];
  const std::ptrdiff_t rows = part.m1 - part.m0, depth = p.shape.k;
  const operand<float> a = unit_steps(p.a.from(part.m0, 0), rows, depth);
  std::int32_t* const store = word_scratch<W>(std::max(stored_columns, word_block::lanes), depth);
  for (std::ptrdiff_t n0 = part.n0; n0 < part.n1; n0 += stored_columns) {
    std::fill_n(sums, rows * stored_columns, 0.0F);
    for (std::ptrdiff_t k0 = 0; k0 < depth; k0 += std::min(depth, W::chunk)) {
      const weight_place at{k0, std::min(W::chunk, depth - k0), n0, stored_columns};
      const word_block words = p.b.words(at, store);
      for (std::ptrdiff_t i = 0; i < rows;) {
        i += multiply_some_rows(p.b, {words, at, a.at(i, k0), a.row, sums + i * stored_columns},
                                rows - i);
      }
      mark_nan<W>(words, at, [&](std::ptrdiff_t, std::ptrdiff_t j) {
        for (std::ptrdiff_t r = 0; r < rows; ++r) sums[r * stored_columns + j] = not_a_number;
      });
    }
    const gemm_output<float> c = p.c.at(part.m0, n0);
    const std::ptrdiff_t n = std::min(stored_columns, part.n1 - n0);
    for (std::ptrdiff_t i = 0; i < rows; ++i) {
      std::copy_n(sums + i * stored_columns, n, c.data + i * c.row);
    }
    finish(c.data, c.row, rows, n, c.then);
  }
}

// A panel [k][tile columns] of floats.
template <WordForm W>
void decode_panel(const W& w, weight_place at, float* out) {
  using pack = simd::pack<float>;
  constexpr int columns = tile_size<float>::columns, vectors = columns / pack::width;
  constexpr std::ptrdiff_t n = std::max<std::ptrdiff_t>(columns, word_block::lanes);
  std::int32_t* const store = word_scratch<W>(n, at.k);
  for (std::ptrdiff_t k0 = 0; k0 < at.k; k0 += std::min(at.k, W::chunk)) {
    const weight_place part{at.k0 + k0, std::min(W::chunk, at.k - k0), at.n0, n};
    const word_block words = w.words(part, store);
    float* const to = out + k0 * columns;
    const auto factors = [&](std::ptrdiff_t k) __attribute__((always_inline)) {
      return factors_of<W, vectors>(w, part.k0 + k, part.n0);
    };
    along_words(
        w, part.k, factors,
        [&](std::ptrdiff_t k, int count,
            const vector_factors<W, vectors>& f) __attribute__((always_inline)) {
          simd::unrolled<vectors>([&](auto v) __attribute__((always_inline)) {
            weight_word word;
            __builtin_memcpy(&word,
                             words.column(v * pack::width) + k / W::per_word * word_block::lanes,
                             sizeof word);
            simd::unrolled<W::per_word>([&](auto i) __attribute__((always_inline)) {
              if (i >= count) return;
              W::template value<i>(word, f.of[v]).store(to + (k + i) * columns + v * pack::width);
            });
          });
        });
    mark_nan<W>(words, part, [&](std::ptrdiff_t k, std::ptrdiff_t j) {
      if (j < columns) to[k * columns + j] = not_a_number;
    });
  }
}

template <WordForm W>
void decode_panels(const W& w, weight_place at, float* out) {
  constexpr std::ptrdiff_t columns = tile_size<float>::columns;
  for (std::ptrdiff_t j = 0; j < at.n; j += columns) {
    decode_panel(w, {at.k0, at.k, at.n0 + j, columns}, out + j * at.k);
  }
}

// Blocks as in tile_gemm(), with panels that are decoded instead of copied.
template <class W>
void tile_gemm_stored(const stored_problem<W>& p, gemm_part part) {
  constexpr std::ptrdiff_t columns = tile_size<float>::columns, most_k = gemm_blocks<float>::k;
  const std::ptrdiff_t m = part.m1 - part.m0, depth = p.shape.k;
  const std::ptrdiff_t most_n =
      WordForm<W> && m <= tile_size<float>::rows ? columns : gemm_blocks<float>::n;
  float* const panels = scratch<packed_columns, float>(static_cast<std::size_t>(
      std::min(depth, most_k) * columns * panels_of<float>(std::min(part.n1 - part.n0, most_n))));
  for (std::ptrdiff_t n0 = part.n0; n0 < part.n1; n0 += most_n) {
    const std::ptrdiff_t n = std::min(most_n, part.n1 - n0);
    const gemm_output<float> c = p.c.at(part.m0, n0);
    tile_operands<float> o{};
    o.c = c.data, o.c_row = c.row, o.from = start::zero, o.b = panels, o.b_step = columns;
    for (std::ptrdiff_t k0 = 0; k0 == 0 || k0 < depth; k0 += most_k) {
      const std::ptrdiff_t k = std::min(most_k, depth - k0);
      decode_panels(p.b, {k0, k, n0, n}, panels);
      multiply_block({m, n, k}, p.a.from(part.m0, k0), o, k * columns);
      o.from = start::from_c;
    }
    finish(c.data, c.row, m, n, c.then);
  }
}

inline void multiply_few(const stored_problem<bf16_matrix>& p, gemm_part part) {
  const gemm_output<float> c = p.c.at(part.m0, part.n0);
  const std::ptrdiff_t m = part.m1 - part.m0, n = part.n1 - part.n0;
  multiply_bf16_few({p.b.data + part.n0, p.b.row, p.a.from(part.m0, 0), p.shape.k, c.data, c.row},
                    m, n);
  finish(c.data, c.row, m, n, c.then);
}

// Floats by two neighbours of bf16, one after the other.
struct bf16_words {
  using sum = float;
  using left = float;
  static constexpr int word_lefts = 2;

  static DEEPSEEK_INLINE simd::vector<float> add_word(simd::vector<float> acc, const left* x,
                                                      weight_word word) {
    simd::unrolled<2>([&](auto i) __attribute__((always_inline)) {
      acc = simd::native::fma(simd::pack<float>::broadcast(x[i]).v, bf16_rows::value<i>(word, {}).v,
                              acc);
    });
    return acc;
  }
};

// One or two rows by words that turn in registers and are written nowhere (absorbed values of
// V2-Lite, a Zen 5 core: 17 -> 22 GB/s; more rows widen each word once by multiply_few). k is even:
// rows of A end with whole words.
inline constexpr std::ptrdiff_t most_turned_words = 2;
inline void multiply_turned_few(const stored_problem<bf16_rows>& p, gemm_part part) {
  const std::ptrdiff_t rows = part.m1 - part.m0, n = part.n1 - part.n0, row = 2 * p.b.row;
  const operand<float> a = unit_steps(p.a.from(part.m0, 0), rows, p.shape.k);
  const gemm_output<float> c = p.c.at(part.m0, part.n0);
  const turning_rows weights{as_bytes(p.b.data + part.n0 * p.b.row), row, n, 2 * p.shape.k,
                             turned_ahead(row)};
  auto order = order_after(weights, simd::pack<float>::width);
  multiply_turned_rows<bf16_words>(
      {as_bytes(a.data), a.row * static_cast<std::ptrdiff_t>(sizeof(float)),
       left_word_bytes<bf16_words>, static_cast<int>(rows)},
      weights.in(order), [&](std::ptrdiff_t j) {
        return sums_in_c<float>{c.data + j, c.row, n - j, start::zero};
      });
  finish(c.data, c.row, rows, n, c.then);
}

template <class W>
void run_stored_part(const stored_problem<W>& p, gemm_part part) {
  if constexpr (std::is_same_v<W, bf16_matrix>) {
    if (p.shape.m <= most_few_rows && p.b.column == 1) return multiply_few(p, part);
  }
  if constexpr (std::is_same_v<W, bf16_rows>) {
    if (p.shape.m <= most_turned_words && p.shape.k % 2 == 0) return multiply_turned_few(p, part);
  }
  if constexpr (WordForm<W>) {
    if (p.shape.m <= most_few_rows) return multiply_few(p, part);
  }
  tile_gemm_stored(p, part);
}

// Columns first: a weight is then decoded once for all rows.
template <class W>
gemm_split split_of(const stored_problem<W>& p, std::ptrdiff_t wanted) {
  const std::ptrdiff_t units = (p.shape.n + stored_columns - 1) / stored_columns;
  const std::ptrdiff_t columns = std::clamp<std::ptrdiff_t>(units, 1, wanted);
  const std::ptrdiff_t strips = (p.shape.m + tile_size<float>::rows - 1) / tile_size<float>::rows;
  if (p.shape.m <= most_few_rows) return {1, columns};
  return {std::clamp<std::ptrdiff_t>(wanted / columns, 1, strips), columns};
}

template <class W>
void run_part(const stored_problem<W>& p, gemm_split split, std::ptrdiff_t task) {
  run_stored_part(p, part_of(p.shape, {tile_size<float>::rows, stored_columns, 0}, split, task));
}

template <class W>
void gemm_stored(thread_pool& pool, const stored_problem<W>& p) {
  if (p.shape.m <= 0 || p.shape.n <= 0) return;
  if (runs_serially(pool, p.shape)) return run_stored_part(p, {0, p.shape.m, 0, p.shape.n});
  const gemm_split split = split_of(p, 8 * pool.threads());
  pool.parallel(split.rows * split.columns, [&](std::ptrdiff_t task) { run_part(p, split, task); });
}

// Independent products in one parallel region: the segments of experts.
template <class W>
void gemm_stored(thread_pool& pool, std::span<const stored_problem<W>> problems) {
  const std::ptrdiff_t wanted = parts_each(pool, problems.size());
  const auto split = [&](const stored_problem<W>& p) {
    return runs_serially(pool, p.shape) ? gemm_split{1, 1} : split_of(p, wanted);
  };
  std::ptrdiff_t tasks = 0;
  for (const auto& p : problems) tasks += split(p).rows * split(p).columns;
  pool.parallel(tasks, [&](std::ptrdiff_t task) {
    for (const auto& p : problems) {
      const gemm_split parts = split(p);
      if (task < parts.rows * parts.columns) return run_part(p, parts, task);
      task -= parts.rows * parts.columns;
    }
  });
}

}  // namespace deepseek::kernels
