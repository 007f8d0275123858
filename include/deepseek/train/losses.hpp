// SPDX-License-Identifier: Apache-2.0
// What a trainer can train on. A loss is a small struct with one call:
//   loss_sum operator()(b, outputs [rows, V], targets, ignore) const
// which returns the sum of the rows' losses and how many count, and overwrites the outputs with the
// gradient of that sum (the trainer divides by the rows of its whole group of micro-batches).
//   token_loss       cross entropy against ids [rows]: the next token, a masked token, a tag, or a
//                    class at the last row of a sequence (data/masking.hpp, data/labels.hpp)
//   distilled_loss   ops/distillation.hpp against distillation_targets{teacher, ids}
// Errors: nonfinite (the trainer), those of the ops.
#pragma once

#include "deepseek/core/dtype.hpp"
#include "deepseek/ops/cross_entropy.hpp"
#include "deepseek/ops/distillation.hpp"

namespace deepseek {

struct loss_sum {
  index_t counted = 0;
  double sum = 0;
};

struct token_loss {
  template <class B, class L, class Targets>
  loss_sum operator()(const B& b, const L& logits, const Targets& targets,
                      std::int32_t ignore) const {
    const scope freed(b.workspace());
    using A = accumulate_t<typename L::value_type>;
    const auto losses = b.workspace().template make<A, dyn>(logits.extent(0));
    const auto r = ops::cross_entropy(b, logits, targets, losses, cross_entropy_spec{ignore});
    ops::cross_entropy_gradient(b, logits, targets, logits,
                                cross_entropy_gradient_spec{ignore, 1, 1});
    return {r.counted, r.mean * static_cast<double>(r.counted)};
  }
};

// A teacher's scores of the same tokens, and the ids to hit (or none{}, with hard = 0).
template <class Teacher, class Ids>
struct distillation_targets {
  Teacher teacher;  // [rows, V]
  Ids ids;          // [rows], or none
};
template <class Teacher, class Ids>
distillation_targets(Teacher&&, Ids&&)
    -> distillation_targets<argument_t<Teacher>, argument_t<Ids>>;

struct distilled_loss {
  double temperature = 2;
  double hard = 0.5;  // share of the cross entropy against ids

  template <class B, class L, class Targets>
  loss_sum operator()(const B& b, const L& logits, const Targets& targets,
                      std::int32_t ignore) const {
    const distillation_spec spec{temperature, hard, ignore};
    const distillation_inputs in{logits, as_view(targets.teacher), view_or_none(targets.ids)};
    const auto r = ops::distillation(b, in, spec);
    ops::distillation_gradient(b, in, logits, {spec, 1, 1});
    return {r.counted, r.mean * static_cast<double>(r.counted)};
  }
};

}  // namespace deepseek
