// SPDX-License-Identifier: Apache-2.0
// linear<I, O, Format, Bias>: y = x W^T (+ b), W [O, I], x [tokens, I], y [tokens, O].
// On stacked weights [E, O, I] it is the grouped product: rows of expert e (tag `segments` in the
// call) meet weight e. Backward exists for the plain format: dx = dy W, dW += dy^T x, db += sum dy.
#pragma once

#include "deepseek/layers/layer.hpp"
#include "deepseek/ops/grouped_gemm.hpp"
#include "deepseek/quant/calibrate.hpp"
#include "deepseek/quant/format.hpp"
#include "deepseek/quant/make_weight.hpp"

namespace deepseek {

enum class bias { absent, present };

struct segments {};  // call tag: view of offsets [E + 1], the rows of each expert

// Products with a plain weight; formats add their own overloads beside their weight types.
template <class C, class X, class T, class S, index_t O, index_t I, class Y, class Bias>
void weight_product(const C& c, const X& x, const tensor<T, S, O, I>& w, const Y& y,
                    const Bias& bias_view) {
  ops::gemm(c.backend, x, transposed(w.view()), y, gemm_epilogue<Bias>{bias_view});
}
template <class C, class X, class T, index_t E, class S, index_t O, index_t I, class Y, class Bias>
void weight_product(const C& c, const X& x, const tensor<T, stacked<E, S>, O, I>& w, const Y& y,
                    const Bias& bias_view) {
  const auto& offsets = c.template get<segments>();
  ops::grouped_gemm(c.backend, x, transposed(w.view()), offsets, y);
  if constexpr (is_view<Bias>) ops::add_expert_bias(c.backend, bias_view, offsets, y);
}

template <index_t I, index_t O, class F = plain, bias Bias = bias::absent>
struct linear {
  static_assert(I > 0 && O > 0, "deepseek::linear: a size is not positive; write linear<in, out>");
  static constexpr index_t in = I, out = O;
  static constexpr const char* label = "linear";
  using format = F;
  template <class G>
  using with_format = linear<I, O, G, Bias>;

  template <class T, class S, bias B>
  struct storage_of {
    using layer = linear;
    static constexpr index_t experts = stack_of<S>::count;
    typename F::template weight<T, S, O, I> weight;
    static constexpr auto fields() { return std::tuple{named("weight", &storage_of::weight)}; }
  };
  template <class T, class S>
  struct storage_of<T, S, bias::present> {
    using layer = linear;
    static constexpr index_t experts = stack_of<S>::count;
    typename F::template weight<T, S, O, I> weight;
    tensor<T, S, O> bias;
    static constexpr auto fields() {
      return std::tuple{named("weight", &storage_of::weight),
                        named("bias", &storage_of::bias, first_value::zero)};
    }
  };
  template <class T, class S>
  using parameters = storage_of<T, S, Bias>;

  // The range of the inputs seen by a calibration.
  template <class T, class S>
  using observed = observed_range;

  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& x, const Y& y, K& k) {
    static_assert(width_fits<X, I>,
                  "deepseek::linear: the input's width is not the layer's; write linear<in, out> "
                  "with in = the width of the layer before it");
    if constexpr (Bias == bias::present) {
      weight_product(c, x, p.weight, y, p.bias.view());
    } else {
      weight_product(c, x, p.weight, y, none{});
    }
    if constexpr (observes<K>) {
      static_assert(std::is_same_v<typename X::space, host>,
                    "deepseek::linear: calibration runs on a host backend; calibrate on ds::cpu");
      observe_range(x, k.own);
    }
  }

  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P& p, const X& x, const DY& dy, const DX& dx, K&, G& g) {
    if constexpr (!std::is_same_v<F, plain>) {
      static_assert(std::is_same_v<F, plain>,
                    "deepseek::linear: a quantized layer has no backward; train the plain type and "
                    "quantize it after");
    } else if constexpr (is_stacked<decltype(p.weight)>) {
      ops::grouped_gemm_backward(
          c.backend,
          grouped_gemm_inputs{x, transposed(p.weight.view()), c.template get<segments>()}, dy,
          grouped_gemm_gradients{dx, transposed(g.weight.view())});
      if constexpr (Bias == bias::present) {
        ops::add_expert_sums(c.backend, dy, c.template get<segments>(), g.bias.view());
      }
    } else if constexpr (Bias == bias::present) {
      ops::gemm_backward(c.backend, gemm_inputs{x, transposed(p.weight.view())}, dy,
                         gemm_gradients{dx, transposed(g.weight.view()), g.bias.view()});
    } else {
      ops::gemm_backward(c.backend, gemm_inputs{x, transposed(p.weight.view())}, dy,
                         gemm_gradients{dx, transposed(g.weight.view())});
    }
  }

  template <class P, class K, class Q>
  static void convert(const P& p, const K& k, Q& q) {
    make_weight(typename Q::layer::format{}, p.weight, k.own, q.weight);
    if constexpr (Bias == bias::present) q.bias = p.bias;
  }
  // A weight in another format is shown as such, a plain one as the tensor that it is.
  template <class Visitor, class P>
  static void visit_plain(const tensor_name& at, Visitor&& f, P& p) {
    const tensor_name name{join_path(at.path, "weight"), at.role};
    if constexpr (std::is_same_v<F, plain>) {
      f(name, p.weight);
    } else {
      f(name, formatted<F, O, I, P::experts>{}, p.weight);
    }
    if constexpr (Bias == bias::present) {
      f({join_path(at.path, "bias"), at.role, first_value::zero}, p.bias);
    }
  }
};

}  // namespace deepseek
