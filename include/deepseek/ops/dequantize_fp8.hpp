// SPDX-License-Identifier: Apache-2.0
// dequantize_fp8: y[m, k] = scale[m, k / 128] codes[m, k]: what quantize_fp8 (ops/fp8_gemm.hpp)
// wrote, as numbers. codes [M, K] e4m3, scales [M, ceil(K / 128)] float, y [M, K].
// Types: the product in float (exact for scales that are powers of two), rounded once to y. A NaN
// code gives NaN. Errors: shape_mismatch, invalid_argument (null data). Cost: one pass.
#pragma once

#include "deepseek/ops/fp8_gemm.hpp"

namespace deepseek {

struct dequantize_fp8_op {
  static constexpr std::string_view name = "dequantize_fp8";

  template <class B, class Q, class S, class Y>
  void operator()(const B& b, const fp8_rows<Q, S>& in, Y&& y_in) const {
    const auto codes = as_const(as_view(in.codes));
    const auto scale = as_const(as_view(in.scale));
    const auto y = as_view(y_in);
    check_spaces(b, codes, scale, y);
    static_assert(
        decltype(codes)::rank == 2 && decltype(scale)::rank == 2 && decltype(y)::rank == 2 &&
            std::is_same_v<typename decltype(codes)::value_type, f8_e4m3>,
        "deepseek::dequantize_fp8: pass codes[M, K] of f8_e4m3, scales[M, ceil(K / 128)], y[M, K]");
    require_same_shape(codes, y, "dequantize_fp8: codes");
    require_extent(scale, 0, y.extent(0), "dequantize_fp8: scales");
    require_extent(scale, 1, fp8_blocks_in(y.extent(1)), "dequantize_fp8: scales");
    require_data(codes, "dequantize_fp8: codes");
    require_data(scale, "dequantize_fp8: scales");
    require_data(y, "dequantize_fp8: y");
    if (!y.empty()) dequantize_fp8_impl(b, codes, scale, y);
  }
};
namespace ops {
inline constexpr dequantize_fp8_op dequantize_fp8{};
}

}  // namespace deepseek
