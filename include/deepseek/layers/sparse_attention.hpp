// SPDX-License-Identifier: Apache-2.0
// deepseek_sparse_attention<config>: latent attention (layers/latent_attention.hpp, causal) of
// which every query sees the top_k keys that an indexer selects for it (layers/key_indexer.hpp),
// the same for all heads; a call of at most top_k positions sees all. The naive form visits tiles
// that hold selected keys, the absorbed form gathers the selected rows (cpu: 8 heads or more; cuda:
// 16 bits, kv_rank 512).
// Selection has no gradient. The indexer learns from the divergence of softmax(scores) from the
// mean of the heads' attention (ops/kl_divergence.hpp), over the keys that attention sees: all
// (training = dense) or the selected ones (sparse), with x and the latents detached; this takes
// queries x keys numbers. Rows in fp8 are rounded as layers/fp8_cache.hpp stores them, with a cache
// or without, but not in training. Source: DeepSeek-V3.2-Exp (2025), section 2.
#pragma once

#include "deepseek/layers/fp8_cache.hpp"
#include "deepseek/layers/key_indexer.hpp"
#include "deepseek/layers/latent_attention.hpp"
#include "deepseek/ops/attention_weights.hpp"
#include "deepseek/ops/indexer_top_k.hpp"
#include "deepseek/ops/kl_divergence.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/index_set.hpp"

namespace deepseek {

// Rows of Coded + Rest numbers: as they are, or the first Coded of them in 8 bits.
template <row_precision P, class T, class S, index_t Coded, index_t Rest>
using stored_rows = std::conditional_t<P == row_precision::fp8, fp8_cache<S, Coded, Rest>,
                                       latent_cache<T, S, Coded, Rest>>;

// A token's latent row and index key.
template <class T, class S, dsa_config C>
struct sparse_cache {
  stored_rows<C.latents, T, S, C.attention.kv_rank, C.attention.rope_dim> rows;
  stored_rows<C.index_rows, T, S, C.index_dim, 0> index_keys;
  static constexpr bool steps_alike = true;

  void reserve(index_t capacity) {
    rows.reserve(capacity);
    index_keys.reserve(capacity);
  }
  index_t capacity() const { return rows.capacity(); }
  static constexpr index_t bytes_per_token() {
    return decltype(rows)::bytes_per_token() + decltype(index_keys)::bytes_per_token();
  }
};

template <dsa_config C, class F = plain>
struct deepseek_sparse_attention : latent_attention<C.attention, lent_pattern, F> {
  static_assert(check_sparse_config<C>());
  using dense = latent_attention<C.attention, lent_pattern, F>;
  using selector = key_indexer<C, F>;
  template <class G>
  using with_format = deepseek_sparse_attention<C, G>;

  template <class Of>
  struct parts : latent_parts<C.attention, F, Of> {
    using layer = deepseek_sparse_attention;
    each<Of, key_indexer<C, F>> indexer;
    static constexpr auto fields() {
      return std::tuple_cat(latent_parts<C.attention, F, Of>::fields(),
                            std::tuple{named("indexer", &parts::indexer)});
    }
  };
  template <class T, class S>
  struct saved : dense::template saved<T, S> {
    view<std::int32_t, S, dyn, dyn> ids;  // [queries, top_k], ascending; empty: all keys are seen
  };
  template <class T, class S>
  using state = sparse_cache<T, S, C>;

