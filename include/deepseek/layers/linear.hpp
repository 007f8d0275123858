// SPDX-License-Identifier: Apache-2.0
// linear<I, O, Format, Bias>: y = x W^T (+ b), W [O, I], x [tokens, I], y [tokens, O].
// On stacked weights [E, O, I] it is the grouped product: rows of expert e (tag `segments` in the
// call) meet weight e. Backward: dx = dy W, dW += dy^T x, db += sum dy for the plain format;
// formats that are trained have their own (quant/fake.hpp); others have none.
#pragma once

#include "deepseek/layers/activity.hpp"
#include "deepseek/layers/layer.hpp"
#include "deepseek/ops/grouped_gemm.hpp"
#include "deepseek/quant/calibrate.hpp"
#include "deepseek/quant/format.hpp"
#include "deepseek/quant/make_weight.hpp"
#include "deepseek/quant/only.hpp"

namespace deepseek {

enum class bias { absent, present };

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

// What the backward of a trained format gets and adds to; dbias [out] (or [experts, out]) or none.
template <class X, class W>
struct weight_product_inputs {
  X x;
  const W& weight;
};
template <class X, class W>
weight_product_inputs(X, const W&) -> weight_product_inputs<X, W>;
template <class DX, class DW, class DBias>
struct weight_product_gradients {
  DX dx;
  DW& weight;
  DBias dbias;
};
template <class DX, class DW, class DBias>
weight_product_gradients(DX, DW&, DBias) -> weight_product_gradients<DX, DW, DBias>;

template <index_t I, index_t O, class F = plain, bias Bias = bias::absent>
struct linear {
  static_assert(I > 0 && O > 0, "deepseek::linear: a size is not positive; write linear<in, out>");
  static constexpr index_t in = I, out = O;
  static constexpr const char* label = "linear";
  static constexpr bool stacks = true;  // on the weights of many experts at once
  using format = chosen_format<F, linear<I, O, plain, Bias>>;
  template <class G>
  using with_format = linear<I, O, G, Bias>;

  template <class T, class S, bias B>
  struct storage_of {
    using layer = linear;
    static constexpr index_t experts = stack_of<S>::count;
    static constexpr bool is_stack = !std::is_same_v<typename stack_of<S>::space, S>;
    typename format::template weight<T, S, O, I> weight;
    static constexpr auto fields() { return std::tuple{named("weight", &storage_of::weight)}; }
  };
  template <class T, class S>
  struct storage_of<T, S, bias::present> {
    using layer = linear;
    static constexpr index_t experts = stack_of<S>::count;
    static constexpr bool is_stack = !std::is_same_v<typename stack_of<S>::space, S>;
    typename format::template weight<T, S, O, I> weight;
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
  template <class T, class S>
  using activity = column_activity;

  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& x, const Y& y, K& k) {
    check_width<X>();
    if constexpr (Bias == bias::present) {
      weight_product(c, x, p.weight, y, p.bias.view());
    } else {
      weight_product(c, x, p.weight, y, none{});
    }
    keep_input(c, p, x, k);
  }
  template <class X>
  static constexpr void check_width() {
    static_assert(width_fits<X, I>,
                  "deepseek::linear: the input's width is not the layer's; write linear<in, out> "
                  "with in = the width of the layer before it");
  }
  // What a run keeps of its input beside the product.
  template <class C, class P, class X, class K>
  static void keep_input(const C& c, const P& p, const X& x, K& k) {
    static_cast<void>(c), static_cast<void>(p), static_cast<void>(x), static_cast<void>(k);
    if constexpr (observes<K>) {
      static_assert(std::is_same_v<typename X::space, host>,
                    "deepseek::linear: calibration runs on a host backend; calibrate on ds::cpu");
      observe(c, p, x, k.own);
    }
    if constexpr (keeps_activity<K>) observe_columns(x, segments_of<P>(c), k.own);
  }

  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P& p, const X& x, const DY& dy, const DX& dx, K&, G& g) {
    if constexpr (TrainedFormat<format>) {
      if constexpr (Bias == bias::present) {
        weight_product_backward(c, weight_product_inputs{x, p.weight}, dy,
                                weight_product_gradients{dx, g.weight, g.bias.view()});
      } else {
        weight_product_backward(c, weight_product_inputs{x, p.weight}, dy,
                                weight_product_gradients{dx, g.weight, none{}});
      }
    } else if constexpr (!std::is_same_v<format, plain>) {
      static_assert(std::is_same_v<format, plain>,
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

  // The rows of each expert, where weights are a stack.
  template <class P, class C>
  static auto segments_of(const C& c) {
    if constexpr (P::experts > 1) {
      return as_const(c.template get<segments>());
    } else {
      return none{};
    }
  }

  template <class P, class K, class Q>
  static void convert(const std::string& path, const P& p, const K& k, Q& q) {
    working_on(path, [&] { make_weight(typename Q::layer::format{}, p.weight, k.own, q.weight); });
    if constexpr (Bias == bias::present) q.bias = p.bias;
  }
  // A weight in another format is shown as such, a plain one as the tensor that it is.
  template <class Visitor, class P>
  static void visit_plain(const tensor_name& at, Visitor&& f, P& p) {
    const tensor_name name{join_path(at.path, "weight"), at.role};
    if constexpr (std::is_same_v<format, plain>) {
      f(name, p.weight);
    } else {
      f(name, formatted<format, O, I, P::experts>{}, p.weight);
    }
    if constexpr (Bias == bias::present) {
      f({join_path(at.path, "bias"), at.role, first_value::zero}, p.bias);
    }
  }

 private:
  // Rows that meet no expert (padding behind the last segment) do not count.
  template <class C, class P, class X>
  static void observe(const C& c, const P& p, const X& x, observed_range& seen) {
    if constexpr (P::is_stack) {
      const auto& offsets = c.template get<segments>();
      const auto met = rows(x, 0, offsets(offsets.extent(0) - 1));
      observe_range(met, seen);
      sample_rows(
          met,
          [&](index_t n) {
            std::int32_t e = 0;
            while (offsets(e + 1) <= n) ++e;
            return e;
          },
          seen.sample);
    } else {
      static_cast<void>(c), static_cast<void>(p);
      observe_range(x, seen);
      sample_rows(
          x, [](index_t) { return 0; }, seen.sample);
    }
  }
};

}  // namespace deepseek
