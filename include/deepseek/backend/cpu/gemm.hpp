// SPDX-License-Identifier: Apache-2.0
// gemm, grouped_gemm and add_column_sums on the cpu: kernels/gemm.hpp for float and double operands
// of any strides. c needs unit stride in one direction (its transpose is computed where that is the
// rows); bf16 weights: mixed_gemm.hpp; other outputs, mixed and 16-bit types take the reference
// loops.
// c += a b forms the product apart and adds it once, so adding twice is exactly twice as much.
#pragma once

#include "deepseek/backend/cpu/context.hpp"
#include "deepseek/backend/cpu/kernels/gemm.hpp"
#include "deepseek/backend/reference/gemm.hpp"

#include <vector>

namespace deepseek {

template <class T, class... V>
inline constexpr bool all_elements_are = (std::is_same_v<typename V::value_type, T> && ...);
template <class... V>
inline constexpr bool simd_elements =
    all_elements_are<float, V...> || all_elements_are<double, V...>;

// A bias of another element type takes the reference loops.
template <class T, class Bias>
inline constexpr bool simd_bias = std::is_same_v<Bias, none>;
template <class T, class U, class S, index_t N>
inline constexpr bool simd_bias<T, view<U, S, N>> = std::is_same_v<std::remove_const_t<U>, T>;

constexpr kernels::activation kernel_activation(activation act) {
  switch (act) {
    case activation::relu:
      return kernels::activation::relu;
    case activation::silu:
      return kernels::activation::silu;
    case activation::gelu:
      return kernels::activation::gelu;
    case activation::none:
      break;
  }
  return kernels::activation::none;
}

template <class V>
auto kernel_operand(const V& v) {
  return kernels::operand<typename V::value_type>{v.data(), v.stride(0), v.stride(1)};
}

// The product written to a c whose columns are contiguous.
template <class A, class W, class C>
auto gemm_problem_of(const A& a, const W& w, const C& c) {
  using T = typename C::value_type;
  return kernels::gemm_problem<T>{{c.extent(0), c.extent(1), a.extent(1)},
                                  kernel_operand(a),
                                  kernel_operand(w),
                                  {c.data(), c.stride(0)}};
}

template <class C>
bool columns_contiguous(const C& c) {
  return c.stride(1) == 1 || c.extent(1) == 1;
}

// c += t, row by row in parallel; both have contiguous columns.
template <class X, class C>
void add_rows(const cpu& b, const X& x, const C& c) {
  constexpr index_t chunk = 32;
  using T = typename C::value_type;
  b.parallel((c.extent(0) + chunk - 1) / chunk, [&](index_t task) {
    const index_t end = std::min(c.extent(0), (task + 1) * chunk);
    for (index_t m = task * chunk; m < end; ++m) {
      T* to = c.data() + m * c.stride(0);
      const T* from = x.data() + m * x.stride(0);
      for (index_t n = 0; n < c.extent(1); ++n) to[n] += from[n];
    }
  });
}

template <class A, class W, class C, class Bias>
requires(
    C::rank == 2 && simd_elements<A, W, C> &&
    simd_bias<typename C::value_type, Bias>) void gemm_impl(const cpu& b, const A& a, const W& w,
                                                            const C& c,
                                                            const gemm_epilogue<Bias>& epilogue) {
  using T = typename C::value_type;
  constexpr bool biased = !std::is_same_v<Bias, none>;
  const bool adds = epilogue.how == update::add;
  const bool finished = biased || epilogue.act != activation::none;
  if (!columns_contiguous(c) && !finished && c.stride(0) == 1) {
    return gemm_impl(b, transposed(w), transposed(a), transposed(c), epilogue);
  }
  bool direct = columns_contiguous(c);
  if constexpr (biased) {
    direct = direct && (epilogue.bias.stride(0) == 1 || epilogue.bias.extent(0) == 1);
  }
  if (!direct) return gemm_impl(static_cast<const reference&>(b), a, w, c, epilogue);
  const scope freed(b.workspace());
  view<T, host, dyn, dyn> target(c);
  if (adds) target = b.workspace().template make<T, dyn, dyn>(c.extent(0), c.extent(1));
  auto problem = gemm_problem_of(a, w, target);
  if constexpr (biased) problem.c.then.bias = epilogue.bias.data();
  problem.c.then.function = kernel_activation(epilogue.act);
  kernels::gemm(b.pool(), problem);
  if (adds) add_rows(b, as_const(target), c);
}

// A batch that is only written, with contiguous columns, is one parallel region.
template <class A, class W, class C>
requires(C::rank == 3 && simd_elements<A, W, C>) void gemm_impl(const cpu& b, const A& a,
                                                                const W& w, const C& c,
                                                                const gemm_epilogue<>& epilogue) {
  using T = typename C::value_type;
  if (epilogue.act != activation::none || epilogue.how == update::add ||
      !columns_contiguous(slice(c, 0))) {
    for (index_t i = 0; i < c.extent(0); ++i) {
      gemm_impl(b, slice(a, i), slice(w, i), slice(c, i), epilogue);
    }
    return;
  }
  std::vector<kernels::gemm_problem<T>>& problems = b.template problems<T>();
  problems.clear();
  for (index_t i = 0; i < c.extent(0); ++i) {
    problems.push_back(gemm_problem_of(slice(a, i), slice(w, i), slice(c, i)));
  }
  kernels::gemm(b.pool(), std::span<const kernels::gemm_problem<T>>(problems));
}

// Sums over fixed chunks of rows, added in order of the chunks.
template <class X, class Y>
requires simd_elements<X, Y>
void add_column_sums_impl(const cpu& b, const X& x, const Y& out) {
  using T = typename Y::value_type;
  constexpr index_t chunk = 256;
  const index_t width = x.extent(1), chunks = (x.extent(0) + chunk - 1) / chunk;
  const scope freed(b.workspace());
  auto partial = b.workspace().template make<T, dyn, dyn>(chunks, width);
  b.parallel(chunks, [&](index_t task) {
    T* sums = &partial(task, 0);
    std::fill(sums, sums + width, T(0));
    const index_t end = std::min(x.extent(0), (task + 1) * chunk);
    for (index_t n = task * chunk; n < end; ++n) {
      for (index_t d = 0; d < width; ++d) sums[d] += x(n, d);
    }
  });
  for (index_t d = 0; d < width; ++d) {
    T sum = 0;
    for (index_t i = 0; i < chunks; ++i) sum += partial(i, d);
    out(d) += sum;
  }
}

// All experts' products in one parallel region.
template <class X, class W, class O, class Y>
requires simd_elements<X, W, Y>
void grouped_gemm_impl(const cpu& b, const X& x, const W& w, const O& offsets, const Y& y) {
  using T = typename Y::value_type;
  if (!columns_contiguous(y)) {
    return grouped_gemm_impl(static_cast<const reference&>(b), x, w, offsets, y);
  }
  std::vector<kernels::gemm_problem<T>>& problems = b.template problems<T>();
  problems.clear();
  for_each_expert(offsets, [&](index_t e, index_t first, index_t count) {
    problems.push_back(gemm_problem_of(rows(x, first, count), slice(w, e), rows(y, first, count)));
  });
  kernels::gemm(b.pool(), std::span<const kernels::gemm_problem<T>>(problems));
}

// dw[e] += x_e^T dy_e: the products apart, in one region, then added where they belong.
template <class X, class DY, class O, class DW>
requires simd_elements<X, DY, DW>
void grouped_gemm_weight_gradient_impl(const cpu& b, const X& x, const DY& dy, const O& offsets,
                                       const DW& dw) {
  using T = typename DW::value_type;
  if (dw.stride(2) != 1 && dw.stride(1) == 1) {
    return grouped_gemm_weight_gradient_impl(b, dy, x, offsets, transposed(dw));
  }
  if (dw.stride(2) != 1) {
    return grouped_gemm_weight_gradient_impl(static_cast<const reference&>(b), x, dy, offsets, dw);
  }
  const scope freed(b.workspace());
  auto product =
      b.workspace().template make<T, dyn, dyn, dyn>(dw.extent(0), dw.extent(1), dw.extent(2));
  std::vector<kernels::gemm_problem<T>>& problems = b.template problems<T>();
  problems.clear();
  for_each_expert(offsets, [&](index_t e, index_t first, index_t count) {
    problems.push_back(gemm_problem_of(transposed(rows(x, first, count)), rows(dy, first, count),
                                       slice(product, e)));
  });
  kernels::gemm(b.pool(), std::span<const kernels::gemm_problem<T>>(problems));
  for_each_expert(offsets, [&](index_t e, index_t, index_t) {
    add_rows(b, as_const(slice(product, e)), slice(dw, e));
  });
}

// The reference's sums, in parallel over fixed chunks of each expert's rows.
template <class Bias, class O, class Y>
requires simd_elements<Bias, Y>
void add_expert_bias_impl(const cpu& b, const Bias& bias, const O& offsets, const Y& y) {
  constexpr index_t chunk = 64;
  for_each_expert(offsets, [&](index_t e, index_t first, index_t count) {
    b.parallel((count + chunk - 1) / chunk, [&](index_t task) {
      const index_t end = first + std::min(count, (task + 1) * chunk);
      for (index_t r = first + task * chunk; r < end; ++r) {
        for (index_t n = 0; n < y.extent(1); ++n) y(r, n) += bias(e, n);
      }
    });
  });
}

}  // namespace deepseek
