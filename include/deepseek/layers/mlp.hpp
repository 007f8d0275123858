// SPDX-License-Identifier: Apache-2.0
// mlp<D, H, Act>: y = W2 act(W1 x + b1) + b2 (Vaswani et al. 2017, section 3.3).
// swiglu<D, H>: y = W2 (silu(W1 x) * W3 x), no biases (Shazeer 2020); W1 gate, W3 up, W2 down.
// swiglu<D, H, plain, {.limit = 10}>: W1 x cut to at most 10, W3 x to -10 .. 10 (ops/swiglu.hpp).
// Row-wise: both serve as experts unchanged.
#pragma once

#include "deepseek/layers/side_by_side.hpp"
#include "deepseek/ops/activation.hpp"
#include "deepseek/ops/add.hpp"
#include "deepseek/ops/swiglu.hpp"

namespace deepseek {

template <index_t D, index_t H, activation Act = activation::relu, class F = plain>
struct mlp {
  static_assert(
      Act != activation::none,
      "deepseek::mlp: two linear layers without activation are one; write activation::relu");
  static constexpr index_t out = D;
  static constexpr const char* label = "ffn";
  static constexpr bool stacks = true;
  template <class G>
  using with_format = mlp<D, H, Act, G>;
  template <class Of>
  struct parts {
    using layer = mlp;
    each<Of, linear<D, H, F, bias::present>> w1;
    each<Of, linear<H, D, F, bias::present>> w2;
    static constexpr auto fields() {
      return std::tuple{named("w1", &parts::w1), named("w2", &parts::w2)};
    }
  };
  template <class T, class S>
  struct saved {
    view<T, S, dyn, H> before, after;  // the activation's input and output
  };

  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& x, const Y& y, K& k) {
    using T = typename Y::value_type;
    const scope freed(c.scratch);
    auto& memory = c.template arena_for<K>();
    auto before = memory.template make<T, dyn, H>(x.extent(0));
    auto after = memory.template make<T, dyn, H>(x.extent(0));
    run_forward(c.in(0), p.w1, x, before, k.w1);
    apply(c.backend, before, after);
    run_forward(c.in(1), p.w2, after, y, k.w2);
    if constexpr (keeps_tape<K>) k.own = {before, after};
  }
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k, G& g) {
    using T = typename DY::value_type;
    const scope freed(c.scratch);
    auto d = c.scratch.template make<T, dyn, H>(x.extent(0));
    run_backward(c.in(1), p.w2, as_const(k.own.after), dy, d, k.w2, g.w2);
    apply_backward(c.backend, k.own.before, d);
    run_backward(c.in(0), p.w1, x, as_const(d), dx, k.w1, g.w1);
  }

 private:
  static void apply(const auto& b, const auto& x, const auto& y) {
    if constexpr (Act == activation::relu) {
      ops::relu(b, x, y);
    } else if constexpr (Act == activation::silu) {
      ops::silu(b, x, y);
    } else {
      ops::gelu(b, x, y);
    }
  }
  static void apply_backward(const auto& b, const auto& x, const auto& d) {
    if constexpr (Act == activation::relu) {
      ops::relu_backward(b, x, d, d);
    } else if constexpr (Act == activation::silu) {
      ops::silu_backward(b, x, d, d);
    } else {
      ops::gelu_backward(b, x, d, d);
    }
  }
};

struct swiglu_config {
  double limit = 0;  // >= 0 of gate and up; 0: none
  bool operator==(const swiglu_config&) const = default;
};

template <class L>
inline constexpr bool is_swiglu = false;

