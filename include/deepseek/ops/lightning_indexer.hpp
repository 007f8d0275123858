// SPDX-License-Identifier: Apache-2.0
// lightning_indexer: how much query t wants key s, one number for all heads of the attention after:
//   I[t, s] = scale sum_h w[t, h] ReLU(q[t, h] . k[s]); -inf where the pattern hides s from t.
// q[queries, heads, d] k[keys, d] w[queries, heads] (of either sign) scores[queries, columns].
// Column j is key j of the query's own sequence; columns beyond its keys hold -inf.
// Backward, with g = dscores at visible pairs and r = q . k: dw += g ReLU(r), dr = g w where r > 0
// (0 at 0), dq = sum dr k, dk = sum dr q, each times scale; all are written. What is not visible is
// never used. Sums over heads in order (tensor cores: in a fixed order of their own), in
// accumulate_t of scores (backward: of dq).
// Errors: shape_mismatch, invalid_argument, offsets. Bits do not depend on threads; a row alone
// equals it in a batch. Cost: 2 heads d flops a pair. Source: DeepSeek-V3.2-Exp 2025, section 2.1.
#pragma once

#include "deepseek/ops/attention.hpp"

namespace deepseek {

template <class Q, class K, class W>
struct indexer_inputs {
  Q q;  // [queries, heads, d]
  K k;  // [keys, d]
  W w;  // [queries, heads]
};
template <class Q, class K, class W>
indexer_inputs(Q&&, K&&, W&&) -> indexer_inputs<argument_t<Q>, argument_t<K>, argument_t<W>>;

template <class DQ, class DK, class DW>
struct indexer_gradients {
  DQ dq;
  DK dk;
  DW dw;
};
template <class DQ, class DK, class DW>
indexer_gradients(DQ&&, DK&&, DW&&)
    -> indexer_gradients<argument_t<DQ>, argument_t<DK>, argument_t<DW>>;

namespace indexer_checks {

template <class In>
auto views_of(const In& in) {
  return indexer_inputs{as_const(as_view(in.q)), as_const(as_view(in.k)), as_const(as_view(in.w))};
}

template <class B, class In>
void require_inputs(const B& b, const In& in) {
  check_spaces(b, in.q, in.k, in.w);
  static_assert(decltype(in.q)::rank == 3 && decltype(in.k)::rank == 2 && decltype(in.w)::rank == 2,
                "deepseek::lightning_indexer: wrong ranks; pass q[queries, heads, d], k[keys, d], "
                "w[queries, heads]");
  require_extent(in.k, 1, in.q.extent(2), "lightning_indexer: k");
  require_extent(in.w, 0, in.q.extent(0), "lightning_indexer: w");
  require_extent(in.w, 1, in.q.extent(1), "lightning_indexer: w");
  require_data(in.q, "lightning_indexer: q");
  require_data(in.k, "lightning_indexer: k");
  require_data(in.w, "lightning_indexer: w");
}

// One column for each key of the longest sequence, where the host can read their offsets.
template <class Scores, class Spec>
void require_scores(const Scores& scores, const Spec& spec, index_t queries, index_t keys) {
  static_assert(Scores::rank == 2,
                "deepseek::lightning_indexer: wrong rank; pass scores[queries, keys]");
  require_extent(scores, 0, queries, "lightning_indexer: scores");
  require_data(scores, "lightning_indexer: scores");
  if constexpr (std::is_same_v<typename Scores::space, host>) {
    for (index_t s = 0; s < sequence_count(spec); ++s) {
      const index_t needed = sequence_range(spec, s, queries, keys).keys;
      require(scores.extent(1) >= needed, error_code::shape_mismatch, "lightning_indexer: scores",
              shape_of(scores), " have fewer columns than the ", needed, " keys of sequence ", s,
              "; pass one for each key of the longest sequence");
    }
  }
}

}  // namespace indexer_checks

struct lightning_indexer_op {
  static constexpr std::string_view name = "lightning_indexer";

  template <class B, class In, class Scores, class P, class S>
  void operator()(const B& b, const In& given, Scores&& scores_in,
                  const attention_spec<P, S>& spec) const {
    const auto in = indexer_checks::views_of(given);
    const auto scores = as_view(scores_in);
    indexer_checks::require_inputs(b, in);
    check_spaces(b, scores, spec.query_offsets);
    attention_checks::refuse_modifiers<P>();
    attention_checks::require_spec(spec, in.q.extent(0), in.k.extent(0), "lightning_indexer");
    attention_checks::require_order(spec, "lightning_indexer");
    indexer_checks::require_scores(scores, spec, in.q.extent(0), in.k.extent(0));
    if (scores.empty()) return;
    lightning_indexer_impl(b, in, scores, attention_checks::resolved(spec, in.q.extent(2)));
  }
};

struct lightning_indexer_backward_op {
  static constexpr std::string_view name = "lightning_indexer_backward";

  template <class B, class In, class DS, class G, class P, class S>
  void operator()(const B& b, const In& given, const DS& dscores_in, const G& gradients,
                  const attention_spec<P, S>& spec) const {
    const auto in = indexer_checks::views_of(given);
    const auto dscores = as_const(as_view(dscores_in));
    const indexer_gradients g{as_view(gradients.dq), as_view(gradients.dk), as_view(gradients.dw)};
    indexer_checks::require_inputs(b, in);
    check_spaces(b, dscores, g.dq, g.dk, g.dw, spec.query_offsets);
    attention_checks::refuse_modifiers<P>();
    attention_checks::require_spec(spec, in.q.extent(0), in.k.extent(0),
                                   "lightning_indexer_backward");
    attention_checks::require_order(spec, "lightning_indexer_backward");
    indexer_checks::require_scores(dscores, spec, in.q.extent(0), in.k.extent(0));
    require_same_shape(g.dq, in.q, "lightning_indexer_backward: dq");
    require_same_shape(g.dk, in.k, "lightning_indexer_backward: dk");
    require_same_shape(g.dw, in.w, "lightning_indexer_backward: dw");
    require_data(g.dq, "lightning_indexer_backward: dq");
    require_data(g.dk, "lightning_indexer_backward: dk");
    require_data(g.dw, "lightning_indexer_backward: dw");
    lightning_indexer_backward_impl(b, in, dscores, g,
                                    attention_checks::resolved(spec, in.q.extent(2)));
  }
};

namespace ops {
inline constexpr lightning_indexer_op lightning_indexer{};
inline constexpr lightning_indexer_backward_op lightning_indexer_backward{};
}  // namespace ops

}  // namespace deepseek
