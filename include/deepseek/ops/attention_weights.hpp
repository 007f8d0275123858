// SPDX-License-Identifier: Apache-2.0
// attention_weights: the mean over heads of the weights that attention gave,
//   p[i, j] = 1 / heads sum_h e^(scale q_ih . k_jh' - lse_ih), 0 where j is hidden from i,
// h' the key-value head of h, lse what attention wrote for the same inputs (natural logarithm). The
// pattern is asked for head 0. q[queries, heads, d] k[keys, kv_heads, d] lse[queries, heads]
// p[queries, columns], written; column j is key j of the query's own sequence, columns beyond its
// keys are 0. A row sums to 1, or is 0 where its query sees nothing; what is hidden is never used.
// Sums over heads in order, in accumulate_t of p. Errors: shape_mismatch, invalid_argument,
// offsets. Bits do not depend on threads. Cost: 2 heads d flops a pair; it takes queries x keys
// numbers, which attention avoids.
#pragma once

#include "deepseek/ops/attention.hpp"

namespace deepseek {

template <class Q, class K, class L>
struct attention_weights_inputs {
  Q q;
  K k;
  L lse;
};
template <class Q, class K, class L>
attention_weights_inputs(Q&&, K&&, L&&)
    -> attention_weights_inputs<argument_t<Q>, argument_t<K>, argument_t<L>>;

struct attention_weights_op {
  static constexpr std::string_view name = "attention_weights";

  template <class B, class In, class P, class Pattern, class S>
  void operator()(const B& b, const In& given, P&& p_in,
                  const attention_spec<Pattern, S>& spec) const {
    const attention_weights_inputs in{as_const(as_view(given.q)), as_const(as_view(given.k)),
                                      as_const(as_view(given.lse))};
    const auto p = as_view(p_in);
    check_spaces(b, in.q, in.k, in.lse, p, spec.query_offsets);
    attention_checks::refuse_modifiers<Pattern>();
    attention_checks::require_spec(spec, in.q.extent(0), in.k.extent(0), "attention_weights");
    require_shapes(in, p);
    // Offsets in a device's memory are not read here; columns that p lacks are then left out.
    const bool known = std::is_same_v<S, host> || spec.query_offsets.extent(0) == 0;
    for (index_t s = 0; known && s < sequence_count(spec); ++s) {
      const index_t needed = sequence_range(spec, s, in.q.extent(0), in.k.extent(0)).keys;
      require(p.extent(1) >= needed, error_code::shape_mismatch, "attention_weights: p",
              shape_of(p), " has fewer columns than the ", needed, " keys of sequence ", s,
              "; pass one for each key of the longest sequence");
    }
    if (p.empty()) return;
    attention_weights_impl(b, in, p, attention_checks::resolved(spec, in.q.extent(2)));
  }

 private:
  template <class In, class P>
  static void require_shapes(const In& in, const P& p) {
    static_assert(decltype(in.q)::rank == 3 && decltype(in.k)::rank == 3 &&
                      decltype(in.lse)::rank == 2 && P::rank == 2,
                  "deepseek::attention_weights: wrong ranks; pass q[queries, heads, d], k[keys, "
                  "kv_heads, d], lse[queries, heads], p[queries, keys]");
    const index_t heads = in.q.extent(1), kv_heads = in.k.extent(1);
    require_extent(in.k, 2, in.q.extent(2), "attention_weights: k");
    require_extent(in.lse, 0, in.q.extent(0), "attention_weights: lse");
    require_extent(in.lse, 1, heads, "attention_weights: lse");
    require_extent(p, 0, in.q.extent(0), "attention_weights: p");
    require(heads > 0 && kv_heads > 0 && heads % kv_heads == 0, error_code::shape_mismatch,
            "attention_weights: ", heads, " heads of q", shape_of(in.q), " do not share the ",
            kv_heads, " heads of k", shape_of(in.k),
            " evenly; pass a number of key-value heads that divides the number of heads");
    require_data(in.q, "attention_weights: q");
    require_data(in.k, "attention_weights: k");
    require_data(in.lse, "attention_weights: lse");
    require_data(p, "attention_weights: p");
  }
};
namespace ops {
inline constexpr attention_weights_op attention_weights{};
}

}  // namespace deepseek
