// SPDX-License-Identifier: Apache-2.0
// key_values<config, Keep>: k = Wk x (rotated) and v = Wv x, the part of attention layers whose
// branches read one pair of projections. With Keep::all a decoder caches them and `keys`, `values`
// hold all positions up to the end of the call; else they are those of the call. Names: wk, wv.
#pragma once

#include "deepseek/layers/head_shape.hpp"
#include "deepseek/layers/side_by_side.hpp"

namespace deepseek {

enum class kept_keys { none, all };

// Keys and values [rows, kv_heads * d] of this call, and of all positions.
template <class New, class All>
struct key_value_rows {
  New k, v;
  All keys, values;
};

template <attention_config C, kept_keys Keep, class F = plain>
struct key_values {
  using shape = head_shape<C>;
  static constexpr index_t KV = shape::KV, out = KV;
  static constexpr const char* label = "";
  template <class G>
  using with_format = key_values<C, Keep, G>;
  template <class T, class S>
  using rows_of = key_value_rows<view<T, S, dyn, KV>, view<const T, S, dyn, KV>>;

  template <class Of>
  struct parts {
    using layer = key_values;
    each<Of, linear<C.dim, KV, F, C.projection_bias>> wk, wv;
    static constexpr auto fields() {
      return std::tuple{named("wk", &parts::wk), named("wv", &parts::wv)};
    }
  };
  template <class T, class S>
  struct saved {
    view<T, S, dyn, KV> k, v;
  };
  template <class T, class S>
  using state = std::conditional_t<Keep == kept_keys::all, kv_cache<T, S, KV, KV>, none>;

  // The rows live in the tape or in the caller's scope of scratch.
  template <class T, class Call, class P, class X, class K>
  static auto project(const Call& c, const P& p, const X& x, K& kept) {
    auto& memory = c.template arena_for<K>();
    const auto k = memory.template make<T, dyn, KV>(x.extent(0));
    const auto v = memory.template make<T, dyn, KV>(x.extent(0));
    side_by_side(run_of(c.in(0), p.wk, x, k, kept.wk), run_of(c.in(1), p.wv, x, v, kept.wv));
    shape::turn(c, shape::kv_heads(k), rope_turn::forward);
    if constexpr (keeps_tape<K>) kept.own = {k, v};
    rows_of<T, typename Call::space> made{k, v, as_const(k), as_const(v)};
    if constexpr (keeps_state<K> && Keep == kept_keys::all) {
      const auto all = kept.own.append(c.backend, c.options, k, v);
      made.keys = all.first;
      made.values = all.second;
    }
    return made;
  }
  // From the gradients of k (which it turns back) and v; adds to dx.
  template <class Call, class P, class X, class DKV, class DX, class K, class G>
  static void add_backward(const Call& c, const P& p, const X& x, const DKV& d, const DX& dx,
                           K& kept, G& g) {
    shape::turn(c, shape::kv_heads(d.k), rope_turn::inverse);
    deepseek::add_backward(c.in(0), p.wk, x, as_const(d.k), dx, kept.wk, g.wk);
    deepseek::add_backward(c.in(1), p.wv, x, as_const(d.v), dx, kept.wv, g.wv);
  }
};

}  // namespace deepseek
