// SPDX-License-Identifier: Apache-2.0
// prefix_top_k: for each query the positions of the k largest scores among those it may choose
// from:
//   reach::past: the scores of positions 0 .. its own; reach::everywhere: all of its sequence.
// scores[keys], one number a token; ids[queries, k] int32, ascending, -1 after the last; equal
// ones: the lower position; NaN comes last. Positions are those in the query's own sequence. Rows
// follow from each other: cost k comparisons a query and about one a key, whatever the length.
// Errors: shape_mismatch, invalid_argument, offsets, overflow. Bits do not depend on threads; a
// query alone equals it in a batch. The choice has no gradient.
#pragma once

#include "deepseek/core/call.hpp"  // sequence_offsets
#include "deepseek/ops/argument.hpp"
#include "deepseek/pattern/pattern.hpp"

#include <cstdint>

namespace deepseek {

template <class Space = host>
struct prefix_spec {
  reach among = reach::past;
  index_t start = 0;                           // position of each sequence's first query, >= 0
  sequence_offsets<Space> query_offsets = {};  // [sequences + 1]; empty: one sequence
  sequence_offsets<Space> key_offsets = {};    // as many as query_offsets
  sequence_offsets<Space> start_at = {};  // [1]: a start that is read when the op runs, instead
};

struct prefix_top_k_op {
  static constexpr std::string_view name = "prefix_top_k";

  template <class B, class X, class Ids, class S>
  void operator()(const B& b, const X& scores_in, Ids&& ids_in, const prefix_spec<S>& spec) const {
    const auto scores = as_const(as_view(scores_in));
    const auto ids = as_view(ids_in);
    check_spaces(b, scores, ids, spec.query_offsets);
    static_assert(decltype(scores)::rank == 1 && decltype(ids)::rank == 2 &&
                      std::is_same_v<typename decltype(ids)::value_type, std::int32_t>,
                  "deepseek::prefix_top_k: wrong ranks or ids that are not int32; pass "
                  "scores[keys], ids[queries, k]");
    require_data(scores, "prefix_top_k: scores");
    require_data(ids, "prefix_top_k: ids");
    require(scores.extent(0) <= INT32_MAX, error_code::overflow, "prefix_top_k: scores",
            shape_of(scores), " are more than 2147483647; positions are int32");
    require(spec.start >= 0, error_code::invalid_argument, "prefix_top_k: start is ", spec.start,
            "; pass the position of the first query, >= 0");
    require_sequences(spec, ids.extent(0), scores.extent(0));
    if (spec.start_at.extent(0) > 0) require_start_at(spec, ids.extent(0), scores.extent(0));
    if (!ids.empty()) prefix_top_k_impl(b, scores, ids, spec);
  }

 private:
  template <class S>
  static void require_start_at(const prefix_spec<S>& spec, index_t queries, index_t keys) {
    require(spec.start_at.extent(0) == 1 && spec.query_offsets.extent(0) == 0 && spec.start == 0,
            error_code::invalid_argument, "prefix_top_k: start_at[", spec.start_at.extent(0),
            "] with start ", spec.start, " or packed sequences; pass one number, for one sequence");
    require_data(spec.start_at, "prefix_top_k: start_at");
    if constexpr (std::is_same_v<S, host>) {
      const index_t start = spec.start_at(0);
      require(start >= 0 && (spec.among == reach::everywhere || start + queries <= keys),
              error_code::index_range, "prefix_top_k: ", queries, " queries from position ", start,
              " on, but ", keys, " scores; pass one for each position up to the last");
    }
  }
  template <class S>
  static void require_sequences(const prefix_spec<S>& spec, index_t queries, index_t keys) {
    const index_t nq = spec.query_offsets.extent(0), nk = spec.key_offsets.extent(0);
    require(nq == nk, error_code::shape_mismatch, "prefix_top_k: query_offsets[", nq,
            "] and key_offsets[", nk, "] differ in length; pass sequences + 1 of each, or neither");
    require(nq > 0 || spec.among == reach::everywhere || spec.start + queries <= keys,
            error_code::shape_mismatch, "prefix_top_k: ", queries, " queries from position ",
            spec.start, " on, but ", keys, " scores; pass one for each position up to the last");
    if (nq == 0) return;
    require_data(spec.query_offsets, "prefix_top_k: query_offsets");
    require_data(spec.key_offsets, "prefix_top_k: key_offsets");
    if constexpr (std::is_same_v<S, host>) {
      require_offsets(spec.query_offsets, queries, "prefix_top_k: query_offsets");
      require_offsets(spec.key_offsets, keys, "prefix_top_k: key_offsets");
      for (index_t s = 0; s + 1 < nq && spec.among == reach::past; ++s) {
        const index_t q = spec.query_offsets(s + 1) - spec.query_offsets(s);
        const index_t k = spec.key_offsets(s + 1) - spec.key_offsets(s);
        require(spec.start + q <= k, error_code::shape_mismatch, "prefix_top_k: ", q,
                " queries of sequence ", s, " from position ", spec.start, " on, but ", k,
                " scores; pass one for each position up to the last");
      }
    }
  }
};
namespace ops {
inline constexpr prefix_top_k_op prefix_top_k{};
}

}  // namespace deepseek
