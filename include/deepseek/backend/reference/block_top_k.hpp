// SPDX-License-Identifier: Apache-2.0
// block_top_k on the reference backend, one query and key-value head at a time; see
// ops/block_top_k.hpp.
#pragma once

#include "deepseek/backend/reference/attention.hpp"
#include "deepseek/backend/rows/top_k.hpp"
#include "deepseek/ops/block_top_k.hpp"

#include <algorithm>
#include <limits>

namespace deepseek {

// One query of one sequence: its row in the batch, position, and the sequence's entries.
struct block_query {
  index_t row, position;
  attention_range range;
};

// importance[b] of one key-value head, b over the blocks up to the query's own.
template <class In, class Spec, class A>
void block_importance(const In& in, const Spec& spec, const block_rule& rule, const block_query& at,
                      index_t kv, const view<A, host, dyn>& importance) {
  const index_t group = in.q.extent(1) / in.k.extent(1), blocks = importance.extent(0);
  for (index_t b = 0; b < blocks; ++b) importance(b) = 0;
  for (index_t h = kv * group; h < (kv + 1) * group; ++h) {
    const A lse = static_cast<A>(in.lse(at.row, h));
    if (lse == -std::numeric_limits<A>::infinity()) continue;
    const auto pattern = bind_pattern(spec.pattern, scope_of(at.range, h));
    for_visible_keys(pattern, at.position, at.range.keys, [&](index_t e) {
      A dot = 0;
      for (index_t d = 0; d < in.q.extent(2); ++d) {
        dot += static_cast<A>(in.q(at.row, h, d)) * static_cast<A>(in.k(at.range.key + e, kv, d));
      }
      const A p = std::exp(dot * static_cast<A>(spec.scale) - lse);
      const index_t own = e / rule.windows, before = e > 0 ? (e - 1) / rule.windows : blocks;
      if (own < blocks) importance(own) += p;
      if (rule.entries == overlap::present && before < blocks) importance(before) += p;
    });
  }
}

// The chosen blocks in ascending order, -1 after the last.
template <class A, class Ids>
void choose_blocks(const block_rule& rule, const view<A, host, dyn>& importance, const Ids& ids) {
  const index_t blocks = importance.extent(0), count = std::min(ids.extent(0), blocks);
  for (index_t b = 0; b < blocks; ++b) {
    if (b < rule.initial || b >= blocks - rule.recent) {
      importance(b) = std::numeric_limits<A>::infinity();
    }
  }
  const auto best = rows(ids, 0, count);
  top_k_ids(importance, best);
  // Ids may lie apart: a sort by insertion, the list is short.
  for (index_t i = 1; i < count; ++i) {
    for (index_t j = i; j > 0 && best(j) < best(j - 1); --j) std::swap(best(j), best(j - 1));
  }
  for (index_t i = count; i < ids.extent(0); ++i) ids(i) = -1;
}

// each(n, f) runs f(0) ... f(n - 1), which choose for one query and key-value head; take(m) gives
// memory for m importances, which the next call on the same thread may take again.
template <class A, class In, class Ids, class Spec, class Each, class Take>
void choose_all_blocks(const In& in, const Ids& ids, const Spec& spec, const block_rule& rule,
                       const Each& each, const Take& take) {
  const index_t kv_heads = in.k.extent(1);
  for (index_t s = 0; s < sequence_count(spec); ++s) {
    const auto range = sequence_range(spec, s, in.q.extent(0), in.k.extent(0));
    each(range.queries * kv_heads, [&](index_t task) {
      const index_t i = task / kv_heads, kv = task % kv_heads;
      const block_query at{range.query + i, range.start + i, range};
      const index_t reached = at.position / (rule.ratio * rule.windows) + 1;
      const view<A, host, dyn> importance(take(reached), {reached});
      block_importance(in, spec, rule, at, kv, importance);
      choose_blocks(rule, importance, slice(slice(ids, at.row), kv));
    });
  }
}

template <class In, class Ids, class Spec>
void block_top_k_impl(const reference& b, const In& in, const Ids& ids, const Spec& spec,
                      const block_rule& rule) {
  using A = accumulate_t<typename decltype(in.q)::value_type>;
  const auto one_by_one = [](index_t n, const auto& f) {
    for (index_t i = 0; i < n; ++i) f(i);
  };
  const scope freed(b.workspace());
  const index_t most = most_blocks(spec, in.q.extent(0), in.k.extent(0), rule);
  A* const memory = b.workspace().template make<A, dyn>(most).data();
  choose_all_blocks<A>(in, ids, spec, rule, one_by_one, [&](index_t) { return memory; });
}

}  // namespace deepseek
