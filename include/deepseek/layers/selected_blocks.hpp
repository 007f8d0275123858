// SPDX-License-Identifier: Apache-2.0
// selected_blocks<config>: a branch of fused_attention over the blocks of tokens that an earlier
// pooled<> branch finds important: the sum of its attention over a block's entries and over the
// heads of a key-value head, the `initial` first and `recent` last blocks always among the `count`
// chosen ones (ops/block_top_k.hpp); inside them a query sees the tokens up to itself. Heads of one
// key-value head see the same blocks. The choice is constant in backward.
// Source: Yuan et al. 2025 (native sparse attention), section 3.3.2.
#pragma once

#include "deepseek/layers/pooled_branch.hpp"
#include "deepseek/ops/block_top_k.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/block_set.hpp"
#include "deepseek/pattern/combine.hpp"

namespace deepseek {

struct selected_blocks_config {
  index_t block = 64;               // tokens of a block, a multiple of the pooled windows
  index_t count = 16;               // blocks that a query sees, the forced ones among them
  index_t initial = 1, recent = 2;  // forced, >= 0
  bool operator==(const selected_blocks_config&) const = default;
};

template <selected_blocks_config W = selected_blocks_config{}>
struct selected_blocks {
  static_assert(W.block >= 1 && W.count >= 1,
                "deepseek::selected_blocks: block or count is not positive; write .block = 64 and "
                ".count = 16");
  static_assert(W.initial >= 0 && W.recent >= 0 && W.initial + W.recent <= W.count,
                "deepseek::selected_blocks: the forced blocks exceed count (or are negative); "
                "write a larger .count");
  static constexpr bool shares_keys = true, reads_all = true, looks_back = true;

  template <attention_config C, class F>
  struct on {
    using shape = head_shape<C>;
    using seen = both<causal, block_set<W.block>>;
    static constexpr index_t out = shape::Q;
    static constexpr const char* label = "selected";

    template <class T, class S>
    struct saved {
      view<std::int32_t, S, dyn, shape::KVH, W.count> ids;
    };

    template <class Call, class P, class In, class Out, class K>
    static none forward(const Call& c, const P&, const In& in, const Out& to, K& kept) {
      static_assert(Call::template has<earlier_branch>,
                    "deepseek::selected_blocks: nothing to select by (a pooled<> branch scores the "
                    "blocks); put pooled<...> before it in the same fused_attention");
      const auto ids =
          c.template arena_for<K>().template make<std::int32_t, dyn, shape::KVH, W.count>(
              in.x.extent(0));
      select(c, in, c.template get<earlier_branch>(), ids);
      const index_t n = in.x.extent(0);
      ops::attention(
          c.backend,
          attention_inputs{in.q, shape::kv_heads(in.rows.keys), shape::kv_heads(in.rows.values)},
          to, spec(c, ids, n));
      if constexpr (keeps_tape<K>) kept.own = {ids};
      return {};
    }
    template <class Call, class P, class In, class Out, class D, class K, class G>
    static void backward(const Call& c, const P&, const In& in, const Out& from, const D& d,
                         K& kept, G&) {
      ops::attention_backward(
          c.backend, attention_inputs{in.q, shape::kv_heads(in.rows.k), shape::kv_heads(in.rows.v)},
          from,
          attention_gradients{d.d_o, d.dq, shape::kv_heads(d.dkv.k), shape::kv_heads(d.dkv.v)},
          spec(c, kept.own.ids, in.x.extent(0)));
    }

   private:
    template <class Call, class In, class Lent, class Ids>
    static void select(const Call& c, const In& in, const Lent& from, const Ids& ids) {
      static_assert(W.block % Lent::ratio == 0,
                    "deepseek::selected_blocks: block is not whole windows of the pooled<> branch "
                    "before it (blocks are scored by their entries); write a multiple as .block");
      ops::block_top_k(
          c.backend, attention_weights_inputs{in.q, from.keys, from.lse}, ids, from.spec,
          block_rule{Lent::ratio, W.block / Lent::ratio, Lent::windows, W.initial, W.recent});
    }
    template <class Call, class Ids>
    static auto spec(const Call& c, const Ids& ids, index_t n) {
      const seen blocks(causal{}, block_set<W.block>(as_const(ids), shape::H));
      return seen_keys<lent_pattern>(c.template with<lent_pattern>(blocks), shape::scale(), n);
    }
  };
};

}  // namespace deepseek
