// SPDX-License-Identifier: Apache-2.0
// A router of two layers: l = W2 gelu(W1 x + b1) + b2, and what a softmax gate makes of it.
// dynamic_router (double softmax): the logits handed on are softmax(l) + offset, so that the gate's
// softmax is the second one; offset [E] is a learned parameter, the same in every run, drawn 0.1
// N(0, 1) (draw_offset). softmax(l) lies in 0 .. 1, so that without offset no weight exceeds
// e / (e + E - 1) (0.28 of 8 experts) or is below 1 / (e (E - 1) + 1): a flat choice, which cannot
// sharpen, and whose gradient goes through two softmaxes.
// sound_dynamic_router: the logits are l; in training plus N(0, deviation^2), drawn anew: one
// softmax, sharp where it learns to be, and the noise explores. Weights in both: the softmax
// scores of the K largest, as they are. Everything in accumulate_t. Source of gelu: Hendrycks &
// Gimpel 2016.
#pragma once

#include "deepseek/layers/gate.hpp"
#include "deepseek/layers/noisy_gate.hpp"
#include "deepseek/ops/activation.hpp"
#include "deepseek/ops/softmax.hpp"

namespace deepseek {

enum class router_form { double_softmax, sound };

struct dynamic_config {
  index_t hidden = 256;    // width of the first layer
  double deviation = 0.1;  // of the noise in training, >= 0; router_form::sound only
  bool operator==(const dynamic_config&) const = default;
};

template <index_t D, index_t E, dynamic_config C, router_form Form>
struct dynamic_scores {
  static_assert(C.hidden > 0 && C.deviation >= 0,
                "deepseek::dynamic_router: hidden is not positive or deviation is negative; write "
                ".hidden = 256, .deviation = 0.1");
  static constexpr index_t H = C.hidden;
  static constexpr bool doubled = Form == router_form::double_softmax;

  template <class A, class S>
  struct layers {
    tensor<A, S, H, D> w1;
    tensor<A, S, H> b1;
    tensor<A, S, E, H> w2;
    tensor<A, S, E> b2;
    static constexpr auto fields() {
      return std::tuple{named("w1.weight", &layers::w1), named("w1.bias", &layers::b1),
                        named("w2.weight", &layers::w2), named("w2.bias", &layers::b2)};
    }
  };
  template <class A, class S>
  struct layers_and_offset : layers<A, S> {
    tensor<A, S, E> offset;
    static constexpr auto fields() {
      return std::tuple_cat(layers<A, S>::fields(),
                            std::tuple{named("offset", &layers_and_offset::offset)});
    }
  };
  template <class T, class S>
  struct parameters : std::conditional_t<doubled, layers_and_offset<accumulate_t<T>, S>,
                                         layers<accumulate_t<T>, S>> {};
  template <class T, class S>
  struct saved {
    view<accumulate_t<T>, S, dyn, H> before, after;  // of gelu
    view<accumulate_t<T>, S, dyn, E> first;          // the first softmax
  };

  template <class Call, class P, class X, class Y, class Kept>
  static void forward(const Call& c, const P& p, const X& x, const Y& logits, Kept& k) {
    using A = typename Y::value_type;
    const scope freed(c.scratch);
    auto& memory = c.template arena_for<Kept>();
    auto before = memory.template make<A, dyn, H>(x.extent(0));
    auto after = memory.template make<A, dyn, H>(x.extent(0));
    ops::gemm(c.backend, x, transposed(p.w1.view()), before, gemm_epilogue{p.b1.view()});
    ops::gelu(c.backend, before, after);
    ops::gemm(c.backend, after, transposed(p.w2.view()), logits, gemm_epilogue{p.b2.view()});
    if constexpr (keeps_tape<Kept>) k.own = {before, after, {}};
    if constexpr (doubled) {
      auto first = memory.template make<A, dyn, E>(x.extent(0));
      ops::softmax(c.backend, logits, first);
      ops::copy(c.backend, first, logits);
      ops::add(c.backend, in_every_row(p.offset.view(), x.extent(0)), logits);
      if constexpr (keeps_tape<Kept>) k.own.first = first;
    } else if (c.training() && C.deviation > 0) {
      ops::noisy_logits(c.backend, noisy_inputs{logits, none{}}, logits, noise(c));
    }
  }
  template <class Call, class P, class X, class DY, class DX, class Kept, class G>
  static void backward(const Call& c, const P& p, const X& x, const DY& dlogits, const DX& dx,
                       Kept& k, G& g) {
    using A = typename DY::value_type;
    const scope freed(c.scratch);
    auto d = c.scratch.template make<A, dyn, E>(x.extent(0));
    auto dh = c.scratch.template make<A, dyn, H>(x.extent(0));
    if constexpr (doubled) {
      ops::add_column_sums(c.backend, dlogits, g.offset.view());
      ops::softmax_backward(c.backend, k.own.first, dlogits, d);
    } else {
      ops::copy(c.backend, dlogits, d);
    }
    ops::gemm_backward(c.backend, gemm_inputs{k.own.after, transposed(p.w2.view())}, d,
                       gemm_gradients{dh, transposed(g.w2.view()), g.b2.view()});
    ops::gelu_backward(c.backend, k.own.before, dh, dh);
    ops::gemm(c.backend, dh, p.w1.view(), dx, gemm_adds);
    ops::gemm_backward(c.backend, gemm_inputs{x, transposed(p.w1.view())}, dh,
                       gemm_gradients{none{}, transposed(g.w1.view()), g.b1.view()});
  }

 private:
  template <class Call>
  static noise_spec noise(const Call& c) {
    return {.deviation = C.deviation, .draw = draw_of(c)};
  }
  template <class V>
  static auto in_every_row(const V& v, index_t rows) {
    return view<const typename V::value_type, typename V::space, dyn, E>(v.data(), {rows, E},
                                                                         {0, 1});
  }
};

template <dynamic_config C = dynamic_config{}>
struct dynamic_router : softmax_top_k<> {
  template <index_t D, index_t E, index_t K>
  using scores = dynamic_scores<D, E, C, router_form::double_softmax>;
};
template <dynamic_config C = dynamic_config{}>
struct sound_dynamic_router : softmax_top_k<> {
  template <index_t D, index_t E, index_t K>
  using scores = dynamic_scores<D, E, C, router_form::sound>;
};

// Fills the offset of a dynamic_router (host) with deviation times normal numbers drawn by seed.
template <class Offset>
void draw_offset(Offset& offset, std::uint64_t seed, double deviation = 0.1) {
  const stream_key key{seed, 0, 0, 0, random_use::initial_values};
  const auto v = offset.view();
  for (index_t e = 0; e < v.extent(0); ++e) {
    const double n = static_cast<double>(normal(key, static_cast<std::uint64_t>(e)));
    v(e) = static_cast<typename Offset::value_type>(deviation * n);
  }
}

}  // namespace deepseek
