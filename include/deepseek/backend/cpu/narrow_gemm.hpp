// SPDX-License-Identifier: Apache-2.0
// gemm on the cpu for bf16 or f16 activations and weights of the same type, results in that type or
// float: sums in float over ascending k, rounded once, by the tiles of kernels/dot_tile.hpp.
//   bf16: whole tiles with AMX (kernels/tile_dots.hpp), else pairs of products with AVX-512 BF16
//   where that is fast (simd::has_dot_pairs); subnormal numbers count as zero in both
//   f16, and bf16 elsewhere: operands widen to float exactly; fused multiply-adds. Panels that many
//   rows meet are widened once
// Weights of any strides become panels on the way; without tiles up to 8 rows meet those of a
// layer, [out, in] seen transposed, in registers. Same bits for any number of rows and threads and
// as with packed weights (weight_gemm.hpp). An output with contiguous rows instead of columns, and
// no bias or function, is computed transposed; other outputs take the reference loops. Experts'
// products run one after the other.
#pragma once

#include "deepseek/backend/cpu/kernels/gemm_turned.hpp"
#include "deepseek/backend/cpu/mixed_gemm.hpp"
#include "deepseek/backend/cpu/rows.hpp"

namespace deepseek {

template <class T>
concept Narrow = std::same_as<T, bf16> || std::same_as<T, f16>;

// x and w of one narrow type, y of that type or float.
template <class X, class W, class Y>
inline constexpr bool narrow_product =
    Narrow<typename X::value_type>&& all_elements_are<typename X::value_type, W> &&
    (all_elements_are<typename X::value_type, Y> || all_elements_are<float, Y>);
template <class X, class Bias>
inline constexpr bool narrow_bias =
    simd_bias<float, Bias> || simd_bias<typename X::value_type, Bias>;

inline kernels::operand<std::uint16_t> words_of(const auto& v) {
  return {reinterpret_cast<const std::uint16_t*>(v.data()), v.stride(0), v.stride(1)};
}

// Rows of x as the kernels read them: where they are, or a copy in the workspace that holds `there`
// rows (those behind the last of x are zero).
struct narrow_rows {
  const std::byte* data;
  index_t row;  // bytes
};
template <class X>
narrow_rows pair_rows(const cpu& b, const X& x, index_t there) {
  const kernels::operand<std::uint16_t> from = words_of(x);
  const index_t m = x.extent(0), k = x.extent(1), words = (k + 1) / 2;
  // Many rows a large power of two apart would evict each other.
  const bool scattered = simd::has_tiles && m > 32 && from.row % 256 == 0;
  if (from.column == 1 && k % 2 == 0 && there == m && !scattered) {
    return {reinterpret_cast<const std::byte*>(from.data), 2 * from.row};
  }
  const index_t pitch = words + 16;
  std::int32_t* const to = b.workspace().template make<std::int32_t, dyn>(there * pitch).data();
  parallel_rows(b, m, std::max<index_t>(rows_per_task(k), 32), [&](index_t first, index_t last) {
    kernels::make_pair_rows(from.from(first, 0), {last - first, 0, k}, pitch, to + first * pitch);
  });
  std::fill(to + m * pitch, to + there * pitch, 0);
  return {reinterpret_cast<const std::byte*>(to), 4 * pitch};
}

// Row m of x as floats; one more is zero.
template <class X>
void widen_row(const X& x, index_t m, float* out) {
  const index_t k = x.extent(1);
  if (x.stride(1) == 1) {
    const auto* in = x.data() + m * x.stride(0);
    for (index_t i = 0; i < k; i += simd::pack<float>::width) {
      simd::load_as_float(in + i, k - i).store_up_to(out + i, k - i);
    }
  } else {
    for (index_t i = 0; i < k; ++i) out[i] = static_cast<float>(x(m, i));
  }
  out[k] = 0;
}
template <class X>
narrow_rows float_rows(const cpu& b, const X& x, index_t there) {
  const index_t m = x.extent(0), k = x.extent(1), pitch = k + 16;
  float* const to = b.workspace().template make<float, dyn>(there * pitch).data();
  parallel_rows(b, m, rows_per_task(k), [&](index_t first, index_t last) {
    for (index_t i = first; i < last; ++i) widen_row(x, i, to + i * pitch);
  });
  std::fill(to + m * pitch, to + there * pitch, 0.0F);
  return {reinterpret_cast<const std::byte*>(to), 4 * pitch};
}
using bf16_form = std::conditional_t<simd::has_tiles, kernels::bf16_tiles, kernels::bf16_pairs>;
template <class T>
using narrow_form = std::conditional_t<std::is_same_v<T, bf16>, bf16_form, kernels::f16_steps>;
template <class X>
narrow_rows left_rows(const cpu& b, const X& x, index_t there) {
  if constexpr (std::is_same_v<typename narrow_form<typename X::value_type>::left, std::int32_t>) {
    return pair_rows(b, x, there);
  } else {
    return float_rows(b, x, there);
  }
}

// The bias as floats in the workspace; null where there is none.
template <class Bias>
const float* float_bias(const cpu& b, const Bias& bias) {
  if constexpr (std::is_same_v<Bias, none>) {
    return nullptr;
  } else {
    float* const to = b.workspace().template make<float, dyn>(bias.extent(0)).data();
    for (index_t n = 0; n < bias.extent(0); ++n) to[n] = static_cast<float>(bias(n));
    return to;
  }
}

template <class Form, class Weights, class C>
auto narrow_problem_of(const narrow_rows& a, const Weights& w, index_t k, const C& c) {
  using T = typename C::value_type;
  return kernels::narrow_problem<Form, Weights, T>{
      {c.extent(0), c.extent(1), k}, a.data, a.row, w, {c.data(), c.stride(0)}};
}

template <class A, class W, class C, class Bias>
requires(C::rank == 2 && narrow_product<A, W, C> &&
         narrow_bias<A, Bias>) void gemm_impl(const cpu& b, const A& a, const W& w, const C& c,
                                              const gemm_epilogue<Bias>& epilogue) {
  const bool finished = !std::is_same_v<Bias, none> || epilogue.act != activation::none;
  if (!columns_contiguous(c)) {
    if (finished || c.stride(0) != 1) {
      return gemm_impl(static_cast<const reference&>(b), a, w, c, epilogue);
    }
    return gemm_impl(b, transposed(w), transposed(a), transposed(c), epilogue);
  }
  const scope freed(b.workspace());
  using form = narrow_form<typename A::value_type>;
  const index_t m = c.extent(0);
  const bool few = !kernels::TiledForm<form> && m <= kernels::most_turned_rows &&
                   (w.stride(0) == 1 || w.extent(0) == 1);
  const kernels::loose_columns_of<form> columns{{words_of(w), w.extent(0), w.extent(1)}};
  const narrow_rows rows = left_rows(b, a, m);
  auto p = narrow_problem_of<form>(rows, columns, a.extent(1), c);
  p.c.then = {float_bias(b, epilogue.bias), kernel_activation(epilogue.act)};
  p.c.adds = epilogue.how == update::add;
  if constexpr (!kernels::TiledForm<form>) {
    if (few) return kernels::gemm_turned(b.pool(), p);
  }
  kernels::gemm_dot(b.pool(), p);
}

}  // namespace deepseek