  template <class Call, class W, class X, class Y, class K>
  static void forward(const Call& c, const W& p, const X& x, const Y& y, K& kept) {
    using T = typename Y::value_type;
    const scope freed(c.scratch);
    auto& memory = c.template arena_for<K>();
    auto s = dense::template make<T>(memory, x.extent(0));
    const auto own = selector::template make<T>(memory, x.extent(0));
    dense::project(c, p, x, s, kept);
    selector::make_keys(c.in(7), p.indexer, x, own, kept.indexer);
    auto ids = memory.template make<std::int32_t, dyn, dyn>(0, 0);
    const auto attend = [&](const auto& rows, const auto& index_keys) {
      const bool chosen = selects(c, rows.extent(0));
      if (chosen || learns(c)) {
        selector::make_queries(c.in(7), p.indexer, x, as_const(s.q_latent), own, kept.indexer);
        round_queries(c, own.q);
      }
      if (chosen) ids = select(c, memory, selector::inputs(own, index_keys));
      with_pattern(c, as_const(ids), [&](auto inner) {
        inner.options.latent = form_of(c, x.extent(0), rows.extent(0));
        dense::attend(inner, p, s, rows, kept);
        if constexpr (!keeps_state<K>) report_loss(inner, s, own);
      });
    };
    if constexpr (keeps_state<K>) {
      attend(appended(c, kept.own.rows, s.row), appended(c, kept.own.index_keys, own.k));
    } else {
      attend(as_read_back<C.latents, C.attention.kv_rank>(c, s.row),
             as_read_back<C.index_rows, C.index_dim>(c, own.k));
    }
    run_forward(c.in(4), p.wo, as_const(s.o), y, kept.wo);
    if constexpr (keeps_tape<K>) {
      static_cast<typename dense::template saved<T, typename Call::space>&>(kept.own) = s;
      kept.own.ids = ids;
      kept.indexer.own = own;
    }
  }

  template <class Call, class W, class X, class DY, class DX, class K, class G>
  static void backward(const Call& c, const W& p, const X& x, const DY& dy, const DX& dx, K& kept,
                       G& g) {
    with_pattern(c, as_const(kept.own.ids), [&](const auto& inner) {
      dense::backward(inner, p, x, dy, dx, kept, g);
      if (learns(c)) teach(inner, p, x, kept, g);
    });
  }

 private:
  static constexpr bool trained = C.training != indexer_training::none && C.loss_weight > 0;

  template <class Call>
  static bool learns(const Call& c) {
    return trained && c.training();
  }
  template <class Call>
  static bool selects(const Call& c, index_t keys) {
    return keys > C.top_k && !(c.training() && C.training == indexer_training::dense);
  }
  // The indexer learns from the naive form's keys.
  template <class Call>
  static latent_form form_of(const Call& c, index_t queries, index_t keys) {
    if (learns(c)) return latent_form::naive;
    return chosen_sparse_form(C, c.options.latent, queries, keys);
  }

  template <class Call, class S, class In>
  static auto select(const Call& c, arena<S>& memory, const In& in) {
    auto ids = memory.template make<std::int32_t, dyn, dyn>(in.q.extent(0), C.top_k);
    ops::indexer_top_k(c.backend, in, ids, seen_keys<causal>(c, selector::scale()),
                       selection_order::by_position);
    return ids;
  }

  // All rows up to the end of the call (or the bound), as attention reads them from a cache.
  template <class Call, class T, class S, index_t Coded, index_t Rest, class V>
  static auto appended(const Call& c, latent_cache<T, S, Coded, Rest>& cache, const V& rows) {
    cache.append(c.backend, c.options, rows);
    return cache.seen(c.options, reached(c.options, rows.extent(0)));
  }
  template <class Call, class S, index_t Coded, index_t Rest, class V>
  static auto appended(const Call& c, fp8_cache<S, Coded, Rest>& cache, const V& rows) {
    cache.append(c, rows);
    const auto all =
        c.scratch.template make<value_of<V>, dyn, Coded + Rest>(reached(c.options, rows.extent(0)));
    cache.read(c.backend, 0, all);
    return as_const(all);
  }
  // The same without a cache: rounded as a cache would, but not in training.
  template <row_precision How, index_t Coded, class Call, class T, class S, index_t W>
  static auto as_read_back(const Call& c, const view<T, S, dyn, W>& rows) {
    if constexpr (How == row_precision::fp8) {
      if (!c.training()) {
        const auto all = c.scratch.template make<T, dyn, W>(rows.extent(0));
        through_bytes<fp8_row<Coded, W - Coded>>(c, rows, all);
        return as_const(all);
      }
    }
    return as_const(rows);
  }
  template <class Row, class Call, class X, class Y>
  static void through_bytes(const Call& c, const X& x, const Y& y) {
    const scope freed(c.scratch);
    const auto coded = c.scratch.template make<std::uint8_t, dyn, Row::bytes>(x.extent(0));
    Row::encode(c.backend, x, coded);
    Row::decode(c.backend, coded, y);
  }
  // Index queries as the coded keys are: one scale for 128 elements of a head.
  template <class Call, class T, class S>
  static void round_queries(const Call& c, const view<T, S, dyn, selector::H * selector::D>& q) {
    if constexpr (C.index_rows == row_precision::fp8) {
      if (c.training()) return;
      const view<T, S, dyn, C.index_dim> heads(q.data(), {q.extent(0) * selector::H, C.index_dim});
      through_bytes<fp8_row<C.index_dim, 0>>(c, heads, heads);
    }
  }

