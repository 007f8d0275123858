// SPDX-License-Identifier: Apache-2.0
// top_tokens<K, config>: a branch of fused_attention over the K tokens that a learned selector
// finds most important: s_j = w . x_j + b, the K largest of a sequence (lower position first among
// equals). token_choice::shared: one set for all queries of a sequence, later tokens among them;
// token_choice::causal: for query i among the tokens j <= i, so a decoder gives what one run gives.
// A choice has no gradient. selector_gradient::through_values multiplies a chosen token's value by
// sigmoid(s_j), and so trains the selector; none leaves it as it is initialized.
// Selecting takes about a comparison a token and `count` a query. Names: selector.weight,
// selector.bias.
#pragma once

#include "deepseek/layers/fused_attention.hpp"
#include "deepseek/ops/prefix_top_k.hpp"
#include "deepseek/pattern/index_set.hpp"

namespace deepseek {

enum class token_choice { shared, causal };
enum class selector_gradient { none, through_values };

struct top_tokens_config {
  index_t count = 10;  // tokens, >= 1; where there are fewer, all
  token_choice choice = token_choice::causal;
  selector_gradient gradient = selector_gradient::through_values;
  bool operator==(const top_tokens_config&) const = default;
};

template <top_tokens_config W = top_tokens_config{}>
struct top_tokens {
  static_assert(W.count >= 1, "deepseek::top_tokens: count is not positive; write .count = 10");
  static constexpr bool shares_keys = true, reads_all = true;
  static constexpr bool looks_back = W.choice == token_choice::causal;
  static constexpr bool weighs = W.gradient == selector_gradient::through_values;

  template <attention_config C, class F>
  struct on {
    using shape = head_shape<C>;
    static constexpr index_t KV = shape::KV, out = shape::Q;
    static constexpr const char* label = "top_tokens";

    template <class Of>
    struct parts {
      using layer = on;
      each<Of, linear<C.dim, 1, plain, bias::present>> selector;
      static constexpr auto fields() { return std::tuple{named("selector", &parts::selector)}; }
    };
    template <class T, class S>
    struct saved {
      view<T, S, dyn, 1> s;
      view<T, S, dyn, 1> share;  // sigmoid(s); empty where values are not weighed
      view<T, S, dyn, KV> v;     // the values that attention reads
      view<std::int32_t, S, dyn, W.count> ids;
    };
    // Scores, and values where they are weighed.
    template <class T, class S>
    struct state {
      row_cache<T, S, 1> scores;
      row_cache<T, S, KV> values;
      static constexpr bool steps_alike = true;
      void reserve(index_t capacity) {
        scores.reserve(capacity);
        if constexpr (weighs) values.reserve(capacity);
      }
      static constexpr index_t bytes_per_token() {
        return static_cast<index_t>(sizeof(T)) * (weighs ? KV + 1 : 1);
      }
    };

    template <class Call, class P, class In, class Out, class K>
    static none forward(const Call& c, const P& p, const In& in, const Out& to, K& kept) {
      using T = typename decltype(in.q)::value_type;
      const scope freed(c.scratch);
      auto& memory = c.template arena_for<K>();
      const index_t n = in.x.extent(0);
      const saved<T, typename Call::space> s{
          memory.template make<T, dyn, 1>(n), memory.template make<T, dyn, 1>(weighs ? n : 0),
          weighed(c, memory, in), memory.template make<std::int32_t, dyn, W.count>(n)};
      run_forward(c.in(0), p.selector, in.x, s.s, kept.selector);
      if constexpr (weighs) {
        ops::sigmoid(c.backend, s.s, s.share);
        ops::hyper_read(c.backend, one_stream(as_const(in.rows.v)), s.share, s.v);
      }
      if constexpr (keeps_state<K>) {
        select(c, s.ids, appended(c, kept.own.scores, s.s));
        if constexpr (weighs) {
          attend(c, in, appended(c, kept.own.values, s.v), s.ids, to);
        } else {
          attend(c, in, in.rows.values, s.ids, to);
        }
      } else {
        select(c, s.ids, s.s);
        attend(c, in, s.v, s.ids, to);
      }
      if constexpr (keeps_tape<K>) kept.own = s;
      return {};
    }

