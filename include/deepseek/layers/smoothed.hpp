// SPDX-License-Identifier: Apache-2.0
// The products of linear with smoothed weights (quant/smoothed.hpp): inputs are scaled, then meet
// the weights of the format inside.
#pragma once

#include "deepseek/layers/quantize.hpp"
#include "deepseek/ops/scale_columns.hpp"
#include "deepseek/quant/smoothed.hpp"

namespace deepseek {

template <class C, class X, class Inner, class S, index_t I, class Y, class Bias>
void weight_product(const C& c, const X& x, const smoothed_weight<Inner, S, I>& w, const Y& y,
                    const Bias& bias_view) {
  const scope freed(c.scratch);
  const auto scaled = c.scratch.template make<typename X::value_type, dyn, I>(x.extent(0));
  ops::scale_columns(c.backend, x, w.input_scale, scaled);
  weight_product(c, as_const(scaled), w.inner, y, bias_view);
}

}  // namespace deepseek
