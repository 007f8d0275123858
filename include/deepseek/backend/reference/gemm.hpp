// SPDX-License-Identifier: Apache-2.0
// Reference forms of gemm, add_column_sums and grouped_gemm: plain loops over views of any strides.
// Sums run over k = 0 .. K-1 in accumulate_t of the output.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/core/dtype.hpp"
#include "deepseek/core/math.hpp"
#include "deepseek/ops/grouped_gemm.hpp"

#include <algorithm>

namespace deepseek {

template <class A>
A activated(activation act, A x) {
  switch (act) {
    case activation::relu:
      return x < A(0) ? A(0) : x;  // NaN stays NaN
    case activation::silu:
      return math::silu(x);
    case activation::gelu:
      return math::gelu(x);
    case activation::none:
      break;
  }
  return x;
}

template <class A, class W, class C, class Bias>
requires(C::rank == 2) void gemm_impl(const reference& b, const A& a, const W& w, const C& c,
                                      const gemm_epilogue<Bias>& epilogue) {
  b.runs_loops(gemm_op::name);
  using T = typename C::value_type;
  using Acc = accumulate_t<T>;
  for (index_t m = 0; m < c.extent(0); ++m) {
    for (index_t n = 0; n < c.extent(1); ++n) {
      Acc sum = 0;
      for (index_t k = 0; k < a.extent(1); ++k) {
        sum += static_cast<Acc>(a(m, k)) * static_cast<Acc>(w(k, n));
      }
      if constexpr (!std::is_same_v<Bias, none>) sum += static_cast<Acc>(epilogue.bias(n));
      sum = activated(epilogue.act, sum);
      if (epilogue.how == update::add) sum += static_cast<Acc>(c(m, n));
      c(m, n) = static_cast<T>(sum);
    }
  }
}

// A batch is one product after the other, on any backend that has the single product.
template <class B, class A, class W, class C, class Bias>
requires(C::rank == 3 && std::is_base_of_v<reference, B>) void gemm_impl(
    const B& b, const A& a, const W& w, const C& c, const gemm_epilogue<Bias>& epilogue) {
  for (index_t i = 0; i < c.extent(0); ++i) {
    gemm_impl(b, slice(a, i), slice(w, i), slice(c, i), epilogue);
  }
}

template <class X, class Y>
void add_column_sums_impl(const reference& b, const X& x, const Y& out) {
  b.runs_loops(add_column_sums_op::name);
  using Acc = accumulate_t<typename Y::value_type>;
  for (index_t d = 0; d < x.extent(1); ++d) {
    Acc sum = 0;
    for (index_t n = 0; n < x.extent(0); ++n) sum += static_cast<Acc>(x(n, d));
    out(d) = static_cast<typename Y::value_type>(static_cast<Acc>(out(d)) + sum);
  }
}

// Calls f(expert, first row, rows) for every expert that has rows.
template <class O, class F>
void for_each_expert(const O& offsets, const F& f) {
  for (index_t e = 0; e + 1 < offsets.extent(0); ++e) {
    const index_t first = offsets(e), count = offsets(e + 1) - first;
    if (count > 0) f(e, first, count);
  }
}

// One product per expert, by the backend's own gemm.
template <class B, class X, class W, class O, class Y>
requires std::is_base_of_v<reference, B>
void grouped_gemm_impl(const B& b, const X& x, const W& w, const O& offsets, const Y& y) {
  for_each_expert(offsets, [&](index_t e, index_t first, index_t count) {
    gemm_impl(b, rows(x, first, count), slice(w, e), rows(y, first, count), gemm_epilogue<>{});
  });
}
template <class B, class X, class DY, class O, class DW>
requires std::is_base_of_v<reference, B>
void grouped_gemm_weight_gradient_impl(const B& b, const X& x, const DY& dy, const O& offsets,
                                       const DW& dw) {
  for_each_expert(offsets, [&](index_t e, index_t first, index_t count) {
    gemm_impl(b, transposed(rows(x, first, count)), rows(dy, first, count), slice(dw, e),
              gemm_adds);
  });
}

template <class Bias, class O, class Y>
void add_expert_bias_impl(const reference&, const Bias& bias, const O& offsets, const Y& y) {
  using T = typename Y::value_type;
  using Acc = accumulate_t<T>;
  for_each_expert(offsets, [&](index_t e, index_t first, index_t count) {
    for (index_t r = first; r < first + count; ++r) {
      for (index_t n = 0; n < y.extent(1); ++n) {
        y(r, n) = static_cast<T>(static_cast<Acc>(y(r, n)) + static_cast<Acc>(bias(e, n)));
      }
    }
  });
}
template <class B, class X, class O, class Y>
requires std::is_base_of_v<reference, B>
void add_expert_sums_impl(const B& b, const X& x, const O& offsets, const Y& out) {
  for_each_expert(offsets, [&](index_t e, index_t first, index_t count) {
    add_column_sums_impl(b, rows(x, first, count), slice(out, e));
  });
}

}  // namespace deepseek