template <index_t D, index_t H, class F = plain, swiglu_config C = swiglu_config{}>
struct swiglu {
  static_assert(C.limit >= 0, "deepseek::swiglu: limit is negative; write .limit = 10, or 0");
  static constexpr index_t out = D;
  static constexpr const char* label = "ffn";
  static constexpr bool stacks = true;
  template <class Other>
  static constexpr bool runs_beside = is_swiglu<Other>;
  template <class G>
  using with_format = swiglu<D, H, G, C>;
  template <class Of>
  struct parts {
    using layer = swiglu;
    each<Of, linear<D, H, F>> w1, w3;
    each<Of, linear<H, D, F>> w2;
    static constexpr auto fields() {
      return std::tuple{named("w1", &parts::w1), named("w2", &parts::w2), named("w3", &parts::w3)};
    }
  };
  template <class T, class S>
  struct saved {
    view<T, S, dyn, H> gate, up, h;
  };

  template <class Call, class P, class X, class Y, class K>
  static void forward(const Call& c, const P& p, const X& x, const Y& y, K& k) {
    const scope freed(c.scratch);
    const auto run = run_of(c, p, x, y, k);
    const auto between = make_between(run);
    side_by_side(gate_of(run, between), up_of(run, between));
    activate(run, between);
    side_by_side(down_of(run, between));
  }
  // This run and that of another swiglu: routed experts and the shared one.
  template <class Run, class Other>
  static void forward_beside(const Run& run, const Other& other) {
    using second = typename Other::layer;
    const scope freed(run.c.scratch);
    const auto mine = make_between(run);
    const auto theirs = second::make_between(other);
    side_by_side(gate_of(run, mine), up_of(run, mine), second::gate_of(other, theirs),
                 second::up_of(other, theirs));
    activate(run, mine);
    second::activate(other, theirs);
    side_by_side(down_of(run, mine), second::down_of(other, theirs));
  }
  template <class Call, class P, class X, class DY, class DX, class K, class G>
  static void backward(const Call& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k,
                       G& g) {
    using T = typename DY::value_type;
    const scope freed(c.scratch);
    auto dh = c.scratch.template make<T, dyn, H>(x.extent(0));
    auto dgate = c.scratch.template make<T, dyn, H>(x.extent(0));
    auto dup = c.scratch.template make<T, dyn, H>(x.extent(0));
    auto dx_up = c.scratch.template make<T, dyn, D>(x.extent(0));
    run_backward(c.in(2), p.w2, as_const(k.own.h), dy, dh, k.w2, g.w2);
    ops::swiglu_backward(c.backend, swiglu_inputs{k.own.gate, k.own.up}, dh,
                         swiglu_gradients{dgate, dup}, C.limit);
    run_backward(c.in(0), p.w1, x, as_const(dgate), dx, k.w1, g.w1);
    run_backward(c.in(1), p.w3, x, as_const(dup), dx_up, k.w3, g.w3);
    ops::add(c.backend, dx_up, dx);
  }

  // The steps of a run (layer_run) and what stands between them.
  template <class Run>
  static auto make_between(const Run& run) {
    using T = typename decltype(run.y)::value_type;
    using K = std::remove_cvref_t<decltype(run.k)>;
    auto& memory = run.c.template arena_for<K>();
    const index_t n = run.x.extent(0);
    const saved<T, typename decltype(run.c)::space> made{memory.template make<T, dyn, H>(n),
                                                         memory.template make<T, dyn, H>(n),
                                                         memory.template make<T, dyn, H>(n)};
    if constexpr (keeps_tape<K>) run.k.own = made;
    return made;
  }
  static auto gate_of(const auto& run, const auto& between) {
    return run_of(run.c.in(0), run.p.w1, run.x, between.gate, run.k.w1);
  }
  static auto up_of(const auto& run, const auto& between) {
    return run_of(run.c.in(1), run.p.w3, run.x, between.up, run.k.w3);
  }
  static void activate(const auto& run, const auto& between) {
    ops::swiglu(run.c.backend, between.gate, between.up, between.h, C.limit);
  }
  static auto down_of(const auto& run, const auto& between) {
    return run_of(run.c.in(2), run.p.w2, as_const(between.h), run.y, run.k.w2);
  }
};

template <index_t D, index_t H, class F, swiglu_config C>
inline constexpr bool is_swiglu<swiglu<D, H, F, C>> = true;

}  // namespace deepseek
