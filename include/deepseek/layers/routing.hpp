// SPDX-License-Identifier: Apache-2.0
// What a moe does between logits and experts: the gate's choice, capacity, the plan of rows, and
// the losses that are injected in backward, each times options.gradient_scale: balance
// (layers/balance.hpp), importance (ops/importance_loss.hpp) and z-loss (ops/router_z_loss.hpp).
#pragma once

#include "deepseek/core/dtype.hpp"
#include "deepseek/layers/balance.hpp"
#include "deepseek/layers/capacity.hpp"
#include "deepseek/ops/copy.hpp"
#include "deepseek/ops/expert_plan.hpp"
#include "deepseek/ops/fill.hpp"
#include "deepseek/ops/gate.hpp"
#include "deepseek/ops/importance_loss.hpp"
#include "deepseek/ops/router_z_loss.hpp"

namespace deepseek {

// T tokens, K choices, R sorted rows: T K, less what found no room.
template <auto C, class T, class S>
struct routed {
  static constexpr index_t E = C.routed, K = C.active, choices = K;
  view<accumulate_t<T>, S, dyn, E> scores, logits;  // logits: kept where there is a z-loss
  view<accumulate_t<T>, S, dyn, K> weights;
  view<std::int32_t, S, dyn, K> chosen, ids, slot;  // chosen; those the weights are of (-1: none)
  view<std::int32_t, S, dyn> source;
  view<std::int32_t, S, E + 1> offsets;
};

template <auto C, class Gate>
struct routing {
  static constexpr index_t E = C.routed, K = C.active;
  static constexpr bool has_capacity = C.capacity.limits();
  using balances = balance_losses<C>;

  template <class T, class S>
  static routed<C, T, S> make(arena<S>& a, index_t tokens) {
    using A = accumulate_t<T>;
    routed<C, T, S> r;
    r.scores = a.template make<A, dyn, E>(tokens);
    if (C.z_loss > 0) r.logits = a.template make<A, dyn, E>(tokens);
    r.weights = a.template make<A, dyn, K>(tokens);
    r.chosen = r.ids = a.template make<std::int32_t, dyn, K>(tokens);
    r.slot = a.template make<std::int32_t, dyn, K>(tokens);
    r.offsets = a.template make<std::int32_t, E + 1>();
    return r;
  }
  // From logits in r.scores to everything else; `memory` for what depends on the choice.
  template <class Call, class State, class T, class S>
  static void choose(const Call& c, const State& own, routed<C, T, S>& r, arena<S>& memory) {
    if (C.z_loss > 0) ops::copy(c.backend, r.scores, r.logits);
    Gate::forward(c, own, r.scores, gate_outputs{r.weights, r.chosen});
    auto sent = r.chosen;
    index_t rows = sent.size();
    if constexpr (has_capacity) {
      if (C.capacity.when == during::always || c.training()) {
        sent = memory.template make<std::int32_t, dyn, K>(r.chosen.extent(0));
        rows =
            ops::expert_capacity(c.backend, capacity_inputs{r.scores, r.chosen}, sent, rule(c, r));
        weigh_again(c, r, sent);
      }
    }
    r.source = memory.template make<std::int32_t, dyn>(rows);
    ops::expert_plan(c.backend, sent, E, expert_plan_views{r.offsets, r.source, r.slot});
  }
  template <class Call, class R>
  static void report(const Call& c, const R& r) {
    if (c.options.report == nullptr) return;
    double sum = balances::value(c, balance_inputs{r.scores, r.chosen});
    if constexpr (C.importance > 0) {
      sum += ops::importance_loss(c.backend, importance_inputs{r.weights, r.ids}, E, C.importance);
    }
    if constexpr (C.z_loss > 0) sum += ops::router_z_loss(c.backend, r.logits, C.z_loss);
    c.options.report->auxiliary_loss += sum;
  }
  // From the gradient of the weights to that of the logits, with the losses' own.
  template <class Call, class R, class DW, class DS>
  static void backward(const Call& c, const R& r, const DW& dweights, const DS& dscores) {
    const double scale = c.options.gradient_scale;
    ops::fill(c.backend, 0.0, dscores);
    balances::add_gradient(c, balance_inputs{r.scores, r.chosen}, dscores);
    if constexpr (C.importance > 0) {
      ops::importance_loss_backward(c.backend, importance_inputs{r.weights, r.ids}, dweights, E,
                                    C.importance * scale);
    }
    Gate::backward(c, gate_saved{r.scores, r.weights, r.ids}, dweights, dscores);
    if constexpr (C.z_loss > 0) {
      ops::router_z_loss_backward(c.backend, r.logits, dscores, C.z_loss * scale);
    }
  }
  // What each expert was asked for, dropped or not.
  template <class Call, class R, class L>
  static void count(const Call& c, const R& r, L& load) {
    if constexpr (has_capacity) {
      ops::choice_load(c.backend, r.chosen, load);
    } else {
      ops::expert_load(c.backend, r.offsets, load);
    }
  }

 private:
  template <class Call, class R>
  static capacity_rule rule(const Call& c, const R& r) {
    const routing_draw draw{
        .seed = c.options.seed, .step = c.options.step, .site = c.site, .lane = 2};
    return {.capacity = C.capacity.of(r.chosen.extent(0), K, E),
            .order = C.capacity.order,
            .then = C.capacity.then,
            .draw = draw};
  }
  template <class Call, class R, class I>
  static void weigh_again(const Call& c, R& r, const I& sent) {
    if constexpr (C.capacity.weighs_again()) {
      constexpr bool ok = requires {
        Gate::weigh(c, r.scores, gate_outputs{r.weights, sent});
      };
      static_assert(ok,
                    "deepseek::moe: this gate cannot weigh what a capacity left (over_kept, "
                    "rerouted); give it weigh(call, scores, outputs) or keep weights as_chosen");
      if constexpr (ok) {
        r.ids = sent;
        Gate::weigh(c, r.scores, gate_outputs{r.weights, sent});
      }
    }
  }
};

}  // namespace deepseek
