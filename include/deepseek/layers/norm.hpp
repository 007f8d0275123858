// SPDX-License-Identifier: Apache-2.0
// rms_norm<D>: y = w * x / sqrt(mean(x^2) + eps). layer_norm<D>: y = w (x - mean) / sqrt(var + eps)
// + b. Nothing is saved: backward computes the row's statistics again from x. Inside an expert each
// expert's rows meet its own weights. Sources: Zhang &
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
  static constexpr bool stacks = true;

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
    if constexpr (is_stacked<decltype(p.weight)>) {
      for_each_segment(c, [&](index_t e, index_t first, index_t n) {
        ops::rms_norm(c.backend, rows(x, first, n), slice(p.weight.view(), e), rows(y, first, n),
                      C.eps);
      });
    } else {
      ops::rms_norm(c.backend, x, p.weight, y, C.eps);
    }
  }
  template <class Call, class P, class X, class DY, class DX, class K, class G>
  static void backward(const Call& c, const P& p, const X& x, const DY& dy, const DX& dx, K&,
                       G& g) {
    const auto run = [&](const auto& xs, const auto& w, const auto& dys, const auto& to) {
      ops::rms_norm_backward(c.backend, rms_norm_inputs{xs, w}, dys, to, C.eps);
    };
    if constexpr (is_stacked<decltype(p.weight)>) {
      for_each_segment(c, [&](index_t e, index_t first, index_t n) {
        run(rows(x, first, n), slice(p.weight.view(), e), rows(dy, first, n),
            rms_norm_gradients{rows(dx, first, n), slice(g.weight.view(), e)});
      });
    } else {
      run(x, p.weight.view(), dy, rms_norm_gradients{dx, g.weight.view()});
    }
  }
};

template <index_t D, norm_config C = norm_config{.eps = 1e-5}>
struct layer_norm {
  static_assert(D > 0, "deepseek::layer_norm: the width is not positive; write layer_norm<dim>");
  static_assert(C.eps > 0, "deepseek::layer_norm: eps is not positive; write .eps = 1e-5");
  static constexpr index_t out = D;
  static constexpr const char* label = "norm";
  static constexpr bool stacks = true;

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
    if constexpr (is_stacked<decltype(p.weight)>) {
      for_each_segment(c, [&](index_t e, index_t first, index_t n) {
        ops::layer_norm(c.backend, rows(x, first, n),
                        layer_norm_affine{slice(p.weight.view(), e), slice(p.bias.view(), e)},
                        rows(y, first, n), C.eps);
      });
    } else {
      ops::layer_norm(c.backend, x, layer_norm_affine{p.weight.view(), p.bias.view()}, y, C.eps);
    }
  }
  template <class Call, class P, class X, class DY, class DX, class K, class G>
  static void backward(const Call& c, const P& p, const X& x, const DY& dy, const DX& dx, K&,
                       G& g) {
    const auto run = [&](const auto& xs, const auto& w, const auto& dys, const auto& to) {
      ops::layer_norm_backward(c.backend, layer_norm_inputs{xs, w}, dys, to, C.eps);
    };
    if constexpr (is_stacked<decltype(p.weight)>) {
      for_each_segment(c, [&](index_t e, index_t first, index_t n) {
        run(rows(x, first, n), slice(p.weight.view(), e), rows(dy, first, n),
            layer_norm_gradients{rows(dx, first, n), slice(g.weight.view(), e),
                                 slice(g.bias.view(), e)});
      });
    } else {
      run(x, p.weight.view(), dy, layer_norm_gradients{dx, g.weight.view(), g.bias.view()});
    }
  }
};

}  // namespace deepseek