    template <class Call, class P, class In, class Out, class D, class K, class G>
    static void backward(const Call& c, const P& p, const In& in, const Out& from, const D& d,
                         K& kept, G& g) {
      using T = typename decltype(in.q)::value_type;
      const scope freed(c.scratch);
      const auto& s = kept.own;
      const index_t n = in.x.extent(0);
      const auto dv = c.scratch.template make<T, dyn, KV>(weighs ? n : 0);
      const auto dvalues = weighs ? dv : d.dkv.v;
      ops::attention_backward(
          c.backend, attention_inputs{in.q, shape::kv_heads(in.rows.k), shape::kv_heads(s.v)}, from,
          attention_gradients{d.d_o, d.dq, shape::kv_heads(d.dkv.k), shape::kv_heads(dvalues)},
          spec(c, s.ids, n));
      if constexpr (weighs) {
        const auto ds = c.scratch.template make<T, dyn, 1>(n);
        ops::fill(c.backend, 0, d.dkv.v);
        ops::hyper_read_backward(c.backend, hyper_read_views{one_stream(in.rows.v), s.share}, dv,
                                 hyper_read_views{one_stream(d.dkv.v), ds});
        ops::sigmoid_backward(c.backend, s.s, ds, ds);
        add_backward(c.in(0), p.selector, in.x, as_const(ds), d.dx, kept.selector, g.selector);
      }
    }

   private:
    // All rows up to the end of the call, or the bound.
    template <class Call, class Cache, class V>
    static auto appended(const Call& c, Cache& cache, const V& added) {
      cache.append(c.backend, c.options, added);
      return as_const(cache.seen(c.options, reached(c.options, added.extent(0))));
    }
    // Memory for weighed values, or the values as they are.
    template <class Call, class S, class In>
    static auto weighed(const Call&, arena<S>& memory, const In& in) {
      using T = typename decltype(in.q)::value_type;
      if constexpr (weighs) {
        return memory.template make<T, dyn, KV>(in.x.extent(0));
      } else {
        return in.rows.v;
      }
    }
    template <class T, class S>
    static view<T, S, dyn, 1, KV> one_stream(const view<T, S, dyn, KV>& v) {
      return {v.data(), {v.extent(0), 1, KV}, {v.stride(0), KV, v.stride(1)}};
    }
    template <class Call, class Ids, class Scores>
    static void select(const Call& c, const Ids& ids, const Scores& scores) {
      using S = typename Call::space;
      const view<const typename Scores::value_type, S, dyn> each(scores.data(), {scores.extent(0)},
                                                                 {scores.stride(0)});
      ops::prefix_top_k(
          c.backend, each, ids,
          prefix_spec<S>{looks_back ? reach::past : reach::everywhere,
                         c.options.moving.moves() ? 0 : c.options.start, c.options.sequences,
                         c.options.sequences, c.options.moving.at});
    }
    template <class Call, class Ids>
    static auto spec(const Call& c, const Ids& ids, index_t n) {
      return seen_keys<lent_pattern>(
          c.template with<lent_pattern>(index_set(as_const(ids), index_order::ascending)),
          shape::scale(), n);
    }
    template <class Call, class In, class V, class Ids, class Out>
    static void attend(const Call& c, const In& in, const V& v, const Ids& ids, const Out& to) {
      ops::attention(c.backend,
                     attention_inputs{in.q, shape::kv_heads(in.rows.keys), shape::kv_heads(v)}, to,
                     spec(c, ids, in.x.extent(0)));
    }
  };
};

}  // namespace deepseek
