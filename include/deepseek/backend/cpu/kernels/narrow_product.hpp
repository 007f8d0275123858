// SPDX-License-Identifier: Apache-2.0
// The problem of gemm_dot.hpp for weights of 16 bits and sums in float: weights packed once or
// brought into panels on the way, results in float, bf16 or f16, rounded once after the epilogue.
#pragma once

#include <cstddef>
#include <type_traits>

#include "deepseek/backend/cpu/kernels/gemm_dot.hpp"
#include "deepseek/backend/cpu/kernels/narrow_panels.hpp"
#include "deepseek/backend/cpu/kernels/scratch.hpp"

namespace deepseek::kernels {

struct float_sums {
  float* at;
  std::ptrdiff_t row;
  start from;

  bool continues() const { return from == start::from_c; }
  DEEPSEEK_INLINE simd::vector<float> begin(int i, int j) const {
    return simd::pack<float>::load(at + i * row + j * simd::pack<float>::width).v;
  }
  DEEPSEEK_INLINE void end(int i, int j, simd::vector<float> acc) const {
    simd::pack<float>{acc}.store(at + i * row + j * simd::pack<float>::width);
  }
};

// C[m, n] in T with contiguous columns: c = or += what the epilogue makes of the product.
template <class T>
struct narrow_output {
  T* data;
  std::ptrdiff_t row;
  bool adds = false;
  epilogue<float> then = {};

  narrow_output at(std::ptrdiff_t m, std::ptrdiff_t n) const {
    return {data + m * row + n, row, adds, then.from(m, n)};
  }
};

// The sums of some rows and one panel: C's own place where it can hold them.
template <class T>
struct narrow_target {
  narrow_output<T> c;  // seen from the first element
  std::ptrdiff_t m, n;
  float* at;
  std::ptrdiff_t at_row;

  float_sums sums(std::ptrdiff_t i, std::ptrdiff_t k0) const {
    return {at + i * at_row, at_row, k0 == 0 ? start::zero : start::from_c};
  }
  // past_caches: results that are not read again soon (tile_dots.hpp).
  void close(bool past_caches = false) const {
    using pack = simd::pack<float>;
    finish(at, at_row, m, n, c.then);
    if constexpr (std::is_same_v<T, float>) {
      if (at == c.data) return;
    }
    for (std::ptrdiff_t i = 0; i < m; ++i) {
      T* const to = c.data + i * c.row;
      for (std::ptrdiff_t j = 0; j < n; j += pack::width) {
        pack x = pack::load(at + i * at_row + j);
        if (c.adds) x = x + simd::load_as_float(to + j, n - j);
        if constexpr (std::is_same_v<T, float>) {
          if (past_caches && n - j >= pack::width) {
            store_past_caches(to + j, x);
            continue;
          }
        }
        simd::store_from_float(to + j, x, n - j);
      }
    }
    if (past_caches) simd::end_of_streams();
  }
};

struct narrow_sums;

template <class Form, class T>
narrow_target<T> open_target(const narrow_output<T>& c, gemm_part at) {
  constexpr std::ptrdiff_t columns = dot_size<Form>::columns;
  const narrow_output<T> from = c.at(at.m0, at.n0);
  narrow_target<T> target{from, at.m1 - at.m0, at.n1 - at.n0, nullptr, columns};
  if constexpr (std::is_same_v<T, float>) {
    if (!c.adds && target.n == columns) {
      target.at = from.data, target.at_row = c.row;
      return target;
    }
  }
  target.at = scratch<narrow_sums, float>(static_cast<std::size_t>(target.m * columns));
  return target;
}

// Panels [n / columns][steps][columns], made once.
template <class Form>
struct packed_columns_of {
  static constexpr bool fetches = true;
  const std::byte* panels;
  std::ptrdiff_t deep;  // steps of k

  const std::byte* at(std::ptrdiff_t n0, std::ptrdiff_t k0, std::ptrdiff_t) const {
    return stored(n0, k0);
  }
  const std::byte* stored(std::ptrdiff_t n0, std::ptrdiff_t k0) const {
    using size = dot_size<Form>;
    return panels + (n0 / size::columns * deep + k0) * size::step_bytes;
  }
  static constexpr std::ptrdiff_t stored_step() { return dot_size<Form>::step_bytes; }
};

struct pair_panel;
struct step_panel;

// Panels made on the way, on the thread that needs them.
template <class Form>
struct loose_columns_of {
  static constexpr bool fetches = false;
  narrow_columns<dot_size<Form>::columns> from;

