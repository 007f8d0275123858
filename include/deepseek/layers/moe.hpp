// SPDX-License-Identifier: Apache-2.0
// moe<config, Gate, Expert, Shared>: y = sum over the chosen experts of w_k Expert_k(x), plus the
// shared expert, always on and unweighted. Rows are sorted by expert and the expert layer runs once
// over all of them (weights side by side, grouped products); combined in a fixed order.
// A layer made of linear parts (swiglu, mlp) is an expert. Balance losses: layers/balance.hpp,
// injected in backward. Sources: Shazeer et al. 2017; DeepSeekMoE 2024.
#pragma once

#include "deepseek/layers/balance.hpp"
#include "deepseek/layers/gate.hpp"
#include "deepseek/layers/mlp.hpp"
#include "deepseek/ops/combine.hpp"
#include "deepseek/ops/expert_plan.hpp"
#include "deepseek/ops/fill.hpp"
#include "deepseek/ops/permute.hpp"

namespace deepseek {

struct moe_config {
  index_t dim = 0;     // model width
  index_t hidden = 0;  // width of one expert
  index_t routed = 0;  // experts that a gate chooses from
  index_t shared = 0;  // shared experts, fused into one of width shared x hidden
  index_t active = 1;  // routed experts per token, 1 .. routed
  double balance = 0;  // weight of the experts' balance loss, >= 0
  balance_form form = balance_form::batch;  // over what it is taken
  device_balance devices = {};              // the losses of devices and of their traffic
  bool operator==(const moe_config&) const = default;
};

// N layers of one type with their weights side by side; kept things are those of one run.
template <index_t N, class L>
struct stack {
  static constexpr index_t out = L::out;
  static constexpr const char* label = L::label;
  template <class T, class S>
  using parameters = deepseek::parameters<L, T, stacked<N, S>>;
};
template <class Kind, index_t N, class L, class T, class S>
struct keep<Kind, stack<N, L>, T, S> : keep<Kind, L, T, S> {};

template <moe_config C>
using default_expert = swiglu<C.dim, C.hidden>;
template <moe_config C>
using default_shared =
    std::conditional_t<(C.shared > 0), swiglu<C.dim, (C.shared > 0 ? C.shared : 1) * C.hidden>,
                       absent>;

template <moe_config C, class Gate = softmax_top_k<>, class Expert = default_expert<C>,
          class Shared = default_shared<C>>
struct moe {
  static_assert(C.dim > 0 && C.hidden > 0,
                "deepseek::moe: dim or hidden is not positive; write .dim and .hidden");
  static_assert(C.routed > 0, "deepseek::moe: no routed experts; write .routed = 8 or use swiglu");
  static_assert(C.active > 0 && C.active <= C.routed,
                "deepseek::moe: active is not between 1 and routed (a token cannot meet more "
                "experts than there are); write a smaller .active");
  static_assert(C.balance >= 0,
                "deepseek::moe: the balance weight is negative; write .balance = 0.01");
  static_assert(C.devices.count > 0 && C.routed % C.devices.count == 0,
                "deepseek::moe: devices.count does not divide the routed experts (every device "
                "holds the same number); write a divisor of .routed");
  static_assert(gate_suits<Gate, C.routed, C.active>);
  static_assert(Expert::out == C.dim,
                "deepseek::moe: the expert's width is not dim; give both the same");
  static constexpr index_t E = C.routed, K = C.active, D = C.dim, out = C.dim;
  static constexpr bool has_shared = !std::is_same_v<Shared, absent>;
  using balances = balance_losses<C>;
  static constexpr const char* label = "ffn";
  template <class F>
  using with_format = moe<C, Gate, reformatted<Expert, F>, reformatted<Shared, F>>;

  template <class Of>
  struct parts {
    using layer = moe;
    each<Of, router<D, E, K, Gate>> gate;
    each<Of, stack<E, Expert>> experts;
    each<Of, Shared> shared_experts;
    static constexpr auto fields() {
      return std::tuple{named("gate", &parts::gate), named("experts", &parts::experts),
                        named("shared_experts", &parts::shared_experts)};
    }
  };
  // One routed batch: T tokens, R = T K sorted rows.
  template <class T, class S>
  struct saved {
    view<accumulate_t<T>, S, dyn, E> scores;
    view<accumulate_t<T>, S, dyn, K> weights;
    view<std::int32_t, S, dyn, K> ids, slot;
    view<std::int32_t, S, dyn> source;
    view<std::int32_t, S, E + 1> offsets;
    view<T, S, dyn, D> xs, ys;
  };

