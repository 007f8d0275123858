// SPDX-License-Identifier: Apache-2.0
// gate: logits z [T, E] in `scores` become s = softmax(z), sigmoid(z) or sqrt(softplus(z)) in
// place; the K experts of a token with the largest s + bias (bias [E] or none) are chosen, from the
// `top_groups` of `groups` equal groups with the largest best s + bias, or sum of the best two;
// ids [T, K], largest first; weights [T, K] = scale s, or scale s / (sum of the K s + 1e-20): the
// bias selects only. gate_choice::given: ids come from the caller; all: every expert in order, K =
// E (a dense mixture). Equal: lower expert or group first. NaN counts as -inf in the choice.
// gate_weights: the weights again from finished scores and given ids, where -1 (an expert that had
// no room) has weight 0 and is left out of the sum. Backward: dscores holds the gradient of s from
// elsewhere on entry, that of z on return; the choice is constant, the bias has no gradient.
// Types: accumulate_t of the scores; s + bias in the wider type of the two. Errors:
// invalid_argument, shape_mismatch, index_range (given ids; in gate below 0, elsewhere below -1).
// Sources: DeepSeekMoE 2024, section 3; DeepSeek-V2 2024, 2.2.2; DeepSeek-V3 2024, 2.1.2.
#pragma once

#include "deepseek/ops/argument.hpp"

#include <cstdint>

namespace deepseek {

enum class gate_score { softmax, sigmoid, sqrt_softplus };
enum class group_score {
  best,
  best_two
};  // what a group counts: its best, the sum of its best two
enum class gate_choice { by_score, given, all };
enum class renormalize { no, yes };

struct gate_rule {
  gate_score score = gate_score::softmax;
  renormalize norm = renormalize::no;
  double scale = 1;                       // of the weights, normalized or not
  index_t groups = 1, top_groups = 1;     // experts are chosen from top_groups of the groups
  group_score group = group_score::best;  // how groups are ranked
  gate_choice choice = gate_choice::by_score;
};

template <class W, class I>
struct gate_outputs {
  W weights;  // [T, K]
  I ids;      // [T, K] int32
};
template <class W, class I>
gate_outputs(W&&, I&&) -> gate_outputs<argument_t<W>, argument_t<I>>;

template <class P, class W, class I>
struct gate_saved {
  P scores;  // s [T, E]
  W weights;
  I ids;
};
template <class P, class W, class I>
gate_saved(P&&, W&&, I&&) -> gate_saved<argument_t<P>, argument_t<W>, argument_t<I>>;

struct gate_op {
  static constexpr std::string_view name = "gate";

  // bias: a view or tensor [E], or none{}.
  template <class B, class P, class Bias, class W, class I>
  void operator()(const B& b, P&& scores_in, const Bias& bias_in, const gate_outputs<W, I>& out,
                  const gate_rule& rule = {}) const {
    const auto scores = as_view(scores_in);
    const auto weights = as_view(out.weights);
    const auto ids = as_view(out.ids);
    check_spaces(b, scores, weights, ids);
    check(scores, weights, ids);
    check_rule(scores.extent(1), weights.extent(1), rule);
    if constexpr (std::is_same_v<Bias, none>) {
      if (!scores.empty()) gate_impl(b, scores, bias_in, gate_outputs{weights, ids}, rule);
    } else {
      const auto bias = as_const(as_view(bias_in));
      check_spaces(b, bias);
      static_assert(bias.rank == 1, "deepseek::gate: pass bias[E] or ds::none{}");
      require_extent(bias, 0, scores.extent(1), "gate: bias");
      require_data(bias, "gate: bias");
      if (!scores.empty()) gate_impl(b, scores, bias, gate_outputs{weights, ids}, rule);
    }
  }
  template <class P, class W, class I>
  static void check(const P& scores, const W& weights, const I& ids) {
    static_assert(P::rank == 2 && W::rank == 2 && I::rank == 2,
                  "deepseek::gate: pass scores[T, E], weights[T, K], ids[T, K]");
    require_extent(weights, 0, scores.extent(0), "gate: weights");
    require_extent(ids, 0, scores.extent(0), "gate: ids");
    require_extent(ids, 1, weights.extent(1), "gate: ids");
    require(weights.extent(1) <= scores.extent(1), error_code::invalid_argument,
            "gate: ", weights.extent(1), " active experts of ", scores.extent(1),
            "; active must not exceed the number of experts");
    require_data(scores, "gate: scores");
    require_data(weights, "gate: weights");
    require_data(ids, "gate: ids");
  }
  static void check_rule(index_t experts, index_t active, const gate_rule& r) {
    require(r.choice != gate_choice::all || active == experts, error_code::invalid_argument,
            "gate: ", active, " active experts of ", experts,
            "; gate_choice::all takes them all, pass weights[T, E] and ids[T, E]");
    require(std::isfinite(r.scale), error_code::invalid_argument, "gate: scale is ", r.scale,
            "; pass a finite number");
    require(r.groups >= 1 && experts % r.groups == 0, error_code::invalid_argument,
            "gate: ", r.groups, " groups of ", experts, " experts; groups must divide the experts");
    require(r.top_groups >= 1 && r.top_groups <= r.groups, error_code::invalid_argument,
            "gate: ", r.top_groups, " top groups of ", r.groups, "; write a number from 1 to ",
            r.groups);
    require(r.top_groups * (experts / r.groups) >= active, error_code::invalid_argument,
            "gate: ", active, " active experts of the ", r.top_groups * (experts / r.groups),
            " in ", r.top_groups, " groups; keep more groups or choose fewer experts");
  }
};

struct gate_weights_op {
  static constexpr std::string_view name = "gate_weights";

  template <class B, class P, class W, class I>
  void operator()(const B& b, const P& scores_in, const gate_outputs<W, I>& out,
                  const gate_rule& rule = {}) const {
    const auto scores = as_const(as_view(scores_in));
    const auto weights = as_view(out.weights);
    const auto ids = as_const(as_view(out.ids));
    check_spaces(b, scores, weights, ids);
    gate_op::check(scores, weights, ids);
    require(std::isfinite(rule.scale), error_code::invalid_argument, "gate_weights: scale is ",
            rule.scale, "; pass a finite number");
    if (!scores.empty()) gate_weights_impl(b, scores, gate_outputs{weights, ids}, rule);
  }
};

struct gate_backward_op {
  static constexpr std::string_view name = "gate_backward";

  template <class B, class P, class W, class I, class DW, class DS>
  void operator()(const B& b, const gate_saved<P, W, I>& in, const DW& dweights_in, DS&& dscores_in,
                  const gate_rule& rule = {}) const {
    const auto scores = as_const(as_view(in.scores));
    const auto weights = as_const(as_view(in.weights));
    const auto ids = as_const(as_view(in.ids));
    const auto dweights = as_const(as_view(dweights_in));
    const auto dscores = as_view(dscores_in);
    check_spaces(b, scores, weights, ids, dweights, dscores);
    gate_op::check(scores, weights, ids);
    require_same_shape(dweights, ids, "gate_backward: dweights");
    require_same_shape(dscores, scores, "gate_backward: dscores");
    require_data(dweights, "gate_backward: dweights");
    require_data(dscores, "gate_backward: dscores");
    if (scores.empty()) return;
    gate_backward_impl(b, gate_saved{scores, weights, ids}, dweights, dscores, rule);
  }
};

namespace ops {
inline constexpr gate_op gate{};
inline constexpr gate_weights_op gate_weights{};
inline constexpr gate_backward_op gate_backward{};
}  // namespace ops

}  // namespace deepseek
