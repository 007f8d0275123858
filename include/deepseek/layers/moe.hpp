// SPDX-License-Identifier: Apache-2.0
// moe<config, Gate, Expert, Shared>: y = sum over the chosen experts of w_k Expert_k(x), plus the
// shared expert, always on and unweighted. Rows are sorted by expert; experts made of linear parts
// (swiglu, mlp) run once over all of them (weights side by side, grouped products), any other layer
// expert by expert, expert_list<L...> names one layer for each (layers/expert_bank.hpp). Combined
// in a fixed order. Losses, injected in backward, and capacity: layers/routing.hpp. Sources:
// Shazeer et al. 2017; DeepSeekMoE 2024.
#pragma once

#include "deepseek/layers/expert_bank.hpp"
#include "deepseek/layers/gate.hpp"
#include "deepseek/layers/mlp.hpp"
#include "deepseek/layers/routing.hpp"
#include "deepseek/ops/combine.hpp"
#include "deepseek/ops/fill.hpp"
#include "deepseek/ops/permute.hpp"

namespace deepseek {

struct moe_config {
  index_t dim = 0;     // model width
  index_t hidden = 0;  // width of one expert, where the expert is the default (swiglu)
  index_t routed = 0;  // experts that a gate chooses from
  index_t shared = 0;  // shared experts, fused into one of width shared x hidden
  index_t active = 1;  // routed experts per token, 1 .. routed
  double balance = 0;  // weight of the experts' balance loss, >= 0
  balance_form form = balance_form::batch;  // over what it is taken
  device_balance devices = {};              // the losses of devices and of their traffic
  double importance = 0;                    // weight of CV^2 of the experts' weights, >= 0
  double z_loss = 0;                        // weight of the router's z-loss, >= 0
  capacity_config capacity = {};            // how many rows an expert takes
  bool operator==(const moe_config&) const = default;
};

template <moe_config C>
using default_expert = swiglu<C.dim, C.hidden>;
template <moe_config C>
using default_shared =
    std::conditional_t<(C.shared > 0), swiglu<C.dim, (C.shared > 0 ? C.shared : 1) * C.hidden>,
                       absent>;

template <moe_config C, class Gate = softmax_top_k<>, class Expert = default_expert<C>,
          class Shared = default_shared<C>>
struct moe {
  static_assert(C.dim > 0 && (C.hidden > 0 || !std::is_same_v<Expert, default_expert<C>>),
                "deepseek::moe: dim or hidden is not positive; write .dim and .hidden");
  static_assert(C.routed > 0, "deepseek::moe: no routed experts; write .routed = 8 or use swiglu");
  static_assert(C.active > 0 && C.active <= C.routed,
                "deepseek::moe: active is not between 1 and routed (a token cannot meet more "
                "experts than there are); write a smaller .active");
  static_assert(C.balance >= 0 && C.importance >= 0 && C.z_loss >= 0,
                "deepseek::moe: the balance weight is negative; write .balance = 0.01");
  static_assert(C.capacity.factor >= 0 && C.capacity.rows >= 0 && C.capacity.least >= 0,
                "deepseek::moe: the capacity is negative; write .capacity = {.factor = 1.25}");
  static_assert(C.devices.count > 0 && C.routed % C.devices.count == 0,
                "deepseek::moe: devices.count does not divide the routed experts (every device "
                "holds the same number); write a divisor of .routed");
  static_assert(gate_suits<Gate, C.routed, C.active>);
  static_assert(Expert::out == C.dim,
                "deepseek::moe: the expert's width is not dim; give both the same");
  static constexpr index_t E = C.routed, K = C.active, D = C.dim, out = C.dim;
  static constexpr bool has_shared = !std::is_same_v<Shared, absent>;
  using routes = routing<C, Gate>;
  using bank = expert_bank<E, Expert>;
  static constexpr const char* label = "ffn";
  template <class F>
  using with_format = moe<C, Gate, reformatted<Expert, F>, reformatted<Shared, F>>;

