// SPDX-License-Identifier: Apache-2.0
// softmax_gate: scores <- softmax(scores) in place over the experts, then the `active` largest:
// ids [T, K] and weights [T, K] (their scores; divided by their sum + 1e-20 when renormalized).
// Ties: lower expert first. scores [T, E] hold logits on entry, probabilities on return.
// Backward: dscores [T, E] holds the gradient of the probabilities from elsewhere (a balance loss)
// on entry and the gradient of the logits on return. The selection is a constant.
// Types: accumulate_t of the scores. Source: Shazeer et al. 2017; DeepSeekMoE 2024, section 3.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

enum class renormalize { no, yes };

template <class W, class I>
struct gate_outputs {
  W weights;  // [T, K]
  I ids;      // [T, K] int32
};
template <class W, class I>
gate_outputs(W&&, I&&) -> gate_outputs<argument_t<W>, argument_t<I>>;

template <class P, class W, class I>
struct gate_saved {
  P scores;  // probabilities [T, E]
  W weights;
  I ids;
};
template <class P, class W, class I>
gate_saved(P&&, W&&, I&&) -> gate_saved<argument_t<P>, argument_t<W>, argument_t<I>>;

struct softmax_gate_op {
  static constexpr std::string_view name = "softmax_gate";

  template <class B, class P, class W, class I>
  void operator()(const B& b, P&& scores_in, const gate_outputs<W, I>& out,
                  renormalize norm = renormalize::no) const {
    const auto scores = as_view(scores_in);
    const auto weights = as_view(out.weights);
    const auto ids = as_view(out.ids);
    check_spaces(b, scores, weights, ids);
    check(scores, weights, ids);
    if (!scores.empty()) softmax_gate_impl(b, scores, weights, ids, norm);
  }
  template <class P, class W, class I>
  static void check(const P& scores, const W& weights, const I& ids) {
    static_assert(P::rank == 2 && W::rank == 2 && I::rank == 2,
                  "deepseek::softmax_gate: pass scores[T, E], weights[T, K], ids[T, K]");
    require_extent(weights, 0, scores.extent(0), "softmax_gate: weights");
    require_extent(ids, 0, scores.extent(0), "softmax_gate: ids");
    require_extent(ids, 1, weights.extent(1), "softmax_gate: ids");
    require(weights.extent(1) <= scores.extent(1), error_code::invalid_argument,
            "softmax_gate: ", weights.extent(1), " active experts of ", scores.extent(1),
            "; active must not exceed the number of experts");
    require_data(scores, "softmax_gate: scores");
    require_data(weights, "softmax_gate: weights");
    require_data(ids, "softmax_gate: ids");
  }
};

struct softmax_gate_backward_op {
  static constexpr std::string_view name = "softmax_gate_backward";

  template <class B, class P, class W, class I, class DW, class DS>
  void operator()(const B& b, const gate_saved<P, W, I>& in, const DW& dweights_in, DS&& dscores_in,
                  renormalize norm = renormalize::no) const {
    const auto scores = as_const(as_view(in.scores));
    const auto ids = as_const(as_view(in.ids));
    const auto dweights = as_const(as_view(dweights_in));
    const auto dscores = as_view(dscores_in);
    check_spaces(b, scores, ids, dweights, dscores);
    softmax_gate_op::check(scores, as_view(in.weights), ids);
    require_extent(dweights, 0, scores.extent(0), "softmax_gate_backward: dweights");
    require_extent(dweights, 1, ids.extent(1), "softmax_gate_backward: dweights");
    require_extent(dscores, 0, scores.extent(0), "softmax_gate_backward: dscores");
    require_extent(dscores, 1, scores.extent(1), "softmax_gate_backward: dscores");
    require_data(dweights, "softmax_gate_backward: dweights");
    require_data(dscores, "softmax_gate_backward: dscores");
    if (scores.empty()) return;
    softmax_gate_backward_impl(b, gate_saved{scores, as_const(as_view(in.weights)), ids}, dweights,
                               dscores, norm);
  }
};

namespace ops {
inline constexpr softmax_gate_op softmax_gate{};
inline constexpr softmax_gate_backward_op softmax_gate_backward{};
}  // namespace ops

}  // namespace deepseek
