// SPDX-License-Identifier: Apache-2.0
// rms_norm<D>: y = w * x / sqrt(mean(x^2) + eps). layer_norm<D>: y = w (x - mean) / sqrt(var + eps)
// + b. Nothing is saved: backward computes the row's statistics again from x. Sources: Zhang &
// Sennrich 2019 (RMSNorm); Ba, Kiros & Hinton 2016 (layer normalization).
#pragma once

#include "deepseek/layers/layer.hpp"
#include "deepseek/ops/layer_norm.hpp"
#include "deepseek/ops/rms_norm.hpp"

namespace deepseek {

struct norm_config {
  double eps = 1e-6;  // > 0, inside the square root
  bool operator==(const norm_config&) const = default;
};

template <index_t D, norm_config C = norm_config{}>
struct rms_norm {
  static_assert(D > 0, "deepseek::rms_norm: the width is not positive; write rms_norm<dim>");
  static_assert(C.eps > 0, "deepseek::rms_norm: eps is not positive; write .eps = 1e-6");
  static constexpr index_t out = D;
  static constexpr const char* label = "norm";

  template <class T, class S>
  struct parameters {
    using layer = rms_norm;
    tensor<T, S, D> weight;
    static constexpr auto fields() {
      return std::tuple{named("weight", &parameters::weight, first_value::one)};
    }
  };

  template <class Call, class P, class X, class Y, class K>
  static void forward(const Call& c, const P& p, const X& x, const Y& y, K&) {
    static_assert(width_fits<X, D>,
                  "deepseek::rms_norm: the input's width is not the layer's; write rms_norm<dim> "
                  "with the width of the layer before it");
    ops::rms_norm(c.backend, x, p.weight, y, C.eps);
  }
  template <class Call, class P, class X, class DY, class DX, class K, class G>
  static void backward(const Call& c, const P& p, const X& x, const DY& dy, const DX& dx, K&,
                       G& g) {
    ops::rms_norm_backward(c.backend, rms_norm_inputs{x, p.weight.view()}, dy,
                           rms_norm_gradients{dx, g.weight.view()}, C.eps);
  }
};

template <index_t D, norm_config C = norm_config{.eps = 1e-5}>
struct layer_norm {
  static_assert(D > 0, "deepseek::layer_norm: the width is not positive; write layer_norm<dim>");
  static_assert(C.eps > 0, "deepseek::layer_norm: eps is not positive; write .eps = 1e-5");
  static constexpr index_t out = D;
  static constexpr const char* label = "norm";

  template <class T, class S>
  struct parameters {
    using layer = layer_norm;
    tensor<T, S, D> weight, bias;
    static constexpr auto fields() {
      return std::tuple{named("weight", &parameters::weight, first_value::one),
                        named("bias", &parameters::bias, first_value::zero)};
    }
  };

  template <class Call, class P, class X, class Y, class K>
  static void forward(const Call& c, const P& p, const X& x, const Y& y, K&) {
    static_assert(width_fits<X, D>,
                  "deepseek::layer_norm: the input's width is not the layer's; write "
                  "layer_norm<dim> with the width of the layer before it");
    ops::layer_norm(c.backend, x, layer_norm_affine{p.weight.view(), p.bias.view()}, y, C.eps);
  }
  template <class Call, class P, class X, class DY, class DX, class K, class G>
  static void backward(const Call& c, const P& p, const X& x, const DY& dy, const DX& dx, K&,
                       G& g) {
    ops::layer_norm_backward(c.backend, layer_norm_inputs{x, p.weight.view()}, dy,
                             layer_norm_gradients{dx, g.weight.view(), g.bias.view()}, C.eps);
  }
};

}  // namespace deepseek
