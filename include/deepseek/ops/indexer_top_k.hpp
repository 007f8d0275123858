// SPDX-License-Identifier: Apache-2.0
// indexer_top_k: the keys that the lightning indexer selects for each query,
//   ids[t, :] = the k keys s with the largest I[t, s] among those that the pattern shows t,
// I as in ops/lightning_indexer.hpp. ids[queries, k] int32: positions in the query's own sequence,
// -1 after the last where a query has fewer than k keys with a score above -inf. Equal scores: the
// lower position; a NaN score comes after every number. selection_order::by_score: largest first;
// by_position: ascending, which index_set(ids, index_order::ascending) takes.
// Memory: the scores of a block of queries (some 4 million of them), never of all.
// Errors, bits: those of lightning_indexer; overflow (more than 2^31 - 1 keys).
// Cost: that of the scores, and about one comparison a score.
#pragma once

#include "deepseek/ops/lightning_indexer.hpp"

#include <cstdint>

namespace deepseek {

enum class selection_order { by_score, by_position };

struct indexer_top_k_op {
  static constexpr std::string_view name = "indexer_top_k";

  template <class B, class In, class Ids, class P, class S>
  void operator()(const B& b, const In& given, Ids&& ids_in, const attention_spec<P, S>& spec,
                  selection_order order) const {
    const auto in = indexer_checks::views_of(given);
    const auto ids = as_view(ids_in);
    indexer_checks::require_inputs(b, in);
    check_spaces(b, ids, spec.query_offsets);
    static_assert(decltype(ids)::rank == 2 &&
                      std::is_same_v<typename decltype(ids)::value_type, std::int32_t>,
                  "deepseek::indexer_top_k: ids are not a matrix of int32; pass a view "
                  "[queries, k] of std::int32_t");
    attention_checks::refuse_modifiers<P>();
    attention_checks::require_spec(spec, in.q.extent(0), in.k.extent(0), "indexer_top_k");
    attention_checks::require_order(spec, "indexer_top_k");
    require_extent(ids, 0, in.q.extent(0), "indexer_top_k: ids");
    require_data(ids, "indexer_top_k: ids");
    require(in.k.extent(0) <= INT32_MAX, error_code::overflow, "indexer_top_k: k", shape_of(in.k),
            " has more than 2147483647 keys; positions are int32");
    if (ids.empty()) return;
    indexer_top_k_impl(b, in, ids, attention_checks::resolved(spec, in.q.extent(2)), order);
  }
};
namespace ops {
inline constexpr indexer_top_k_op indexer_top_k{};
}

}  // namespace deepseek
