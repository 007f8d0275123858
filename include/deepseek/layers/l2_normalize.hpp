// SPDX-License-Identifier: Apache-2.0
// l2_normalize<D>: y = x / sqrt(sum(x^2) + eps), row by row: vectors of length 1, whose products
// are cosines. No parameters. Computed as an RMS norm whose weights are all 1 / sqrt(D): x, y
// [tokens, D], accumulation as there. A row of zeros stays zero.
#pragma once

#include "deepseek/layers/layer.hpp"
#include "deepseek/ops/rms_norm.hpp"

namespace deepseek {

struct l2_config {
  double eps = 1e-12;  // > 0, added to the sum of squares
  bool operator==(const l2_config&) const = default;
};

template <index_t D, l2_config C = l2_config{}>
struct l2_normalize {
  static_assert(D > 0,
                "deepseek::l2_normalize: the width is not positive; write l2_normalize<dim>");
  static_assert(C.eps > 0, "deepseek::l2_normalize: eps is not positive; write .eps = 1e-12");
  static constexpr index_t out = D;
  static constexpr const char* label = "l2";

  template <class Call, class P, class X, class Y, class K>
  static void forward(const Call& c, const P&, const X& x, const Y& y, K&) {
    static_assert(width_fits<X, D>,
                  "deepseek::l2_normalize: the input's width is not the layer's; write "
                  "l2_normalize<dim> with the width of the layer before it");
    const scope freed(c.scratch);
    ops::rms_norm(c.backend, x, row<typename Y::value_type>(c, factor), y, eps);
  }
  template <class Call, class P, class X, class DY, class DX, class K, class G>
  static void backward(const Call& c, const P&, const X& x, const DY& dy, const DX& dx, K&, G&) {
    using T = typename DX::value_type;
    const scope freed(c.scratch);
    const auto w = row<T>(c, factor), unused = row<T>(c, 0);
    ops::rms_norm_backward(c.backend, rms_norm_inputs{x, w}, dy, rms_norm_gradients{dx, unused},
                           eps);
  }

 private:
  static constexpr double eps = C.eps / static_cast<double>(D);  // of the mean
  static inline const double factor = 1 / std::sqrt(static_cast<double>(D));
  template <class T, class Call>
  static auto row(const Call& c, double value) {
    const auto w = c.scratch.template make<T, D>();
    ops::fill(c.backend, value, w);
    return w;
  }
};

}  // namespace deepseek
