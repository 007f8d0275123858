// SPDX-License-Identifier: Apache-2.0
// int4_int8_gemm: rows of x become signed bytes p with one scale a each, then
//   y[m, n] = a[m] sum_g s[n, g] (sum over k in g of (q[n, k] - z[n, g]) p[m, k]) + bias[n]
// (formulas: quant/int4_activations.hpp). grouped_int4_int8_gemm: the rows offsets[e] ..
// offsets[e + 1] - 1 meet the weight of expert e; rows behind belong to none: not read, not
// written. Shapes: x [M, K], w int4_activations_operand of [N, K] or [E, N, K], y [M, N], bias [N]
// or none, offsets [E + 1] int32. Types: x and y any floating type; a group's sum is an exact
// integer; groups in order, one fma each, then one fma with a and bias, in accumulate_t of y. Rows
// are independent; same bits for any threads. Errors: shape_mismatch, invalid_argument, config
// (group size), offsets (as grouped_gemm), nonfinite (x; y is then untouched). Cost: 2 M N K
// integer operations, the stored bytes of w once.
#pragma once

#include "deepseek/ops/weight_gemm.hpp"
#include "deepseek/quant/int4_activations.hpp"

namespace deepseek {

template <class W>
inline constexpr bool is_int4_activations = false;
template <class S, class Scale>
inline constexpr bool is_int4_activations<int4_activations_operand<S, Scale>> = true;

template <class B, class X, class W, class Y>
void check_int4_int8_gemm(const B& b, const X& x, const W& w, const Y& y) {
  static_assert(is_int4_activations<W>,
                "deepseek::int4_int8_gemm: w is no operand of int4_activations; pass "
                "weight.operand(), or int4 groups to weight_gemm");
  check_weight_gemm(b, x, w.weights, y);
}

struct int4_int8_gemm_op {
  static constexpr std::string_view name = "int4_int8_gemm";

  template <class B, class X, class W, class Y, class Bias = none>
  void operator()(const B& b, const X& x_in, const W& w, Y&& y_in, const Bias& bias_in = {}) const {
    const auto x = as_const(as_view(x_in));
    const auto y = as_view(y_in);
    check_int4_int8_gemm(b, x, w, y);
    require(w.experts() == 1, error_code::shape_mismatch, "int4_int8_gemm: w holds ", w.experts(),
            " experts; call grouped_int4_int8_gemm with offsets");
    const auto bias = const_or_none(bias_in);
    check_product_bias(b, bias, y, "int4_int8_gemm: bias");
    if (!y.empty()) int4_int8_gemm_impl(b, x, w, y, bias);
  }
};

struct grouped_int4_int8_gemm_op {
  static constexpr std::string_view name = "grouped_int4_int8_gemm";

  template <class B, class X, class W, class O, class Y>
  void operator()(const B& b, const X& x_in, const W& w, const O& offsets_in, Y&& y_in) const {
    const auto x = as_const(as_view(x_in));
    const auto offsets = as_const(as_view(offsets_in));
    const auto y = as_view(y_in);
    check_int4_int8_gemm(b, x, w, y);
    check_expert_rows(b, offsets, w.experts(), y, "grouped_int4_int8_gemm: offsets");
    if (!y.empty()) grouped_int4_int8_gemm_impl(b, x, w, offsets, y);
  }
};

namespace ops {
inline constexpr int4_int8_gemm_op int4_int8_gemm{};
inline constexpr grouped_int4_int8_gemm_op grouped_int4_int8_gemm{};
}  // namespace ops

}  // namespace deepseek
