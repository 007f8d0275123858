// SPDX-License-Identifier: Apache-2.0
// balance_loss on the device: ids are counted with whole numbers (any order gives the same), a warp
// or a block sums each token, tokens in two passes of fixed order. See ops/balance_loss.hpp. The
// loss goes to the host, so it waits.
#pragma once

#include "deepseek/backend/cuda/elements.hpp"
#include "deepseek/backend/cuda/number_sum.hpp"
#include "deepseek/backend/cuda/offset_checks.hpp"
#include "deepseek/backend/cuda/require_indices.hpp"
#include "deepseek/backend/cuda/unless_fault.hpp"
#include "deepseek/backend/rows/balance_loss.hpp"

namespace deepseek {

namespace cuda_balance_loss {

// Which sequence holds row t. None given: one.
template <class Offsets>
DEEPSEEK_HOST_DEVICE index_t sequence_at(const Offsets& offsets, index_t t) {
  return offsets.extent(0) > 1 ? sequence_of(offsets, t) : 0;
}

// What the loss is made of, for every sequence.
template <class Space>
struct counted {
  view<std::int32_t, Space, dyn, dyn> counts;  // [sequences, groups]
  view<double, Space, dyn> weights;            // [sequences]
  sequence_offsets<Space> sequences;
  balance_share share;
  index_t size;  // experts of a group

  DEEPSEEK_HOST_DEVICE double count(index_t q, index_t e) const { return counts(q, e / size); }
};

template <class Ids, class Counted>
struct count_ids {
  static constexpr int threads = 256;
  Ids ids;
  Counted to;
  balance_count how;
  fault_place faults;
  index_t blocks() const { return blocks_of(ids.extent(0), threads); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t t = block.index() * threads + block.rank();
    if (t >= ids.extent(0) || faults.found()) return;
    const index_t q = sequence_at(to.sequences, t);
    count_token(ids, t, to.size, how,
                [&](index_t d) { block.atomic_add(&to.counts(q, d), std::int32_t{1}); });
  }
};

// The factor of each sequence; 0 of an empty one.
template <class Counted>
struct weigh_sequences {
  Counted to;
  index_t tokens;
  double scale;  // alpha D / (K or M)
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t) const {
    const index_t sequences = to.weights.extent(0);
    const double full =
        row_sum(team, sequences, [&](index_t q) { return length(q) > 0 ? 1.0 : 0.0; });
    for (index_t q = team.rank(); q < sequences; q += team.size()) {
      const double n = length(q);
      to.weights(q) = n > 0 ? scale / (n * n * full) : 0;
    }
  }
  DEEPSEEK_HOST_DEVICE double length(index_t q) const {
    if (to.sequences.extent(0) == 0) return static_cast<double>(tokens);
    return static_cast<double>(to.sequences(q + 1) - to.sequences(q));
  }
};

template <class P, class Counted, class Terms>
struct token_loss {
  P scores;
  Counted from;
  Terms terms;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t t) const {
    const auto row = slice(scores, t);
    const index_t q = sequence_at(from.sequences, t);
    const double divisor = balance_divisor(team, row, from.share);
    const double sum = row_sum(team, row.extent(0), [&](index_t e) {
      return from.count(q, e) * convert_to<double>(row(e));
    });
    if (team.rank() == 0) terms(t) = from.weights(q) * sum / divisor;
  }
};

template <class P, class Counted, class DS>
struct token_gradient {
  P scores;
  Counted from;
  DS dscores;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t t) const {
    using T = typename DS::value_type;
    const auto row = slice(scores, t);
    const index_t q = sequence_at(from.sequences, t);
    const double divisor = balance_divisor(team, row, from.share);
    double mean = 0;  // of the counts over the divided scores
    if (from.share == balance_share::divided) {
      mean = row_sum(team, row.extent(0), [&](index_t e) {
        return from.count(q, e) * convert_to<double>(row(e)) / divisor;
      });
    }
    for (index_t e = team.rank(); e < row.extent(0); e += team.size()) {
      const double d = from.weights(q) * (from.count(q, e) - mean) / divisor;
      dscores(t, e) = convert_to<T>(convert_to<double>(dscores(t, e)) + d);
    }
  }
};

template <DeviceBackend B, class P, class I, class Spec>
auto count_balance(const B& b, const balance_inputs<P, I>& in, const Spec& spec) {
  using Counted = counted<typename B::space>;
  const index_t tokens = in.scores.extent(0), experts = in.scores.extent(1);
  const index_t groups = spec.groups > 0 ? spec.groups : experts;
  const index_t sequences = spec.sequences.empty() ? 1 : spec.sequences.extent(0) - 1;
  require_indices(b, in.ids, experts, "balance_loss: ids");
  if (!spec.sequences.empty()) {
    check_offsets(b, spec.sequences, tokens, "balance_loss: sequences");
  }
  const Counted to{b.workspace().template make<std::int32_t, dyn, dyn>(sequences, groups),
                   b.workspace().template make<double, dyn>(sequences), spec.sequences, spec.share,
                   experts / groups};
  fill_impl(b, 0, to.counts);
  b.launch(count_ids<I, Counted>{in.ids, to, spec.count, b.faults()});
  const double most =
      static_cast<double>(spec.count == balance_count::tokens ? spec.top_groups : in.ids.extent(1));
  const double scale = spec.alpha * static_cast<double>(groups) / most;
  run_each_row(b, 1, sequences, weigh_sequences<Counted>{to, tokens, scale});
  return to;
}

}  // namespace cuda_balance_loss

template <DeviceBackend B, class P, class I, class Spec>
double balance_loss_impl(const B& b, const balance_inputs<P, I>& in, const Spec& spec) {
  using Terms = view<double, typename B::space, dyn>;
  const index_t tokens = in.scores.extent(0);
  const scope freed(b.workspace());
  const auto from = cuda_balance_loss::count_balance(b, in, spec);
  const Terms terms = b.workspace().template make<double, dyn>(tokens);
  using F = cuda_balance_loss::token_loss<P, std::remove_const_t<decltype(from)>, Terms>;
  run_each_row(b, tokens, in.scores.extent(1), unless_fault(b, F{in.scores, from, terms}));
  return read_sum(b, tokens, cuda_number_sum::element<Terms>{terms});
}

template <DeviceBackend B, class P, class I, class DS, class Spec>
void balance_loss_backward_impl(const B& b, const balance_inputs<P, I>& in, const DS& dscores,
                                const Spec& spec) {
  const scope freed(b.workspace());
  const auto from = cuda_balance_loss::count_balance(b, in, spec);
  using F = cuda_balance_loss::token_gradient<P, std::remove_const_t<decltype(from)>, DS>;
  run_each_row(b, in.scores.extent(0), in.scores.extent(1),
               unless_fault(b, F{in.scores, from, dscores}));
}

}  // namespace deepseek
