// SPDX-License-Identifier: Apache-2.0
// Gates: which experts a token meets and with which weights. A gate is a struct of two functions
//   forward(call, state, scores, outputs)              logits -> scores, weights, ids
//   backward(call, saved, dweights, dscores)           dscores: gradient of scores -> of logits
// and, if it has one, a `state<Space, E, K>` (saved in files, not trained), which
// update(state, counts) moves after a step by the assignments that each expert got. Optional:
//   weigh(call, scores, outputs)      weights again where a capacity changed ids (-1: no expert)
//   scores<D, E, K>                   a layer from x to logits in place of the linear map: a leaf
//                                     whose backward adds to dx (layers/noisy_gate.hpp)
// top_k_gate<config>: scores, groups, selection bias, normalization, scale (see ops/gate.hpp); the
// bias moves by bias_step sign(mean count - count) (DeepSeek-V3 2024, 2.1.2; Wang et al. 2024).
// router<D, E, K, Gate>: logits = x W^T in accumulate_t, or what the gate's own layer makes of x;
// its buffer `load` is a running share of the assignments each expert got in training.
#pragma once

#include "deepseek/core/dtype.hpp"
#include "deepseek/layers/layer.hpp"
#include "deepseek/ops/gate.hpp"
#include "deepseek/ops/gemm.hpp"
#include "deepseek/ops/load_state.hpp"

namespace deepseek {

enum class selection_bias { absent, present };

struct gate_config {
  gate_score score = gate_score::softmax;
  selection_bias bias = selection_bias::absent;
  index_t groups = 1;                     // a divisor of the experts
  index_t top_groups = 1;                 // 1 .. groups: experts are chosen from so many groups
  group_score group = group_score::best;  // how groups are ranked
  renormalize norm = renormalize::no;     // weights divided by their sum
  double scale = 1;                       // of the weights, normalized or not
  double bias_step = 1e-3;  // of the selection bias after each step, >= 0; 0: it rests
  bool operator==(const gate_config&) const = default;

  constexpr gate_rule rule(gate_choice choice = gate_choice::by_score) const {
    return {score, norm, scale, groups, top_groups, group, choice};
  }
};

// The gates of released models (sizes of the largest): DeepSeekMoE-16B and V2-Lite, V2, V3, V4.
inline constexpr gate_config greedy_gate{};
inline constexpr gate_config group_limited_gate{.groups = 8, .top_groups = 3, .scale = 16};
inline constexpr gate_config bias_balanced_gate{.score = gate_score::sigmoid,
                                                .bias = selection_bias::present,
                                                .groups = 8,
                                                .top_groups = 4,
                                                .group = group_score::best_two,
                                                .norm = renormalize::yes,
                                                .scale = 2.5};
inline constexpr gate_config sqrt_softplus_gate{.score = gate_score::sqrt_softplus,
                                                .bias = selection_bias::present,
                                                .norm = renormalize::yes,
                                                .scale = 1.5};

// The state of a gate with a selection bias.
template <class S, index_t E>
struct selection_bias_state {
  tensor<float, S, E> bias;
  static constexpr auto fields() { return std::tuple{buffer("bias", &selection_bias_state::bias)}; }
};

// What both gates say when their numbers do not fit.
template <gate_config C, index_t E, index_t K>
constexpr bool gate_fits() {
  static_assert(C.groups > 0 && E % C.groups == 0,
                "deepseek::gate: groups does not divide the routed experts (groups are equal); "
                "write .groups = a divisor of .routed");
  static_assert(C.top_groups > 0 && C.top_groups <= C.groups,
                "deepseek::gate: top_groups is not between 1 and groups; write how many groups a "
                "token may choose from");
  static_assert(C.top_groups * (E / C.groups) >= K,
                "deepseek::gate: top_groups hold fewer experts than active (a token could not find "
                "enough); write a larger .top_groups or a smaller .active");
  static_assert(C.bias_step >= 0,
                "deepseek::gate: bias_step is negative; write .bias_step = 1e-3, or 0 to hold");
  return true;
}

// A gate may check at compile time what experts it can choose from: `fits<E, K>`.
template <class Gate, index_t E, index_t K>
inline constexpr bool gate_suits = true;
template <class Gate, index_t E, index_t K>
requires requires {
  Gate::template fits<E, K>;
}
inline constexpr bool gate_suits<Gate, E, K> = Gate::template fits<E, K>;

template <gate_config C>
struct top_k_gate {
  static constexpr gate_config config = C;
  static constexpr bool has_bias = C.bias == selection_bias::present;
  template <class S, index_t E, index_t K>
  using state = std::conditional_t<has_bias, selection_bias_state<S, E>, none>;
  template <index_t E, index_t K>
  static constexpr bool fits = gate_fits<C, E, K>();