  template <class Of>
  struct parts {
    using layer = moe;
    each<Of, router<D, E, K, Gate>> gate;
    each<Of, bank> experts;
    each<Of, Shared> shared_experts;
    static constexpr auto fields() {
      return std::tuple{named("gate", &parts::gate), named("experts", &parts::experts),
                        named("shared_experts", &parts::shared_experts)};
    }
  };
  template <class T, class S>
  struct saved {
    routed<C, T, S> r;
    view<T, S, dyn, D> xs, ys;  // the sorted rows, before and after the experts
  };

  template <class Call, class P, class X, class Y, class Kept>
  static void forward(const Call& c, const P& p, const X& x, const Y& y, Kept& k) {
    static_assert(!keeps_state<Kept> || !C.capacity.limits() || C.capacity.when == during::training,
                  "deepseek::moe: a capacity that holds in inference makes a row depend on the "
                  "rows of its call, so decoding is not prefill; write .when = during::training");
    using T = typename Y::value_type;
    const scope freed(c.scratch);
    auto& memory = c.template arena_for<Kept>();
    auto r = routes::template make<T>(memory, x.extent(0));
    run_forward(c.in(2), p.gate, x, r.scores, k.gate);
    routes::choose(c, p.gate.choice, r, memory);
    auto xs = memory.template make<T, dyn, D>(r.source.extent(0));
    auto ys = memory.template make<T, dyn, D>(r.source.extent(0));
    ops::permute(c.backend, x, r.source, K, xs);
    if constexpr (has_shared) {
      const auto shared = run_of(c.in(1), p.shared_experts, x, y, k.shared_experts);
      if constexpr (apart_in<bank> == 0) {
        bank::run_beside(c.in(0), r, p.experts, as_const(xs), ys, k.experts, shared);
      } else {
        bank::run(c.in(0), r, p.experts, as_const(xs), ys, k.experts);
        run_forward(shared);
      }
      ops::combine(c.backend, ys, combine_by{r.weights, r.slot, update::add}, y);
    } else {
      bank::run(c.in(0), r, p.experts, as_const(xs), ys, k.experts);
      ops::combine(c.backend, ys, combine_by{r.weights, r.slot}, y);
    }
    routes::report(c, r);
    if constexpr (keeps_tape<Kept>) k.own = {r, xs, ys};
  }

  template <class Call, class P, class X, class DY, class DX, class Kept, class G>
  static void backward(const Call& c, const P& p, const X& x, const DY& dy, const DX& dx, Kept& k,
                       G& g) {
    using T = typename DY::value_type;
    const scope freed(c.scratch);
    const auto& [r, xs, ys] = k.own;
    const index_t tokens = x.extent(0);
    auto dys = c.scratch.template make<T, dyn, D>(xs.extent(0));
    auto dxs = c.scratch.template make<T, dyn, D>(xs.extent(0));
    auto dweights = c.scratch.template make<accumulate_t<T>, dyn, K>(tokens);
    auto dscores = c.scratch.template make<accumulate_t<T>, dyn, E>(tokens);
    ops::combine_backward(c.backend, combine_inputs{ys, r.weights, r.slot}, dy,
                          combine_gradients{dys, dweights});
    bank::run_back(c.in(0), r, p.experts, as_const(xs), as_const(dys), dxs, k.experts, g.experts);
    ops::permute_backward(c.backend, dxs, r.slot, dx);
    routes::backward(c, r, dweights, dscores);
    run_backward(c.in(2), p.gate, x, as_const(dscores), dx, k.gate, g.gate);
    routes::count(c, r, g.gate.load);
    if constexpr (has_shared) {
      auto extra = c.scratch.template make<T, dyn, D>(tokens);
      run_backward(c.in(1), p.shared_experts, x, dy, extra, k.shared_experts, g.shared_experts);
      ops::add(c.backend, extra, dx);
    }
  }
};

template <moe_config C, class Gate, class Expert, class Shared>
inline constexpr bool rows_are_independent<moe<C, Gate, Expert, Shared>> =
    !C.capacity.limits() || C.capacity.when == during::training;

}  // namespace deepseek
