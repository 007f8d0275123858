// SPDX-License-Identifier: Apache-2.0
// attention: o_i = sum_j p_ij v_j, p_ij = e^(s_ij - lse_i), s_ij = scale q_i . k_j, changed by the
// pattern's score modifiers if it has some (pattern/score.hpp), lse_i = log sum_j e^s_ij, j over
// the keys that the pattern shows query i. Query head h reads key-value head h / (heads /
// kv_heads). Scores are never stored: memory is linear in the sequence, time follows the tiles that
// the pattern keeps. A query that sees no key: o = 0, lse = -inf, gradients 0. What is not visible
// is never used; a NaN that is visible stays. Types may differ; scores and sums in accumulate_t of
// the output. Bits do not depend on threads, nor on pages; a query of a batch equals it alone.
// Errors: shape_mismatch, invalid_argument, offsets. Cost: 2 (d + dv) flops a visible pair,
// backward 5/2 of it. Sources: Vaswani et al. 2017; Milakov and Gimelshein 2018; Dao et al. 2022,
// 2023.
#pragma once

#include "deepseek/core/call.hpp"   // sequence_offsets
#include "deepseek/core/dtype.hpp"  // accumulate_t
#include "deepseek/ops/argument.hpp"
#include "deepseek/pattern/pattern.hpp"

#include <algorithm>
#include <cmath>

namespace deepseek {

template <class Q, class K, class V>
struct attention_inputs {
  Q q;  // [queries, heads, d]
  K k;  // [keys, kv_heads, d]
  V v;  // [keys, kv_heads, dv]
};
template <class Q, class K, class V>
attention_inputs(Q&&, K&&, V&&) -> attention_inputs<argument_t<Q>, argument_t<K>, argument_t<V>>;

template <class O, class L = none>
struct attention_outputs {
  O o;      // [queries, heads, dv]
  L lse{};  // [queries, heads], or none{}: not wanted
};
template <class O, class L>
attention_outputs(O&&, L&&) -> attention_outputs<argument_t<O>, argument_t<L>>;
template <class O>
attention_outputs(O&&) -> attention_outputs<argument_t<O>, none>;

template <class DO, class DQ, class DK, class DV>
struct attention_gradients {
  DO d_o;  // [queries, heads, dv], read
  DQ dq;   // [queries, heads, d], written
  DK dk;   // [keys, kv_heads, d], written
  DV dv;   // [keys, kv_heads, dv], written
};
template <class DO, class DQ, class DK, class DV>
attention_gradients(DO&&, DQ&&, DK&&, DV&&)
    -> attention_gradients<argument_t<DO>, argument_t<DQ>, argument_t<DK>, argument_t<DV>>;

template <class P, class Space = host>
struct attention_spec {
  P pattern{};
  double scale = 0;                            // 0: 1 / sqrt(d)
  sequence_offsets<Space> query_offsets = {};  // [sequences + 1]; empty: one sequence
  sequence_offsets<Space> key_offsets = {};    // as many as query_offsets
  index_t start = -1;  // position of each sequence's first query; -1: its last query meets its last
                       // key
  page_table<Space> pages = {};  // where keys and values stand, of one sequence; size 0: in order
  index_t keys = 0;              // that stand in pages
  sequence_offsets<Space> start_at = {};  // [1]: a start that is read when the op runs, of one
                                          // sequence; it has start + queries of the keys,
  index_t ratio = 1;                      // or floor((start + queries) / ratio): entries
};

// Rows and positions of one sequence of a packed batch; its keys have positions 0 .. keys - 1.
struct attention_range {
  index_t query, queries, key, keys, start;
  page_table<host> pages = {};

