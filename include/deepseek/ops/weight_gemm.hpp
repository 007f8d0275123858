// SPDX-License-Identifier: Apache-2.0
// weight_gemm: y = x W^T + bias for weights W in a weight-only format: the operand of quant/
// fp8_blocks.hpp, int4_groups.hpp, int8_channels.hpp, mxfp4.hpp or packed.hpp.
// grouped_weight_gemm: the rows offsets[e] .. offsets[e + 1] - 1 meet the weight of expert e.
// Shapes: x [M, K], W [N, K] (or [E, N, K]), y [M, N], bias [N] or none, offsets [E + 1] int32.
// Types: x and y any floating type. Every weight counts as the float it stands for (e4m3 or int8
// times its scale, rounded once; (q - z) s and e2m1 times a power of two, exact); then types, order
// of the sum and rounding are gemm's: the result is that of ops::gemm with these floats, on cpu bit
// for bit. Rows are independent.
// Errors: shape_mismatch, invalid_argument, aliasing (y overlaps x, the codes of W or bias), config
// (group size), offsets (as grouped_gemm). NaN codes give NaN in their column. Cost: 2 M N K flops;
// the stored bytes of W once for up to 8 rows on cpu.
#pragma once

#include "deepseek/ops/argument.hpp"
#include "deepseek/quant/fp8_blocks.hpp"
#include "deepseek/quant/int4_groups.hpp"
#include "deepseek/quant/int8_channels.hpp"
#include "deepseek/quant/mxfp4.hpp"
#include "deepseek/quant/packed.hpp"

namespace deepseek {

template <class W>
inline constexpr bool is_coded_operand = false;
template <class S>
inline constexpr bool is_coded_operand<fp8_operand<S>> = true;
template <class S, class Scale>
inline constexpr bool is_coded_operand<int4_operand<S, Scale>> = true;
template <class S>
inline constexpr bool is_coded_operand<int8_channels_operand<S>> = true;
template <class S>
inline constexpr bool is_coded_operand<mxfp4_operand<S>> = true;
template <class T, class S>
inline constexpr bool is_coded_operand<packed_operand<T, S>> = true;

template <class B, class X, class W, class Y>
void check_weight_gemm(const B& b, const X& x, const W& w, const Y& y) {
  static_assert(is_coded_operand<W>,
                "deepseek::weight_gemm: w is no operand of a weight-only format; pass "
                "weight.operand(), or a plain weight to gemm");
  static_assert(X::rank == 2 && Y::rank == 2, "deepseek::weight_gemm: pass x[M, K] and y[M, N]");
  check_spaces(b, x, w.q, y);
  w.check("weight_gemm: w");
  require_extent(x, 1, w.in(), "weight_gemm: x");
  require_extent(y, 0, x.extent(0), "weight_gemm: y");
  require_extent(y, 1, w.out(), "weight_gemm: y");
  require_data(x, "weight_gemm: x");
  require_data(y, "weight_gemm: y");
  require_apart(x, y, "weight_gemm: x");
  require_apart(w.q, y, "weight_gemm: w");
}

struct weight_gemm_op {
  static constexpr std::string_view name = "weight_gemm";

  template <class B, class X, class W, class Y, class Bias = none>
  void operator()(const B& b, const X& x_in, const W& w, Y&& y_in, const Bias& bias_in = {}) const {
    const auto x = as_const(as_view(x_in));
    const auto y = as_view(y_in);
    check_weight_gemm(b, x, w, y);
    require(w.experts() == 1, error_code::shape_mismatch, "weight_gemm: w holds ", w.experts(),
            " experts; call grouped_weight_gemm with offsets");
    const auto bias = const_or_none(bias_in);
    check_product_bias(b, bias, y, "weight_gemm: bias");
    if (!y.empty()) weight_gemm_impl(b, x, w, y, bias);
  }
};

struct grouped_weight_gemm_op {
  static constexpr std::string_view name = "grouped_weight_gemm";

  template <class B, class X, class W, class O, class Y>
  void operator()(const B& b, const X& x_in, const W& w, const O& offsets_in, Y&& y_in) const {
    const auto x = as_const(as_view(x_in));
    const auto offsets = as_const(as_view(offsets_in));
    const auto y = as_view(y_in);
    check_weight_gemm(b, x, w, y);
    check_expert_rows(b, offsets, w.experts(), y, "grouped_weight_gemm: offsets");
    if (!y.empty()) grouped_weight_gemm_impl(b, x, w, offsets, y);
  }
};

namespace ops {
inline constexpr weight_gemm_op weight_gemm{};
inline constexpr grouped_weight_gemm_op grouped_weight_gemm{};
}  // namespace ops

}  // namespace deepseek
