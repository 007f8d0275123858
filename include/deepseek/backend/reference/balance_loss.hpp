// SPDX-License-Identifier: Apache-2.0
// balance_loss on the reference backend: plain loops, sequence by sequence; see
// ops/balance_loss.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/reference/index_check.hpp"
#include "deepseek/backend/rows/balance_loss.hpp"

namespace deepseek {

// Not a lambda: a host-device function calls it.
struct count_in {
  double* of;
  DEEPSEEK_HOST_DEVICE void operator()(index_t d) const { of[d] += 1; }
};

// visit(first, last, f, weight) for each sequence with tokens: L is the sum over these of weight
// times the sum over their tokens and experts i of f(i / group_size) s_i.
template <class Scores, class Ids, class Spec, class Visit>
void for_balanced_sequences(const reference& b, const balance_inputs<Scores, Ids>& in,
                            const Spec& spec, const Visit& visit) {
  const index_t tokens = in.scores.extent(0), experts = in.scores.extent(1);
  const index_t groups = spec.groups > 0 ? spec.groups : experts, size = experts / groups;
  require_indices(in.ids, experts, "balance_loss: ids");
  const auto& at = spec.sequences;
  if (!at.empty()) require_offsets(at, tokens, "balance_loss: sequences");
  const index_t sequences = at.empty() ? 1 : at.extent(0) - 1;
  double counted = 0;
  for (index_t q = 0; q < sequences; ++q) counted += at.empty() || at(q) < at(q + 1) ? 1 : 0;
  const scope freed(b.workspace());
  const auto f = b.workspace().template make<double, dyn>(groups);
  const double most =
      static_cast<double>(spec.count == balance_count::tokens ? spec.top_groups : in.ids.extent(1));
  for (index_t q = 0; q < sequences; ++q) {
    const index_t first = at.empty() ? 0 : at(q), last = at.empty() ? tokens : at(q + 1);
    if (first == last) continue;
    for (index_t d = 0; d < groups; ++d) f(d) = 0;
    for (index_t t = first; t < last; ++t) {
      count_token(in.ids, t, size, spec.count, count_in{f.data()});
    }
    const double n = static_cast<double>(last - first);
    visit(first, last, f, spec.alpha * static_cast<double>(groups) / (most * n * n * counted));
  }
}

template <class P, class I, class Spec>
double balance_loss_impl(const reference& b, const balance_inputs<P, I>& in, const Spec& spec) {
  const index_t experts = in.scores.extent(1);
  const index_t size = spec.groups > 0 ? experts / spec.groups : 1;
  double loss = 0;
  for_balanced_sequences(b, in, spec, [&](index_t first, index_t last, const auto& f, double w) {
    double sum = 0;
    for (index_t t = first; t < last; ++t) {
      double row = 0;
      for (index_t e = 0; e < experts; ++e)
        row += f(e / size) * convert_to<double>(in.scores(t, e));
      sum += row / balance_divisor(serial_team{}, slice(in.scores, t), spec.share);
    }
    loss += w * sum;
  });
  return loss;
}

template <class P, class I, class DS, class Spec>
void balance_loss_backward_impl(const reference& b, const balance_inputs<P, I>& in,
                                const DS& dscores, const Spec& spec) {
  using T = typename DS::value_type;
  const index_t experts = in.scores.extent(1);
  const index_t size = spec.groups > 0 ? experts / spec.groups : 1;
  for_balanced_sequences(b, in, spec, [&](index_t first, index_t last, const auto& f, double w) {
    for (index_t t = first; t < last; ++t) {
      const double divisor = balance_divisor(serial_team{}, slice(in.scores, t), spec.share);
      double mean = 0;  // of f over the divided scores; they sum to one, so it is subtracted
      if (spec.share == balance_share::divided) {
        for (index_t e = 0; e < experts; ++e) {
          mean += f(e / size) * convert_to<double>(in.scores(t, e)) / divisor;
        }
      }
      for (index_t e = 0; e < experts; ++e) {
        const double d = w * (f(e / size) - mean) / divisor;
        dscores(t, e) = convert_to<T>(convert_to<double>(dscores(t, e)) + d);
      }
    }
  });
}

template <class O, class L>
void expert_load_impl(const reference&, const O& offsets, const L& load) {
  for (index_t e = 0; e < load.extent(0); ++e) {
    load(e) += static_cast<typename L::value_type>(offsets(e + 1) - offsets(e));
  }
}

template <class I, class L>
void choice_load_impl(const reference&, const I& ids, const L& load) {
  require_indices(ids, load.extent(0), "choice_load: ids");
  for (index_t t = 0; t < ids.extent(0); ++t) {
    for (index_t k = 0; k < ids.extent(1); ++k) load(ids(t, k)) += 1;
  }
}

}  // namespace deepseek