  // The row of key j, and how many keys from j on stand in one run of rows.
  index_t key_row(index_t j) const {
    return pages.size == 0 ? key + j : pages.pages(j / pages.size) * pages.size + j % pages.size;
  }
  index_t run_of_keys(index_t j) const {
    return pages.size == 0 ? keys - j : std::min(keys - j, pages.size - j % pages.size);
  }
};

// What a pattern is bound to for one head of a sequence.
inline pattern_scope scope_of(const attention_range& range, index_t head) {
  return {.head = head,
          .keys = range.keys,
          .row = range.query,
          .start = range.start,
          .queries = range.queries};
}

template <class P, class S>
index_t sequence_count(const attention_spec<P, S>& spec) {
  return spec.query_offsets.extent(0) > 0 ? spec.query_offsets.extent(0) - 1 : 1;
}

template <class P, class S>
attention_range sequence_range(const attention_spec<P, S>& spec, index_t s, index_t queries,
                               index_t keys) {
  attention_range r{0, queries, 0, keys, spec.start};
  if (spec.query_offsets.extent(0) > 0) {
    r.query = spec.query_offsets(s);
    r.queries = spec.query_offsets(s + 1) - r.query;
    r.key = spec.key_offsets(s);
    r.keys = spec.key_offsets(s + 1) - r.key;
  }
  if (spec.pages.size > 0) r.keys = spec.keys;
  if constexpr (std::is_same_v<S, host>) r.pages = spec.pages;
  if (r.start < 0) r.start = r.keys - r.queries;
  if constexpr (std::is_same_v<S, host>) {
    if (spec.start_at.extent(0) > 0) {
      r.start = spec.start_at(0);
      r.keys = (r.start + queries) / spec.ratio;
    }
  }
  return r;
}

namespace attention_checks {

// k and v have `rows` rows.
template <class S>
void require_pages(const page_table<S>& at, index_t keys, index_t rows, const char* op) {
  require(at.size > 0, error_code::invalid_argument, op, ": a page of ", at.size,
          " positions; pass a size > 0, or 0 for keys in order");
  const index_t pages = at.pages.extent(0), needed = (keys + at.size - 1) / at.size;
  require(keys >= 0 && needed <= pages, error_code::index_range, op, ": ", keys,
          " keys do not fit ", pages, " pages of ", at.size, "; pass a page for each ", at.size,
          " keys");
  require_data(at.pages, "attention: page table");
  if constexpr (std::is_same_v<S, host>) {
    for (index_t i = 0; i < needed; ++i) {
      const index_t page = at.pages(i), end = std::min(keys - i * at.size, at.size);
      require(page >= 0 && page * at.size + end <= rows, error_code::index_range, op, ": pages[", i,
              "] is ", page, ", outside the ", rows, " rows of k in pages of ", at.size,
              "; pass numbers of pages that exist");
    }
  }
}

// For ops whose scores are not those of ops::attention.
template <class P>
constexpr void refuse_modifiers() {
  static_assert(!modifies_scores<P>,
                "deepseek::scored: this op has scores of its own and takes no score modifier (an "
                "indexer, attention_weights); pass it the pattern inside scored<>");
}

template <class P, class S>
void require_order(const attention_spec<P, S>& spec, const char* op) {
  require(spec.pages.size == 0, error_code::unsupported, op,
          ": keys in pages; pass rows in the order of their positions");
}

template <class P, class S>
void require_spec_offsets(const attention_spec<P, S>& spec, index_t queries, index_t keys,
                          const char* op) {
  const std::string of_queries = std::string(op) + ": query_offsets";
  const std::string of_keys = std::string(op) + ": key_offsets";
  require_data(spec.query_offsets, of_queries.c_str());
  require_data(spec.key_offsets, of_keys.c_str());
  if constexpr (std::is_same_v<S, host>) {
    require_offsets(spec.query_offsets, queries, of_queries.c_str());
    require_offsets(spec.key_offsets, keys, of_keys.c_str());
  }
}

template <class P, class S>
void require_start_at(const attention_spec<P, S>& spec, index_t queries, index_t keys,
                      const char* op) {
  require(spec.start_at.extent(0) == 1 && spec.pages.size == 0 && spec.query_offsets.extent(0) == 0,
          error_code::unsupported, op, ": start_at[", spec.start_at.extent(0),
          "] with pages or packed sequences; pass one number, for one sequence in order");
  require_data(spec.start_at, "attention: start_at");
  require(spec.ratio >= 1, error_code::invalid_argument, op, ": ratio is ", spec.ratio,
          "; pass the positions of a key, >= 1");
  if constexpr (std::is_same_v<S, host>) {
    require(spec.start_at(0) >= 0 && (spec.start_at(0) + queries) / spec.ratio <= keys,
            error_code::index_range, op, ": start_at[0] is ", spec.start_at(0), ", but there are ",
            keys, " keys (ratio ", spec.ratio, ") for ", queries,
            " queries; pass a number >= 0 whose keys are there");
  }
}

template <class P, class S>
void require_spec(const attention_spec<P, S>& spec, index_t queries, index_t keys,
                  const char* op = "attention", index_t heads = 1) {
  check_pattern<P>();
  require(std::isfinite(spec.scale), error_code::invalid_argument, op, ": scale is ", spec.scale,
          "; pass a finite number, or 0 for 1 / sqrt(d)");
  require(spec.start >= -1 && spec.start <= (index_t{1} << 48), error_code::invalid_argument, op,
          ": start is ", spec.start,
          "; pass the position of the first query (0 .. 2^48), or -1 to align the last query with "
          "the last key");
  const index_t nq = spec.query_offsets.extent(0), nk = spec.key_offsets.extent(0);
  require(nq == nk, error_code::shape_mismatch, op, ": query_offsets[", nq, "] and key_offsets[",
          nk, "] differ in length; pass sequences + 1 of each, or neither");
  if (spec.pages.size != 0) {
    require(nq == 0, error_code::unsupported, op,
            ": keys in pages and several sequences; run one sequence at a time");
    require_pages(spec.pages, spec.keys, keys, op);
  }
  if (nq > 0) require_spec_offsets(spec, queries, keys, op);
  if (spec.start_at.extent(0) != 0) require_start_at(spec, queries, keys, op);
  // On a device the host knows the sizes of one sequence whose start it gives.
  const bool known = nq == 0 && spec.start_at.extent(0) == 0;
  if constexpr (std::is_same_v<S, host> || checked_by_sizes<P>) {
    for (index_t i = 0; (std::is_same_v<S, host> || known) && i < sequence_count(spec); ++i) {
      const attention_range range = sequence_range(spec, i, queries, keys);
      if (range.queries > 0 && heads > 0) require_pattern(spec.pattern, scope_of(range, heads - 1));
    }
  }
}

template <class In, class Out>
void require_shapes(const In& in, const Out& out) {
  static_assert(decltype(in.q)::rank == 3 && decltype(in.k)::rank == 3 &&
                    decltype(in.v)::rank == 3 && decltype(out.o)::rank == 3,
                "deepseek::attention: wrong ranks; pass q[queries, heads, d], k[keys, kv_heads, "
                "d], v[keys, kv_heads, dv], o[queries, heads, dv]");
  require_extent(in.k, 2, in.q.extent(2), "attention: k");
  require_extent(in.v, 0, in.k.extent(0), "attention: v");
  require_extent(in.v, 1, in.k.extent(1), "attention: v");
  require_extent(out.o, 0, in.q.extent(0), "attention: o");
  require_extent(out.o, 1, in.q.extent(1), "attention: o");
  require_extent(out.o, 2, in.v.extent(2), "attention: o");
  const index_t heads = in.q.extent(1), kv_heads = in.k.extent(1);
  require(kv_heads > 0 ? heads % kv_heads == 0 : heads == 0, error_code::shape_mismatch,
          "attention: ", heads, " heads of q", shape_of(in.q), " do not share the ", kv_heads,
          " heads of k", shape_of(in.k),
          " evenly; pass a number of key-value heads that divides the number of heads");
  require_data(in.q, "attention: q");
  require_data(in.k, "attention: k");
  require_data(in.v, "attention: v");
  require_data(out.o, "attention: o");
  if constexpr (is_view<std::remove_cvref_t<decltype(out.lse)>>) {
    static_assert(decltype(out.lse)::rank == 2,
                  "deepseek::attention: lse has the wrong rank; pass lse[queries, heads]");
    require_extent(out.lse, 0, in.q.extent(0), "attention: lse");
    require_extent(out.lse, 1, in.q.extent(1), "attention: lse");
    require_data(out.lse, "attention: lse");
  }
}

// The spec with its scale written out.
template <class P, class S>
attention_spec<P, S> resolved(attention_spec<P, S> spec, index_t d) {
  if (spec.scale == 0) spec.scale = d > 0 ? 1 / std::sqrt(static_cast<double>(d)) : 1;
  return spec;
}

}  // namespace attention_checks

struct attention_op {
  static constexpr std::string_view name = "attention";

