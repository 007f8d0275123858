// SPDX-License-Identifier: Apache-2.0
// entry_indexer<config>: which entries of a compressor a query of compressed_attention looks at.
// q = Wqb cq, heads of head_dim, the last rope_dim rotated (interleaved) at the query's position;
// keys: entries of a compressor of its own; w = Wp x; the `selected` largest of
//   I[t, s] = (heads head_dim)^-1/2 sum_h w[t, h] ReLU(q[t, h] . k[s])
// among the entries complete at t. The choice is constant in backward: no gradient comes here.
// Not done: the Hadamard rotation and rounding to 4-bit floats, which leave scores equal up to
// rounding. Names: wq_b, weights_proj, compressor. Source: DeepSeek-V4's published inference code
// as ported by others.
#pragma once

#include "deepseek/layers/compressor.hpp"
#include "deepseek/layers/entry_cache.hpp"
#include "deepseek/ops/indexer_top_k.hpp"
#include "deepseek/pattern/compressed.hpp"

#include <cmath>

namespace deepseek {

struct entry_indexer_config {
  compressor_config entries;  // its head_dim is that of the indexer's heads
  index_t q_rank = 0;         // width of cq
  index_t heads = 0;
  index_t selected = 0;  // entries a query looks at
  bool operator==(const entry_indexer_config&) const = default;
};

template <entry_indexer_config C, class F = plain>
struct entry_indexer {
  static_assert(C.heads > 0 && C.selected > 0,
                "deepseek::entry_indexer: heads or selected is not positive; write .index_heads "
                "and .selected");
  static constexpr index_t H = C.heads, D = C.entries.head_dim, out = C.selected;
  static constexpr const char* label = "indexer";
  template <class G>
  using with_format = entry_indexer<C, G>;
  using entries_of = compressor<C.entries, F>;

  template <class Of>
  struct parts {
    using layer = entry_indexer;
    each<Of, linear<C.q_rank, H * D, F>> wq_b;
    each<Of, linear<C.entries.dim, H>> weights_proj;
    each<Of, entries_of> compressor;
    static constexpr auto fields() {
      return std::tuple{named("wq_b", &parts::wq_b), named("weights_proj", &parts::weights_proj),
                        named("compressor", &parts::compressor)};
    }
  };
  template <class T, class S>
  struct state {
    entry_cache<T, S, D, C.entries.ratio> entries;
    static constexpr bool steps_alike = true;
    static constexpr index_t bytes_per_token() { return decltype(entries)::bytes_per_token(); }
    void reserve(index_t capacity) { entries.reserve(capacity); }
  };

  // x and cq [tokens, ..], ids [tokens, selected]: ascending, -1 after the last.
  template <class Call, class P, class X, class Q, class Ids, class K>
  static void select(const Call& c, const P& p, const X& x, const Q& cq, const Ids& ids, K& k) {
    using T = typename X::value_type;
    const index_t n = x.extent(0);
    const scope freed(c.scratch);
    const auto numbers = entries_of::count(c, n);
    auto q = c.scratch.template make<T, dyn, H * D>(n);
    auto w = c.scratch.template make<T, dyn, H>(n);
    auto entries = c.scratch.template make<T, dyn, D>(numbers.entries);
    side_by_side(run_of(c.in(0), p.wq_b, cq, q, k.wq_b),
                 run_of(c.in(1), p.weights_proj, x, w, k.weights_proj));
    run_forward(c.in(2), p.compressor, x, entries, k.compressor);
    if constexpr (C.entries.rope_dim > 0) rotate(c, entries_of::rotation(), as_heads<H, D>(q));
    const auto choose = [&](const auto& keys) {
      ops::indexer_top_k(
          c.backend, indexer_inputs{as_heads<H, D>(q), keys, w}, ids,
          entry_spec<C.entries.ratio>(c, compressed<C.entries.ratio>{}, scale(), numbers.sequences),
          selection_order::by_position);
    };
    if constexpr (keeps_state<K>) {
      choose(k.own.entries.append(c, entries));
    } else {
      choose(entries);
    }
  }

 private:
  static double scale() { return 1 / std::sqrt(static_cast<double>(H * D)); }
};

}  // namespace deepseek
