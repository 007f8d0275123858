// SPDX-License-Identifier: Apache-2.0
// head_shape<config>: sizes of the heads of an attention_config, views of rows as heads, the scale
// of scores and the rotation of queries and keys: what attention layers of several parts share.
#pragma once

#include "deepseek/layers/attention.hpp"

namespace deepseek {

template <attention_config C>
struct head_shape {
  static constexpr index_t H = C.heads, KVH = C.kv(), d = C.width(), Q = H * d, KV = KVH * d;

  static double scale() {
    if (C.scale != 0) return C.scale;
    return softmax_scale_factor(C.scaling) / std::sqrt(static_cast<double>(d));
  }
  template <class V>
  static auto heads(const V& v) {
    return as_heads<H, d>(v);
  }
  template <class V>
  static auto kv_heads(const V& v) {
    return as_heads<KVH, d>(v);
  }
  // Rotates rows of heads in place by their positions.
  template <class Call, class V>
  static void turn(const Call& c, const V& of_heads, rope_turn direction) {
    if constexpr (C.rope != rotary::none) {
      const rope_spec how{
          .theta = C.theta, .layout = layout_of(C.rope), .turn = direction, .scaling = C.scaling};
      rotate(c, how, of_heads);
    }
  }
};

// dx += the gradient of a linear part's input.
template <class Call, class P, class X, class DY, class DX, class K, class G>
void add_backward(const Call& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k, G& g) {
  const scope freed(c.scratch);
  const auto part =
      c.scratch.template make<typename DX::value_type, dyn, P::layer::in>(dx.extent(0));
  run_backward(c, p, x, dy, part, k, g);
  ops::add(c.backend, part, dx);
}

}  // namespace deepseek
