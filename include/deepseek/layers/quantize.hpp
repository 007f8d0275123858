// SPDX-License-Identifier: Apache-2.0
// quantize<Format>(b, model, calibration): the same model with its linear layers in another format;
// a new type, model<quantized<Net, Format>, T, B>. It runs and decodes like the plain one and has
// no backward. Formats whose range is found in each call need no calibration.
//   auto seen = m.calibration(); m.observe(b, x, seen);   // as often as there are typical inputs
//   auto small = ds::quantize<ds::w8a8>(b, m, seen);
// Embedding, router, norms, tied head and biases stay as they are.
// Errors: nonfinite (weights), invalid_argument (a layer was never calibrated).
#pragma once

#include "deepseek/layers/linear.hpp"
#include "deepseek/layers/model.hpp"
#include "deepseek/layers/weight_formats.hpp"
#include "deepseek/ops/quant_gemm.hpp"
#include "deepseek/quant/int8_weight.hpp"

namespace deepseek {

template <class W>
concept Int8Weight = requires(const W& w) {
  { w.operand() } -> std::same_as<int8_operand<typename W::space>>;
};

// Products with int8 weights; those of a stack meet the rows of their segments.
template <class C, class X, Int8Weight W, class Y, class Bias>
void weight_product(const C& c, const X& x, const W& w, const Y& y, const Bias& bias_view) {
  if constexpr (W::is_stack) {
    ops::grouped_quant_gemm(c.backend, x, w.operand(), c.template get<segments>(), y);
    if constexpr (is_view<Bias>) {
      ops::add_expert_bias(c.backend, bias_view, c.template get<segments>(), y);
    }
  } else {
    ops::quant_gemm(c.backend, x, w.operand(), y, bias_view);
  }
}

// A range over all rows of a call makes a row depend on the others.
template <index_t I, index_t O, class F, bias B>
inline constexpr bool rows_are_independent<linear<I, O, F, B>> =
    keeps_rows_apart<typename linear<I, O, F, B>::format>;
template <class L, class F>
inline constexpr bool rows_are_independent<quantized<L, F>> =
    keeps_rows_apart<F>&& rows_are_independent<L>;

// Nets that were trained for a format bring the ranges of their inputs (layers/fake_quantized.hpp).
template <class Net, class Format>
inline constexpr bool brings_ranges = false;

template <class Format, class Net, class T, class B>
model<quantized<Net, Format>, T, B> quantize(
    const B& b, const model<Net, T, B>& m,
    const typename model<Net, T, B>::calibration_type& seen) {
  static_assert(std::is_same_v<typename B::space, host>,
                "deepseek::quantize: weights are quantized on the host; quantize there and copy");
  model<quantized<Net, Format>, T, B> out(b);
  convert(m.parameters(), seen.kept(), out.parameters());
  return out;
}
template <class Format, class Net, class T, class B>
model<quantized<Net, Format>, T, B> quantize(const B& b, const model<Net, T, B>& m) {
  static_assert(!needs_calibration<Format> || brings_ranges<Net, Format>,
                "deepseek::quantize: this format needs the range of the inputs; pass a calibration "
                "as third argument or use w8a8_per_token");
  return quantize<Format>(b, m, m.calibration());
}

}  // namespace deepseek
