// SPDX-License-Identifier: Apache-2.0
// quant_gemm: y[m, n] = s_m s_n (sum_k qx[m, k] qw[n, k] - z_m sum_k qw[n, k]) + bias[n]
// grouped_quant_gemm: the rows offsets[e] .. offsets[e + 1] - 1 meet the weight of expert e.
// Shapes: x [M, K], w int8_operand of [N, K] (or [E, N, K]), y [M, N], bias [N] or none,
// offsets [E + 1] int32. Rows of x become bytes first (quant/int8.hpp), once for all experts.
// Types: x and y any floating type; integers exact in 32 bits; the rest in accumulate_t of y: one
// rounding of the integer, one product of scales, one fma. Same bits for every thread count.
// Rows are independent except where the range is that of the whole call (per_call); rows behind
// offsets[E] (padding) belong to no expert: they are neither read nor written.
// Errors: shape_mismatch, offsets (as grouped_gemm), invalid_argument (K > 66311, a scale <= 0),
// nonfinite (x holds NaN, or an infinity where the range comes from x; an observed range saturates
// it). y is then untouched. Cost: 2 M N K integer operations, N K bytes.
#pragma once

#include "deepseek/ops/argument.hpp"
#include "deepseek/quant/int8.hpp"

namespace deepseek {

template <class W>
inline constexpr bool is_int8_operand = false;
template <class Space>
inline constexpr bool is_int8_operand<int8_operand<Space>> = true;

template <class Space>
void require_int8_operand(const int8_operand<Space>& w, index_t inner) {
  require(w.depth == inner, error_code::shape_mismatch, "quant_gemm: w[", w.scale.extent(1), ", ",
          w.depth, "] does not match x[.., ", inner, "]; the inner extents must be equal");
  require(w.depth <= int8_layout::deepest, error_code::invalid_argument, "quant_gemm: K is ",
          w.depth, ", more than ", int8_layout::deepest,
          " products of bytes do not fit 32 bits; split the layer");
  require_extent(w.q, 1, w.layout().size(), "quant_gemm: w.q");
  require_extent(w.scale, 0, w.q.extent(0), "quant_gemm: w.scale");
  require_same_shape(w.sum, w.scale, "quant_gemm: w.sum");
  require(w.q.contiguous() && w.scale.contiguous() && w.sum.contiguous(),
          error_code::invalid_argument,
          "quant_gemm: w is not contiguous; pass what make_weight wrote");
  require_data(w.q, "quant_gemm: w.q");
  require_data(w.scale, "quant_gemm: w.scale");
  require_data(w.sum, "quant_gemm: w.sum");
  if (w.range == activation_range::observed) {
    require_extent(w.x_scale, 0, 1, "quant_gemm: w.x_scale");
    require_extent(w.x_zero, 0, 1, "quant_gemm: w.x_zero");
    require_data(w.x_scale, "quant_gemm: w.x_scale");
    require_data(w.x_zero, "quant_gemm: w.x_zero");
  }
}

template <class B, class X, class Space, class Y>
void check_quant_gemm(const B& b, const X& x, const int8_operand<Space>& w, const Y& y) {
  check_spaces(b, x, w.q, y);
  static_assert(X::rank == 2 && Y::rank == 2, "deepseek::quant_gemm: pass x[M, K] and y[M, N]");
  require_int8_operand(w, x.extent(1));
  require_extent(y, 0, x.extent(0), "quant_gemm: y");
  require_extent(y, 1, w.scale.extent(1), "quant_gemm: y");
  require_data(x, "quant_gemm: x");
  require_data(y, "quant_gemm: y");
}

struct quant_gemm_op {
  static constexpr std::string_view name = "quant_gemm";

  template <class B, class X, class Space, class Y, class Bias = none>
  void operator()(const B& b, const X& x_in, const int8_operand<Space>& w, Y&& y_in,
                  const Bias& bias_in = {}) const {
    const auto x = as_const(as_view(x_in));
    const auto y = as_view(y_in);
    check_quant_gemm(b, x, w, y);
    require(w.experts() == 1, error_code::shape_mismatch, "quant_gemm: w holds ", w.experts(),
            " experts; call grouped_quant_gemm with offsets");
    const auto bias = const_or_none(bias_in);
    check_product_bias(b, bias, y, "quant_gemm: bias");
    if (!y.empty()) quant_gemm_impl(b, x, w, y, bias);
  }
};

struct grouped_quant_gemm_op {
  static constexpr std::string_view name = "grouped_quant_gemm";

  template <class B, class X, class Space, class O, class Y>
  void operator()(const B& b, const X& x_in, const int8_operand<Space>& w, const O& offsets_in,
                  Y&& y_in) const {
    const auto x = as_const(as_view(x_in));
    const auto offsets = as_const(as_view(offsets_in));
    const auto y = as_view(y_in);
    check_quant_gemm(b, x, w, y);
    check_expert_rows(b, offsets, w.experts(), y, "grouped_quant_gemm: offsets");
    if (!y.empty()) grouped_quant_gemm_impl(b, x, w, offsets, y);
  }
};

namespace ops {
inline constexpr quant_gemm_op quant_gemm{};
inline constexpr grouped_quant_gemm_op grouped_quant_gemm{};
}  // namespace ops

}  // namespace deepseek
