// SPDX-License-Identifier: Apache-2.0
// quantize_fp8: rows of x as e4m3 codes with one scale for 128 neighbours:
//   s[m, j] = max(amax of x[m, 128 j ..], 1e-4) / 448 (or the next power of two), q = e4m3(x / s).
// fp8_gemm: x becomes such codes, then y[m, n] = sum_j s[m, j] S[n / 128, j] sum_k q[m, k] Q[n, k]
// + bias[n], k in block j; grouped_fp8_gemm: rows offsets[e] .. meet the weight of expert e.
// Shapes: x [M, K], codes [M, K], scales [M, ceil(K / 128)], W fp8_operand [N, K] or [E, N, K],
// y [M, N], bias [N] or none, offsets [E + 1] int32. Types: any floating x and y; codes and scales
// in float; inner sums are fma chains over k, each added to y's by one fma, in accumulate_t of y.
// Rows are independent; same bits for any threads. Errors: shape_mismatch, invalid_argument,
// offsets (as grouped_gemm), nonfinite (x; outputs are then untouched). Source: DeepSeek-V3 report
// (2024), section 3.3.
#pragma once

#include "deepseek/ops/weight_gemm.hpp"

namespace deepseek {

// codes [M, K] and scales [M, ceil(K / 128)], views or tensors.
template <class Q, class S>
struct fp8_rows {
  Q codes;
  S scale;
};
template <class Q, class S>
fp8_rows(Q&&, S&&) -> fp8_rows<argument_t<Q>, argument_t<S>>;

struct quantize_fp8_op {
  static constexpr std::string_view name = "quantize_fp8";

  template <class B, class X, class Q, class S>
  void operator()(const B& b, const X& x_in, const fp8_rows<Q, S>& out,
                  fp8_scales kind = fp8_scales::any) const {
    const auto x = as_const(as_view(x_in));
    const auto codes = as_view(out.codes);
    const auto scale = as_view(out.scale);
    check_spaces(b, x, codes, scale);
    static_assert(
        decltype(x)::rank == 2 && decltype(codes)::rank == 2 && decltype(scale)::rank == 2,
        "deepseek::quantize_fp8: pass x[M, K], codes[M, K], scales[M, ceil(K / 128)]");
    require_same_shape(codes, x, "quantize_fp8: codes");
    require_extent(scale, 0, x.extent(0), "quantize_fp8: scales");
    require_extent(scale, 1, fp8_blocks_in(x.extent(1)), "quantize_fp8: scales");
    require_data(x, "quantize_fp8: x");
    require_data(codes, "quantize_fp8: codes");
    require_data(scale, "quantize_fp8: scales");
    if (!x.empty()) quantize_fp8_impl(b, x, fp8_rows{codes, scale}, kind);
  }
};

struct fp8_gemm_op {
  static constexpr std::string_view name = "fp8_gemm";

  template <class B, class X, class Space, class Y, class Bias = none>
  void operator()(const B& b, const X& x_in, const fp8_operand<Space>& w, Y&& y_in,
                  const Bias& bias_in = {}) const {
    const auto x = as_const(as_view(x_in));
    const auto y = as_view(y_in);
    check_weight_gemm(b, x, w, y);
    require(w.experts() == 1, error_code::shape_mismatch, "fp8_gemm: w holds ", w.experts(),
            " experts; call grouped_fp8_gemm with offsets");
    const auto bias = const_or_none(bias_in);
    check_product_bias(b, bias, y, "fp8_gemm: bias");
    if (!y.empty()) fp8_gemm_impl(b, x, w, y, bias);
  }
};

struct grouped_fp8_gemm_op {
  static constexpr std::string_view name = "grouped_fp8_gemm";

  template <class B, class X, class Space, class O, class Y>
  void operator()(const B& b, const X& x_in, const fp8_operand<Space>& w, const O& offsets_in,
                  Y&& y_in) const {
    const auto x = as_const(as_view(x_in));
    const auto offsets = as_const(as_view(offsets_in));
    const auto y = as_view(y_in);
    check_weight_gemm(b, x, w, y);
    check_expert_rows(b, offsets, w.experts(), y, "grouped_fp8_gemm: offsets");
    if (!y.empty()) grouped_fp8_gemm_impl(b, x, w, offsets, y);
  }
};

namespace ops {
inline constexpr quantize_fp8_op quantize_fp8{};
inline constexpr fp8_gemm_op fp8_gemm{};
inline constexpr grouped_fp8_gemm_op grouped_fp8_gemm{};
}  // namespace ops

}  // namespace deepseek
