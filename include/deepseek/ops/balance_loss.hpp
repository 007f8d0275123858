// SPDX-License-Identifier: Apache-2.0
// balance_loss: L = alpha / B sum over B sequences of sum_d f_d P_d; f_d is a constant for the
// gradient, P_d = (1 / T) sum_t sum_{i in d} s_{t,i} over the T tokens of the sequence. d runs over
// `groups` equal groups of experts, by default over the experts. balance_count::assignments:
// f_d = D / (K T) (assignments to d), D groups, K ids a token; tokens: f_d = D / (M T) (tokens with
// an id in d), M = top_groups. balance_share::divided: s_{t,i} / (sum_j s_{t,j} + 1e-20) in place
// of s_{t,i}. scores s [T, E], ids [T, K] int32; sequences as offsets [B + 1], empty ones do not
// count, none at all: one sequence. balance_loss_backward adds dL/ds to dscores [T, E]; expert_load
// adds offsets[i + 1] - offsets[i] to load [E], choice_load the number of ids that are i (what was
// asked for before a capacity dropped some). Sums in double, in order. Errors: index_range,
// shape_mismatch, invalid_argument. Sources: DeepSeekMoE 2024, 3.3; DeepSeek-V2 2024, 2.2.3
// (devices, communication); DeepSeek-V3 2024, 2.1.2 (sequence-wise).
#pragma once

#include "deepseek/core/call.hpp"
#include "deepseek/ops/argument.hpp"

namespace deepseek {

enum class balance_count { assignments, tokens };
enum class balance_share { as_it_is, divided };

template <class Space>
struct balance_spec {
  double alpha = 1;
  index_t groups = 0;      // of experts that are counted together; 0: as many as experts
  index_t top_groups = 1;  // M, with balance_count::tokens
  balance_count count = balance_count::assignments;
  balance_share share = balance_share::as_it_is;
  sequence_offsets<Space> sequences = {};
};

template <class P, class I>
struct balance_inputs {
  P scores;  // [T, E]
  I ids;     // [T, K]
};
template <class P, class I>
balance_inputs(P&&, I&&) -> balance_inputs<argument_t<P>, argument_t<I>>;

struct balance_loss_op {
  static constexpr std::string_view name = "balance_loss";

  template <class B, class P, class I>
  double operator()(const B& b, const balance_inputs<P, I>& in,
                    const balance_spec<typename B::space>& spec) const {
    const auto scores = as_const(as_view(in.scores));
    const auto ids = as_const(as_view(in.ids));
    check_spaces(b, scores, ids);
    check(scores, ids, spec);
    return scores.empty() || ids.empty() ? 0.0
                                         : balance_loss_impl(b, balance_inputs{scores, ids}, spec);
  }
  template <class P, class I, class S>
  static void check(const P& scores, const I& ids, const balance_spec<S>& spec) {
    static_assert(P::rank == 2 && I::rank == 2,
                  "deepseek::balance_loss: pass scores[T, E] and ids[T, K]");
    require_extent(ids, 0, scores.extent(0), "balance_loss: ids");
    require_data(scores, "balance_loss: scores");
    require_data(ids, "balance_loss: ids");
    require(spec.groups >= 0 && (spec.groups == 0 || scores.extent(1) % spec.groups == 0),
            error_code::invalid_argument, "balance_loss: ", spec.groups, " groups of ",
            scores.extent(1), " experts; groups must divide the experts");
    require(spec.top_groups >= 1, error_code::invalid_argument, "balance_loss: top_groups is ",
            spec.top_groups, "; write a number >= 1");
  }
};

struct balance_loss_backward_op {
  static constexpr std::string_view name = "balance_loss_backward";

  template <class B, class P, class I, class DS>
  void operator()(const B& b, const balance_inputs<P, I>& in, DS&& dscores_in,
                  const balance_spec<typename B::space>& spec) const {
    const auto scores = as_const(as_view(in.scores));
    const auto ids = as_const(as_view(in.ids));
    const auto dscores = as_view(dscores_in);
    check_spaces(b, scores, ids, dscores);
    balance_loss_op::check(scores, ids, spec);
    require_same_shape(dscores, scores, "balance_loss_backward: dscores");
    require_data(dscores, "balance_loss_backward: dscores");
    if (scores.empty() || ids.empty()) return;
    balance_loss_backward_impl(b, balance_inputs{scores, ids}, dscores, spec);
  }
};

struct expert_load_op {
  static constexpr std::string_view name = "expert_load";

  template <class B, class O, class L>
  void operator()(const B& b, const O& offsets_in, L&& load_in) const {
    const auto offsets = as_const(as_view(offsets_in));
    const auto load = as_view(load_in);
    check_spaces(b, offsets, load);
    require_extent(offsets, 0, load.extent(0) + 1, "expert_load: offsets");
    require_data(offsets, "expert_load: offsets");
    require_data(load, "expert_load: load");
    expert_load_impl(b, offsets, load);
  }
};

struct choice_load_op {
  static constexpr std::string_view name = "choice_load";

  template <class B, class I, class L>
  void operator()(const B& b, const I& ids_in, L&& load_in) const {
    const auto ids = as_const(as_view(ids_in));
    const auto load = as_view(load_in);
    check_spaces(b, ids, load);
    static_assert(ids.rank == 2 && load.rank == 1,
                  "deepseek::choice_load: pass ids[T, K] and load[E]");
    require_data(ids, "choice_load: ids");
    require_data(load, "choice_load: load");
    if (!ids.empty()) choice_load_impl(b, ids, load);
  }
};

namespace ops {
inline constexpr balance_loss_op balance_loss{};
inline constexpr balance_loss_backward_op balance_loss_backward{};
inline constexpr expert_load_op expert_load{};
inline constexpr choice_load_op choice_load{};
}  // namespace ops

}  // namespace deepseek