  template <class B, class In, class Out, class P, class S>
  void operator()(const B& b, const In& given, const Out& out,
                  const attention_spec<P, S>& spec) const {
    const attention_inputs in{as_const(as_view(given.q)), as_const(as_view(given.k)),
                              as_const(as_view(given.v))};
    const attention_outputs to{as_view(out.o), view_or_none(out.lse)};
    check_spaces(b, in.q, in.k, in.v, to.o, to.lse, spec.query_offsets);
    attention_checks::require_shapes(in, to);
    attention_checks::require_spec(spec, in.q.extent(0), in.k.extent(0), "attention",
                                   in.q.extent(1));
    if (in.q.extent(0) == 0 || in.q.extent(1) == 0) return;
    attention_impl(b, in, to, attention_checks::resolved(spec, in.q.extent(2)));
  }
};

struct attention_backward_op {
  static constexpr std::string_view name = "attention_backward";

  // `out` holds what attention wrote for the same inputs: o and lse.
  template <class B, class In, class Out, class G, class P, class S>
  void operator()(const B& b, const In& given, const Out& out, const G& gradients,
                  const attention_spec<P, S>& spec) const {
    static_assert(!std::is_same_v<std::remove_cvref_t<decltype(out.lse)>, none>,
                  "deepseek::attention_backward: lse is missing; let attention write it and pass "
                  "attention_outputs{o, lse}");
    const attention_inputs in{as_const(as_view(given.q)), as_const(as_view(given.k)),
                              as_const(as_view(given.v))};
    const attention_outputs from{as_const(as_view(out.o)), as_const(as_view(out.lse))};
    const attention_gradients g{as_const(as_view(gradients.d_o)), as_view(gradients.dq),
                                as_view(gradients.dk), as_view(gradients.dv)};
    check_spaces(b, in.q, in.k, in.v, from.o, from.lse, spec.query_offsets);
    check_spaces(b, g.d_o, g.dq, g.dk, g.dv);
    attention_checks::require_shapes(in, from);
    require_same_shape(g.d_o, from.o, "attention_backward: d_o");
    require_same_shape(g.dq, in.q, "attention_backward: dq");
    require_same_shape(g.dk, in.k, "attention_backward: dk");
    require_same_shape(g.dv, in.v, "attention_backward: dv");
    require_data(g.d_o, "attention_backward: d_o");
    require_data(g.dq, "attention_backward: dq");
    require_data(g.dk, "attention_backward: dk");
    require_data(g.dv, "attention_backward: dv");
    attention_checks::require_spec(spec, in.q.extent(0), in.k.extent(0), "attention_backward",
                                   in.q.extent(1));
    attention_checks::require_order(spec, "attention_backward");
    attention_backward_impl(b, in, from, g, attention_checks::resolved(spec, in.q.extent(2)));
  }
};

namespace ops {
inline constexpr attention_op attention{};
inline constexpr attention_backward_op attention_backward{};
}  // namespace ops

}  // namespace deepseek