  const std::byte* at(std::ptrdiff_t n0, std::ptrdiff_t k0, std::ptrdiff_t steps) const {
    const std::ptrdiff_t words = (steps * Form::steps + 1) / 2;
    const auto size = static_cast<std::size_t>(from.panel_words(words));
    auto* const pairs = scratch<pair_panel, std::int32_t>(size);
    if constexpr (Form::steps == 2) {
      from.make_pairs(n0, k0, steps, pairs);
      return reinterpret_cast<const std::byte*>(pairs);
    } else {
      auto* const single = scratch<step_panel, std::uint16_t>(2 * size);
      from.make_steps(n0, k0, steps, pairs, single);
      return reinterpret_cast<const std::byte*>(single);
    }
  }
};

struct held_panels;

// The columns n0 .. n1 of loose ones as panels in scratch.
template <class Form>
packed_columns_of<Form> hold_panels(const narrow_columns<dot_size<Form>::columns>& from,
                                    std::ptrdiff_t n0, std::ptrdiff_t n1) {
  constexpr std::ptrdiff_t columns = dot_size<Form>::columns;
  const std::ptrdiff_t deep = dot_steps<Form>(from.k), panels = (n1 - n0 + columns - 1) / columns;
  auto* const words = scratch<held_panels, std::int32_t>(
      static_cast<std::size_t>(panels * deep * columns + from.panel_words(0)));
  for (std::ptrdiff_t i = 0; i < panels; ++i) {
    from.make_pairs(n0 + i * columns, 0, deep, words + i * deep * columns);
  }
  return {reinterpret_cast<const std::byte*>(words), deep};
}

struct float_panel;

// Panels of 16-bit columns as floats, widened once for all rows that meet them.
template <class Form, class Columns>
struct widened_columns {
  static constexpr bool fetches = Columns::fetches;
  Columns from;

  const std::byte* at(std::ptrdiff_t n0, std::ptrdiff_t k0, std::ptrdiff_t steps) const {
    constexpr std::ptrdiff_t columns = dot_size<Form>::columns, width = dot_size<Form>::width;
    const std::ptrdiff_t stored_steps = (steps + Form::steps - 1) / Form::steps;
    const std::byte* in = from.at(n0, k0 / Form::steps, stored_steps);
    auto* const floats =
        scratch<float_panel, float>(static_cast<std::size_t>(stored_steps * Form::steps * columns));
    float* out = floats;
    for (std::ptrdiff_t k = 0; k < stored_steps; ++k, out += Form::steps * columns) {
      simd::unrolled<Form::vectors>([&](auto j) __attribute__((always_inline)) {
        const auto raw = Form::load(in + j * width * Form::column_bytes);
        simd::unrolled<Form::parts>([&](auto p) __attribute__((always_inline)) {
          simd::pack<float>{Form::template part<p>(raw)}.store(out + p * columns + j * width);
        });
      });
      in += dot_size<Form>::step_bytes;
    }
    return reinterpret_cast<const std::byte*>(floats);
  }
  const std::byte* stored(std::ptrdiff_t n0, std::ptrdiff_t k0) const {
    return from.stored(n0, k0 / Form::steps);
  }
  static constexpr std::ptrdiff_t stored_step() { return Columns::stored_step() / Form::steps; }
};

template <class Form, class Weights, class T>
struct narrow_problem {
  using form = Form;
  static constexpr bool fetches = Weights::fetches;

  gemm_shape shape;
  const std::byte* a;
  std::ptrdiff_t a_row;  // bytes
  Weights b;
  narrow_output<T> c;

  const std::byte* left(std::ptrdiff_t m) const { return a + m * a_row; }
  std::ptrdiff_t row_bytes() const { return a_row; }
  const std::byte* weights(std::ptrdiff_t n0, std::ptrdiff_t k0, std::ptrdiff_t steps) const {
    return b.at(n0, k0, steps);
  }
  static constexpr std::ptrdiff_t weight_step(std::ptrdiff_t) { return dot_size<Form>::step_bytes; }
  const std::byte* stored(std::ptrdiff_t n0, std::ptrdiff_t k0) const { return b.stored(n0, k0); }
  static constexpr std::ptrdiff_t stored_step(std::ptrdiff_t) { return Weights::stored_step(); }
  auto widened() const requires(Form::widened_strips > 0) {
    using columns = widened_columns<Form, Weights>;
    return narrow_problem<float_steps, columns, T>{shape, a, a_row, {b}, c};
  }
  narrow_target<T> open(std::ptrdiff_t m0, std::ptrdiff_t m1, std::ptrdiff_t n0,
                        std::ptrdiff_t n) const {
    return open_target<Form>(c, {m0, m1, n0, n0 + n});
  }
  // Of whole tiles.
  void finish(tile_memory<float> sums, gemm_part at) const {
    narrow_target<T>{c.at(at.m0, at.n0), at.m1 - at.m0, at.n1 - at.n0, sums.data, sums.row}.close(
        passes_caches(at.m1 - at.m0, c.row));
  }
  auto held(std::ptrdiff_t n0, std::ptrdiff_t n1) const requires(!fetches) {
    const packed_columns_of<Form> panels = hold_panels<Form>(b.from, n0, n1);
    return narrow_problem<Form, packed_columns_of<Form>, T>{
        {shape.m, n1 - n0, shape.k}, a, a_row, panels, c.at(0, n0)};
  }
};

}  // namespace deepseek::kernels