  template <class Call, class State, class P, class W, class I>
  static void forward(const Call& c, const State& own, const P& scores,
                      const gate_outputs<W, I>& out) {
    if constexpr (has_bias) {
      ops::gate(c.backend, scores, own.bias, out, C.rule());
    } else {
      ops::gate(c.backend, scores, none{}, out, C.rule());
    }
  }
  template <class Call, class Saved, class DW, class DS>
  static void backward(const Call& c, const Saved& saved, const DW& dweights, const DS& dscores) {
    ops::gate_backward(c.backend, saved, dweights, dscores, C.rule());
  }
  template <class Call, class P, class W, class I>
  static void weigh(const Call& c, const P& scores, const gate_outputs<W, I>& out) {
    ops::gate_weights(c.backend, scores, out, C.rule());
  }
  template <class B, class State, class Counts>
  static void update(const B& b, State& own, const Counts& counts) {
    if constexpr (has_bias) ops::move_bias(b, counts, C.bias_step, own.bias);
  }
};

// The K largest softmax scores as they are, or divided by their sum.
template <renormalize N = renormalize::no>
struct softmax_top_k : top_k_gate<gate_config{.norm = N}> {};
// The K largest sigmoid scores + bias, weights divided by their sum: no loss is needed to balance.
struct sigmoid_top_k : top_k_gate<gate_config{.score = gate_score::sigmoid,
                                              .bias = selection_bias::present,
                                              .norm = renormalize::yes}> {};

// logits = x W^T, everything in accumulate_t of the model's type.
template <index_t D, index_t E>
struct linear_scores {
  template <class T, class S>
  struct parameters {
    tensor<accumulate_t<T>, S, E, D> weight;
    static constexpr auto fields() { return std::tuple{named("weight", &parameters::weight)}; }
  };
  template <class T, class S>
  using saved = none;

  template <class C, class P, class X, class Y, class Kept>
  static void forward(const C& c, const P& p, const X& x, const Y& logits, Kept&) {
    ops::gemm(c.backend, x, transposed(p.weight.view()), logits);
  }
  // Adds to dx: the tokens' gradient through the gate comes on top of that through the experts.
  template <class C, class P, class X, class DY, class DX, class Kept, class G>
  static void backward(const C& c, const P& p, const X& x, const DY& dlogits, const DX& dx, Kept&,
                       G& g) {
    ops::gemm(c.backend, dlogits, p.weight.view(), dx, gemm_adds);
    ops::gemm(c.backend, transposed(dlogits), x, g.weight.view(), gemm_adds);
  }
};

// The layer that a gate's logits come from.
template <class Gate, index_t D, index_t E, index_t K>
struct scores_choice {
  using type = linear_scores<D, E>;
};
template <class Gate, index_t D, index_t E, index_t K>
requires requires {
  typename Gate::template scores<D, E, K>;
}
struct scores_choice<Gate, D, E, K> {
  using type = typename Gate::template scores<D, E, K>;
};
template <class Gate, index_t D, index_t E, index_t K>
using scores_of = typename scores_choice<Gate, D, E, K>::type;

template <index_t D, index_t E, index_t K, class Gate>
struct router : scores_of<Gate, D, E, K> {
  using scores = scores_of<Gate, D, E, K>;
  static constexpr index_t out = E;
  static constexpr const char* label = "gate";
  static constexpr double load_decay = 0.99;  // of the running load, per optimizer step

  template <class S>
  struct gate_state {
    using type = none;
  };
  template <class S>
  requires requires { typename Gate::template state<S, E, K>; }
  struct gate_state<S> {
    using type = typename Gate::template state<S, E, K>;
  };

  template <class T, class S>
  struct parameters : scores::template parameters<T, S> {
    using layer = router;
    tensor<float, S, E> load;
    typename gate_state<S>::type choice;
    static constexpr auto fields() {
      return std::tuple_cat(
          scores::template parameters<T, S>::fields(),
          std::tuple{buffer("load", &parameters::load), buffer("", &parameters::choice)});
    }
  };

  // After a step: the running load moves towards the share of this step's assignments (the first
  // step sets it), and the gate moves its state.
  template <class B, class P, class G>
  static void update(const B& b, P& p, const G& g) {
    ops::move_load(b, g.load, load_decay, p.load);
    if constexpr (requires { Gate::update(b, p.choice, g.load.view()); }) {
      Gate::update(b, p.choice, g.load.view());
    }
  }
};

}  // namespace deepseek
