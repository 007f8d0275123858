// SPDX-License-Identifier: Apache-2.0
// pooled<M, pooling, overlap, Pattern>: a branch of fused_attention over pooled keys and values:
// each complete window of M tokens is one entry (layers/token_pool.hpp), the means of the rotated
// keys and of the values. Pattern is asked with numbers of entries: compressed<M> (the default)
// shows a query the entries that are complete at its position, everyone all of them. A query
// without a complete entry gets 0. What remains after the last complete window is in no entry. It
// lends pooled_scores to later branches. Names: pool_k, pool_v.
#pragma once

#include "deepseek/layers/entry_cache.hpp"
#include "deepseek/layers/fused_attention.hpp"
#include "deepseek/layers/token_pool.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/compressed.hpp"

namespace deepseek {

// What a pooled branch found: entries' keys [entries, kv_heads, d], its lse [tokens, heads], and
// how it looked at them.
template <class Keys, class L, class Spec, index_t M, overlap Windows>
struct pooled_scores {
  static constexpr index_t ratio = M;
  static constexpr overlap windows = Windows;
  Keys keys;
  L lse;
  Spec spec;
};

template <index_t M, pooling How = pooling::mean, overlap Windows = overlap::absent,
          class Pattern = compressed<M>>
struct pooled {
  static constexpr bool shares_keys = true, reads_all = false;
  static constexpr bool looks_back = std::is_same_v<Pattern, compressed<M>>;

  template <attention_config C, class F>
  struct on {
    using shape = head_shape<C>;
    static constexpr index_t KV = shape::KV, out = shape::Q;
    static constexpr const char* label = "pooled";
    using pool = token_pool<C.dim, KV, M, How, Windows>;

    template <class Of>
    struct parts {
      using layer = on;
      each<Of, pool> pool_k, pool_v;
      static constexpr auto fields() {
        return std::tuple{named("pool_k", &parts::pool_k), named("pool_v", &parts::pool_v)};
      }
    };
    template <class T, class S>
    struct saved {
      view<T, S, dyn, KV> k, v;  // entries
    };
    template <class T, class S>
    struct state {
      entry_cache<T, S, KV, M> k, v;
      static constexpr bool steps_alike = true;
      static constexpr index_t bytes_per_token() {
        return 2 * KV * static_cast<index_t>(sizeof(T)) / M;
      }
      void reserve(index_t capacity) {
        k.reserve(capacity);
        v.reserve(capacity);
      }
    };

    // Entries stay in the caller's scope of scratch: they are lent.
    template <class Call, class P, class In, class Out, class K>
    static auto forward(const Call& c, const P& p, const In& in, const Out& to, K& kept) {
      using T = typename decltype(in.q)::value_type;
      auto& memory = c.template arena_for<K>();
      const auto numbers = entry_numbers(c, in.x.extent(0), M);
      const saved<T, typename Call::space> s{memory.template make<T, dyn, KV>(numbers.entries),
                                             memory.template make<T, dyn, KV>(numbers.entries)};
      pool::forward(c.in(0), p.pool_k, in.x, in.rows.k, s.k, kept.pool_k);
      pool::forward(c.in(1), p.pool_v, in.x, in.rows.v, s.v, kept.pool_v);
      if constexpr (keeps_tape<K>) kept.own = s;
      if constexpr (keeps_state<K>) {
        return attend(c, in, kept.own.k.append(c, s.k), kept.own.v.append(c, s.v), to,
                      numbers.sequences);
      } else {
        return attend(c, in, as_const(s.k), as_const(s.v), to, numbers.sequences);
      }
    }

    template <class Call, class P, class In, class Out, class D, class K, class G>
    static void backward(const Call& c, const P& p, const In& in, const Out& from, const D& d,
                         K& kept, G& g) {
      using T = typename decltype(in.q)::value_type;
      const scope freed(c.scratch);
      const auto& s = kept.own;
      const auto dk = c.scratch.template make<T, dyn, KV>(s.k.extent(0));
      const auto dv = c.scratch.template make<T, dyn, KV>(s.k.extent(0));
      ops::attention_backward(
          c.backend, attention_inputs{in.q, shape::kv_heads(s.k), shape::kv_heads(s.v)}, from,
          attention_gradients{d.d_o, d.dq, shape::kv_heads(dk), shape::kv_heads(dv)},
          spec(c, entry_numbers(c, in.x.extent(0), M).sequences));
      pool::backward(c.in(0), p.pool_k, in.x, as_const(dk), d.dkv.k, d.dx, kept.pool_k, g.pool_k);
      pool::backward(c.in(1), p.pool_v, in.x, as_const(dv), d.dkv.v, d.dx, kept.pool_v, g.pool_v);
    }

   private:
    template <class Call, class Offsets>
    static attention_spec<Pattern, typename Call::space> spec(const Call& c,
                                                              const Offsets& sequences) {
      const auto pattern = make_pattern<Pattern>({c.options.seed, c.site});
      return entry_spec<M>(c, pattern, shape::scale(), sequences);
    }
    template <class Call, class In, class V, class Out, class Offsets>
    static auto attend(const Call& c, const In& in, const V& k, const V& v, const Out& to,
                       const Offsets& sequences) {
      auto keys = shape::kv_heads(k);
      auto how = spec(c, sequences);
      ops::attention(c.backend, attention_inputs{in.q, keys, shape::kv_heads(v)}, to, how);
      return pooled_scores<decltype(keys), std::remove_cvref_t<decltype(to.lse)>, decltype(how), M,
                           Windows>{keys, to.lse, how};
    }
  };
};

}  // namespace deepseek
