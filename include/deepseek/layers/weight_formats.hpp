// SPDX-License-Identifier: Apache-2.0
// The products of linear with weights in weight-only formats (fp8 blocks, int8 channels, int4
// groups, mxfp4); those of a stack meet the rows of their segments. fp8_activations and
// int4_activations make codes of the inputs too.
#pragma once

#include "deepseek/layers/linear.hpp"
#include "deepseek/ops/fp8_gemm.hpp"
#include "deepseek/ops/int4_int8_gemm.hpp"
#include "deepseek/ops/weight_gemm.hpp"

namespace deepseek {

template <class W>
concept CodedWeight = requires(const W& w) {
  requires is_coded_operand<decltype(w.operand())>;
};
template <class W>
concept CodedInputs = CodedWeight<W> && requires {
  requires W::input == fp8_input::codes;
};

template <class C, class X, CodedWeight W, class Y, class Bias>
void weight_product(const C& c, const X& x, const W& w, const Y& y, const Bias& bias_view) {
  if constexpr (W::is_stack) {
    const auto& offsets = c.template get<segments>();
    if constexpr (CodedInputs<W>) {
      ops::grouped_fp8_gemm(c.backend, x, w.operand(), offsets, y);
    } else {
      ops::grouped_weight_gemm(c.backend, x, w.operand(), offsets, y);
    }
    if constexpr (is_view<Bias>) ops::add_expert_bias(c.backend, bias_view, offsets, y);
  } else if constexpr (CodedInputs<W>) {
    ops::fp8_gemm(c.backend, x, w.operand(), y, bias_view);
  } else {
    ops::weight_gemm(c.backend, x, w.operand(), y, bias_view);
  }
}

template <class W>
concept Int4Activations = requires(const W& w) {
  requires is_int4_activations<decltype(w.operand())>;
};
template <class C, class X, Int4Activations W, class Y, class Bias>
void weight_product(const C& c, const X& x, const W& w, const Y& y, const Bias& bias_view) {
  if constexpr (W::is_stack) {
    const auto& offsets = c.template get<segments>();
    ops::grouped_int4_int8_gemm(c.backend, x, w.operand(), offsets, y);
    if constexpr (is_view<Bias>) ops::add_expert_bias(c.backend, bias_view, offsets, y);
  } else {
    ops::int4_int8_gemm(c.backend, x, w.operand(), y, bias_view);
  }
}

}  // namespace deepseek
