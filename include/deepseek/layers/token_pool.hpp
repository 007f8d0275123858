// SPDX-License-Identifier: Apache-2.0
// token_pool<dim, W, M, pooling, overlap>: rows [tokens, W] to entries [entries, W], one for each
// complete window of M tokens: the mean (pooling::mean), or a learned mean for each channel, a
// softmax over the window's tokens of Wgate x + ape[position in the window] (pooling::learned).
// With overlap an entry takes the tokens of the window before, too: 2 M tokens (the first: M).
// Entries count from the sequence's beginning; a decoder keeps the rows of the last windows, and
// where its start moves makes the entry of the window which the token lies in, whole or not.
// Names: gate.weight, ape. Sources: Yuan et al. 2025 (compressed tokens); the learned mean follows
// DeepSeek-V4's compressor (layers/compressor.hpp).
#pragma once

#include "deepseek/layers/compressor.hpp"
#include "deepseek/layers/head_shape.hpp"
#include "deepseek/ops/fill.hpp"

namespace deepseek {

enum class pooling { mean, learned };

template <index_t Dim, index_t W, index_t M, pooling How, overlap Windows>
struct token_pool {
  static_assert(M >= 1, "deepseek::token_pool: a window has no tokens; write a factor >= 1");
  static constexpr bool learns = How == pooling::learned;
  static constexpr bool wide = Windows == overlap::present;
  static constexpr index_t GW = wide ? 2 * W : W, out = W;
  static constexpr const char* label = "pool";

  template <class Of>
  struct parts {
    using layer = token_pool;
    each<Of, std::conditional_t<learns, linear<Dim, GW>, absent>> gate;
    each<Of, std::conditional_t<learns, window_bias<M, GW>, absent>> ape;
    static constexpr auto fields() {
      return std::tuple{named("gate", &parts::gate), named("ape", &parts::ape)};
    }
  };
  template <class T, class S>
  struct saved {
    view<const T, S, dyn, GW> rows, gate;
  };
  template <class T, class S>
  struct state {
    static constexpr index_t keep = (GW / W) * M;
    recent_rows<T, S, GW, keep, M> rows, gate;
    static constexpr bool steps_alike = true;
    static constexpr index_t rewinds = decltype(rows)::rewinds;
    void reserve(index_t capacity) {
      rows.reserve(capacity);
      if constexpr (learns) gate.reserve(capacity);
    }
  };

  // y [entries, W]: those that this call completes.
  template <class Call, class P, class X, class Rows, class Y, class K>
  static void forward(const Call& c, const P& p, const X& x, const Rows& given, const Y& y, K& k) {
    using T = typename Y::value_type;
    auto& memory = c.template arena_for<K>();
    const saved<T, typename Call::space> s{widened(c, memory, given), gates(c, memory, p, x, k)};
    const auto ape = ape_of<T>(c, memory, p);
    if constexpr (keeps_state<K>) {
      const auto all = k.own.rows.append(c, s.rows);
      auto how = spec(c, all.start / M);
      how.first_at = all.at;
      if constexpr (learns) {
        ops::compress(c.backend, compress_views{all.rows, k.own.gate.append(c, s.gate).rows, ape},
                      y, how);
      } else {
        ops::compress(c.backend, compress_views{all.rows, zeros(c, memory, all.rows), ape}, y, how);
      }
    } else {
      const index_t start = c.options.start;
      require(start % M == 0, error_code::invalid_argument, "token_pool: begins at position ",
              start, " without a cache; begin at a multiple of ", M);
      ops::compress(c.backend, compress_views{s.rows, s.gate, ape}, y, spec(c, 0));
    }
    if constexpr (keeps_tape<K>) k.own = s;
  }

  // Writes d_rows, adds to dx.
  template <class Call, class P, class X, class DY, class D, class DX, class K, class G>
  static void backward(const Call& c, const P& p, const X& x, const DY& dy, const D& d_rows,
                       const DX& dx, K& k, G& g) {
    using T = typename DY::value_type;
    const scope freed(c.scratch);
    const index_t n = x.extent(0);
    const auto dwide = c.scratch.template make<T, dyn, GW>(wide ? n : 0);
    const auto dgate = c.scratch.template make<T, dyn, GW>(n);
    const auto run = [&](const auto& drows, const auto& dape) {
      ops::compress_backward(c.backend,
                             compress_views{k.own.rows, k.own.gate, ape_of<T>(c, c.scratch, p)}, dy,
                             compress_views{drows, dgate, dape}, spec(c, 0));
    };
    const auto into = [&](const auto& dape) {
      if constexpr (wide) {
        run(dwide, dape);
        ops::copy(c.backend, columns<0, W>(dwide), d_rows);
        ops::add(c.backend, columns<W, W>(dwide), d_rows);
      } else {
        run(d_rows, dape);
      }
    };
    if constexpr (learns) {
      into(g.ape.weight.view());
      add_backward(c.in(0), p.gate, x, as_const(dgate), dx, k.gate, g.gate);
    } else {
      const auto unused = c.scratch.template make<accumulate_t<T>, dyn, GW>(M);
      ops::fill(c.backend, 0, unused);
      into(unused);
    }
  }

 private:
  template <class Call>
  static compress_spec<typename Call::space> spec(const Call& c, index_t first) {
    return {M, Windows, c.options.sequences, first};
  }
  // The rows, with overlap twice side by side: once for the window before, once for their own.
  template <class Call, class S, class Rows>
  static view<const typename Rows::value_type, S, dyn, GW> widened(const Call& c, arena<S>& memory,
                                                                   const Rows& given) {
    if constexpr (wide) {
      const auto both = memory.template make<typename Rows::value_type, dyn, GW>(given.extent(0));
      ops::copy(c.backend, given, columns<0, W>(both));
      ops::copy(c.backend, given, columns<W, W>(both));
      return as_const(both);
    } else {
      return as_const(given);
    }
  }
  // Zeros of the shape of `like` in the memory of one.
  template <class Call, class S, class V>
  static auto zeros(const Call& c, arena<S>& memory, const V& like) {
    const auto zero = memory.template make<typename V::value_type, dyn>(1);
    ops::fill(c.backend, 0, zero);
    return view<const typename V::value_type, S, dyn, GW>(zero.data(), {like.extent(0), GW},
                                                          {0, 0});
  }
  template <class Call, class S, class P, class X, class K>
  static auto gates(const Call& c, arena<S>& memory, const P& p, const X& x, K& k) {
    const auto made =
        memory.template make<typename X::value_type, dyn, GW>(learns ? x.extent(0) : 0);
    if constexpr (learns) {
      run_forward(c.in(0), p.gate, x, made, k.gate);
      return as_const(made);
    } else {
      return zeros(c, memory, view<typename X::value_type, S, dyn, GW>(nullptr, {x.extent(0), GW}));
    }
  }
  template <class T, class Call, class S, class P>
  static auto ape_of(const Call& c, arena<S>& memory, const P& p) {
    if constexpr (learns) {
      return p.ape.weight.view();
    } else {
      return zeros(c, memory, view<accumulate_t<T>, S, dyn, GW>(nullptr, {M, GW}));
    }
  }
};

}  // namespace deepseek