  template <class Call, class P, class X, class Y, class Kept>
  static void forward(const Call& c, const P& p, const X& x, const Y& y, Kept& k) {
    const scope freed(c.scratch);
    auto r = make<typename Y::value_type>(c.template arena_for<Kept>(), x.extent(0));
    run_forward(c.in(2), p.gate, x, r.scores, k.gate);
    Gate::forward(c, p.gate.choice, r.scores, gate_outputs{r.weights, r.ids});
    ops::expert_plan(c.backend, r.ids, E, expert_plan_views{r.offsets, r.source, r.slot});
    ops::permute(c.backend, x, r.source, K, r.xs);
    run_forward<Expert>(c.template with<segments>(as_const(r.offsets)).in(0), p.experts,
                        as_const(r.xs), r.ys, k.experts);
    ops::combine(c.backend, r.ys, combine_by{r.weights, r.slot}, y);
    if constexpr (has_shared) {
      auto extra = c.scratch.template make<typename Y::value_type, dyn, D>(x.extent(0));
      run_forward(c.in(1), p.shared_experts, x, extra, k.shared_experts);
      ops::add(c.backend, extra, y);
    }
    if (c.options.report != nullptr) {
      c.options.report->auxiliary_loss += balances::value(c, balance_inputs{r.scores, r.ids});
    }
    if constexpr (keeps_tape<Kept>) k.own = r;
  }

  template <class Call, class P, class X, class DY, class DX, class Kept, class G>
  static void backward(const Call& c, const P& p, const X& x, const DY& dy, const DX& dx, Kept& k,
                       G& g) {
    using T = typename DY::value_type;
    const scope freed(c.scratch);
    const auto& r = k.own;
    const index_t tokens = x.extent(0);
    auto dys = c.scratch.template make<T, dyn, D>(tokens * K);
    auto dxs = c.scratch.template make<T, dyn, D>(tokens * K);
    auto dweights = c.scratch.template make<accumulate_t<T>, dyn, K>(tokens);
    auto dscores = c.scratch.template make<accumulate_t<T>, dyn, E>(tokens);
    ops::combine_backward(c.backend, combine_inputs{r.ys, r.weights, r.slot}, dy,
                          combine_gradients{dys, dweights});
    run_backward<Expert>(c.template with<segments>(as_const(r.offsets)).in(0), p.experts,
                         as_const(r.xs), as_const(dys), dxs, k.experts, g.experts);
    ops::permute_backward(c.backend, dxs, r.slot, dx);
    ops::fill(c.backend, 0.0, dscores);
    balances::add_gradient(c, balance_inputs{r.scores, r.ids}, dscores);
    Gate::backward(c, gate_saved{r.scores, r.weights, r.ids}, dweights, dscores);
    run_backward(c.in(2), p.gate, x, as_const(dscores), dx, k.gate, g.gate);
    ops::expert_load(c.backend, r.offsets, g.gate.load);
    if constexpr (has_shared) {
      auto extra = c.scratch.template make<T, dyn, D>(tokens);
      run_backward(c.in(1), p.shared_experts, x, dy, extra, k.shared_experts, g.shared_experts);
      ops::add(c.backend, extra, dx);
    }
  }

 private:
  template <class T, class S>
  static saved<T, S> make(arena<S>& a, index_t tokens) {
    const index_t r = tokens * K;
    return {a.template make<accumulate_t<T>, dyn, E>(tokens),
            a.template make<accumulate_t<T>, dyn, K>(tokens),
            a.template make<std::int32_t, dyn, K>(tokens),
            a.template make<std::int32_t, dyn, K>(tokens),
            a.template make<std::int32_t, dyn>(r),
            a.template make<std::int32_t, E + 1>(),
            a.template make<T, dyn, D>(r),
            a.template make<T, dyn, D>(r)};
  }
};

}  // namespace deepseek