  // f(call that lends what the queries see).
  template <class Call, class Ids, class Fn>
  static void with_pattern(const Call& c, const Ids& ids, const Fn& f) {
    if (ids.empty()) {
      f(c.template with<lent_pattern>(causal{}));
    } else {
      f(c.template with<lent_pattern>(index_set(ids, index_order::ascending)));
    }
  }

  // What attention gave every key, and what the indexer said: [queries, keys] each.
  template <class A, class S>
  struct comparison {
    view<A, S, dyn, dyn> weights, scores;
  };
  template <class Call, class Saved, class Own>
  static auto compare(const Call& c, const Saved& s, const Own& own) {
    using A = accumulate_t<typename decltype(s.q)::value_type>;
    const index_t n = s.q.extent(0);
    const comparison<A, typename Call::space> both{c.scratch.template make<A, dyn, dyn>(n, n),
                                                   c.scratch.template make<A, dyn, dyn>(n, n)};
    const auto q = as_heads<dense::H, dense::QK>(as_const(s.q));
    ops::attention_weights(c.backend,
                           attention_weights_inputs{q, dense::keys(c, s.kv, s.row), s.lse},
                           both.weights, seen_keys<lent_pattern>(c, dense::scale()));
    ops::lightning_indexer(c.backend, selector::inputs(own, own.k), both.scores,
                           seen_keys<lent_pattern>(c, selector::scale()));
    return both;
  }
  template <class Call, class Saved, class Own>
  static void report_loss(const Call& c, const Saved& s, const Own& own) {
    if (!learns(c) || c.options.report == nullptr) return;
    const scope freed(c.scratch);
    const auto both = compare(c, s, own);
    c.options.report->auxiliary_loss +=
        C.loss_weight * ops::kl_divergence(c.backend, both.weights, both.scores);
  }
  template <class Call, class W, class X, class K, class G>
  static void teach(const Call& c, const W& p, const X& x, K& kept, G& g) {
    const scope freed(c.scratch);
    const auto& own = kept.indexer.own;
    const auto both = compare(c, kept.own, own);
    ops::kl_divergence_gradient(c.backend, both.weights, both.scores, both.scores,
                                C.loss_weight * c.options.gradient_scale);
    const auto d = selector::template make<value_of<X>>(c.scratch, x.extent(0));
    ops::lightning_indexer_backward(
        c.backend, selector::inputs(own, own.k), both.scores,
        indexer_gradients{as_heads<selector::H, selector::D>(d.q), d.k, d.w},
        seen_keys<lent_pattern>(c, selector::scale()));
    selector::backward(c.in(7), p.indexer, x, as_const(kept.own.q_latent), d, kept.indexer,
                       g.indexer);
  }
  template <class V>
  using value_of = typename V::value_type;
};

// As for latent attention: which form is cheaper depends on the number of rows.
template <dsa_config C, class F>
inline constexpr bool rows_are_independent<deepseek_sparse_attention<C, F>> =
    rows_are_independent<latent_attention<C.attention, lent_pattern, F>>;

}  // namespace deepseek
