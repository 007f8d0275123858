// SPDX-License-Identifier: Apache-2.0
// block_top_k: which blocks of keys a query looks at, from its attention over compressed entries.
// Entry e stands for the positions of window e (of `ratio`), with overlap for those of window
// e - 1, too; a block is `windows` windows, windows j = 0, 1, ... belonging to block j / windows.
//   p[h, e] = e^(scale q_h . k_e - lse_h)       over the entries that the pattern shows the query
//   importance[g, b] = sum over the heads h of key-value head g, over e, over e's windows in b
//   ids[g, :] = the `count` most important of the blocks 0 .. t / (ratio windows), t the query's
//               position: the first `initial` and the last `recent` of them before all others
// ids[queries, kv_heads, count] int32, ascending, -1 after the last; equal ones: the lower block.
// q[queries, heads, d] k[entries, kv_heads, d] lse[queries, heads], what attention wrote for them.
// Sums over heads, then entries, in order, in accumulate_t of q. Errors: shape_mismatch,
// invalid_argument, offsets. Bits do not depend on threads; a query alone equals it in a batch.
// Cost: 2 d flops a visible pair, and some count comparisons a block. The choice has no gradient.
// Source: Yuan et al. 2025 (native sparse attention), section 3.3.2, equations 8 to 11.
#pragma once

#include "deepseek/ops/attention_weights.hpp"
#include "deepseek/ops/compress.hpp"

#include <cstdint>

namespace deepseek {

struct block_rule {
  index_t ratio = 0;                  // positions of a window, >= 1
  index_t windows = 1;                // of a block, >= 1
  overlap entries = overlap::absent;  // whether an entry stands for the window before, too
  index_t initial = 1, recent = 2;    // blocks that are always chosen; together <= count
};

struct block_top_k_op {
  static constexpr std::string_view name = "block_top_k";

  // inputs: attention_weights_inputs{q, k, lse}. The spec's start is the first query's position.
  template <class B, class In, class Ids, class P, class S>
  void operator()(const B& b, const In& given, Ids&& ids_in, const attention_spec<P, S>& spec,
                  const block_rule& rule) const {
    const attention_weights_inputs in{as_const(as_view(given.q)), as_const(as_view(given.k)),
                                      as_const(as_view(given.lse))};
    const auto ids = as_view(ids_in);
    check_spaces(b, in.q, in.k, in.lse, ids, spec.query_offsets);
    attention_checks::require_spec(spec, in.q.extent(0), in.k.extent(0), "block_top_k");
    attention_checks::require_order(spec, "block_top_k");
    require_shapes(in, ids);
    require_rule(rule, ids.extent(2));
    require(spec.start >= 0 || spec.start_at.extent(0) > 0, error_code::invalid_argument,
            "block_top_k: start is ", spec.start,
            "; pass the position of the first query (entries are not positions), >= 0");
    require(spec.start_at.extent(0) == 0 || spec.ratio == rule.ratio, error_code::invalid_argument,
            "block_top_k: start_at with a ratio of ", spec.ratio, ", but windows of ", rule.ratio,
            "; pass the rule's ratio in the spec");
    if (ids.empty()) return;
    block_top_k_impl(b, in, ids, attention_checks::resolved(spec, in.q.extent(2)), rule);
  }

 private:
  template <class In, class Ids>
  static void require_shapes(const In& in, const Ids& ids) {
    static_assert(decltype(in.q)::rank == 3 && decltype(in.k)::rank == 3 &&
                      decltype(in.lse)::rank == 2 && Ids::rank == 3 &&
                      std::is_same_v<typename Ids::value_type, std::int32_t>,
                  "deepseek::block_top_k: wrong ranks or ids that are not int32; pass q[queries, "
                  "heads, d], k[entries, kv_heads, d], lse[queries, heads], ids[queries, kv_heads, "
                  "count]");
    const index_t heads = in.q.extent(1), kv_heads = in.k.extent(1);
    require_extent(in.k, 2, in.q.extent(2), "block_top_k: k");
    require_extent(in.lse, 0, in.q.extent(0), "block_top_k: lse");
    require_extent(in.lse, 1, heads, "block_top_k: lse");
    require_extent(ids, 0, in.q.extent(0), "block_top_k: ids");
    require_extent(ids, 1, kv_heads, "block_top_k: ids");
    require(heads > 0 && kv_heads > 0 && heads % kv_heads == 0, error_code::shape_mismatch,
            "block_top_k: ", heads, " heads of q", shape_of(in.q), " do not share the ", kv_heads,
            " heads of k", shape_of(in.k),
            " evenly; pass a number of key-value heads that divides the number of heads");
    require_data(in.q, "block_top_k: q");
    require_data(in.k, "block_top_k: k");
    require_data(in.lse, "block_top_k: lse");
    require_data(ids, "block_top_k: ids");
  }
  static void require_rule(const block_rule& rule, index_t count) {
    require(rule.ratio >= 1 && rule.windows >= 1, error_code::invalid_argument,
            "block_top_k: ratio is ", rule.ratio, ", windows is ", rule.windows,
            "; pass the positions of a window and the windows of a block, >= 1");
    require(rule.initial >= 0 && rule.recent >= 0 && rule.initial + rule.recent <= count,
            error_code::invalid_argument, "block_top_k: ", rule.initial, " initial and ",
            rule.recent, " recent blocks of ", count,
            "; pass numbers >= 0 that fit the chosen blocks together");
  }
};
// Blocks that a query may look at, at most.
template <class P, class S>
index_t most_blocks(const attention_spec<P, S>& spec, index_t queries, index_t entries,
                    const block_rule& rule) {
  const bool moves = spec.start_at.extent(0) > 0;
  const index_t end = moves ? (entries + 1) * spec.ratio : spec.start + queries;
  return end / (rule.ratio * rule.windows) + 1;
}

namespace ops {
inline constexpr block_top_k_op block_top_k{};
}

}  // namespace deepseek
