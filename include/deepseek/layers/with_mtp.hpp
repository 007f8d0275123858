// SPDX-License-Identifier: Apache-2.0
// with_mtp<Embedding, Trunk, Mtp, Head>: a language model with multi-token prediction. With
// e = Embedding(t), h = Trunk(e):
//   logits_i = Head(norm(h_i))                                  predict t_{i+1}
//   drafts_i = Head(Mtp.norm(Mtp(Embedding(t_{i+1}), h_i)))     predict t_{i+2}
// Embedding and Head are shared: their gradients are sums of both uses. Trunk ends with its last
// layer; the final norm is here. y a view: logits only (inference). y = mtp_outputs{logits,
// drafts}: both (training, calibration). The last row of a sequence has no token after it: id 0
// stands there, its draft has no target, no other row sees it; experts' loads count it.
// Decoding keeps h of each position; draft() runs the Mtp on what it is told comes next.
// Source: DeepSeek-V3 technical report 2024, section 2.2.
#pragma once

#include "deepseek/layers/head.hpp"
#include "deepseek/layers/kv_cache.hpp"
#include "deepseek/layers/mtp.hpp"
#include "deepseek/ops/add.hpp"
#include "deepseek/ops/next_tokens.hpp"

namespace deepseek {

// What such a net gives, or the gradients of it.
template <class L, class D = L>
struct mtp_outputs {
  L logits;  // [tokens, vocabulary]
  D drafts;  // [tokens, vocabulary]
};
template <class L, class D>
mtp_outputs(const L&, const D&) -> mtp_outputs<L, D>;
template <class>
inline constexpr bool is_mtp_outputs = false;
template <class L, class D>
inline constexpr bool is_mtp_outputs<mtp_outputs<L, D>> = true;
template <class L, class D>
auto as_view(const mtp_outputs<L, D>& y) {
  return mtp_outputs{as_view(y.logits), as_view(y.drafts)};
}
template <class L, class D>
auto as_const(const mtp_outputs<L, D>& y) {
  return mtp_outputs{as_const(y.logits), as_const(y.drafts)};
}

template <class Embedding, class Trunk, class Mtp, class Head>
struct with_mtp {
  static_assert(is_mtp_layer<Mtp>,
                "deepseek::with_mtp: the third part is no mtp_layer; write mtp_layer<block>");
  static_assert(Embedding::out == Trunk::out && Trunk::out == Mtp::out,
                "deepseek::with_mtp: embedding, trunk and mtp_layer have different widths; give "
                "all three the same dim");
  using mtp = Mtp;
  static constexpr index_t D = Trunk::out, out = Head::out;
  static constexpr const char* label = "";
  template <class F>
  using with_format =
      with_mtp<Embedding, reformatted<Trunk, F>, reformatted<Mtp, F>, reformatted<Head, F>>;

  template <class Of>
  struct parts {
    using layer = with_mtp;
    each<Of, Embedding> embed;
    each<Of, Trunk> trunk;
    each<Of, typename Mtp::norm> norm;
    each<Of, Head> head;
    each<Of, Mtp> mtp;
    static constexpr auto fields() {
      return std::tuple{named(Embedding::label, &parts::embed), named(Trunk::label, &parts::trunk),
                        named("norm", &parts::norm), named(Head::label, &parts::head),
                        named(Mtp::label, &parts::mtp)};
    }
  };

  // What training writes: views in a tape.
  template <class T, class S>
  static auto make_outputs(arena<S>& memory, const row_counts& n) {
    const auto logits = memory.template make<T, dyn, out>(n.tokens);
    return mtp_outputs{logits, memory.template make<T, dyn, out>(n.tokens)};
  }

  template <class T, class S>
  struct trunk_rows {
    view<T, S, dyn, D> embedded, hidden, normed;
    const auto& given() const {  // to the mtp layer
      return Mtp::config.hidden == mtp_hidden::after_norm ? normed : hidden;
    }
  };
  template <class T, class S>
  struct draft_rows {
    view<const std::int32_t, S, dyn> next;
    view<T, S, dyn, D> embedded, hidden, normed;
    const auto& given() const {  // to the mtp layer for one more token
      return Mtp::config.hidden == mtp_hidden::after_norm ? normed : hidden;
    }
  };
  template <class T, class S>
  struct saved {
    trunk_rows<T, S> trunk;
    draft_rows<T, S> drafts;
    keep<for_backward, Embedding, T, S> next_embed;  // the second runs of what is shared
    keep<for_backward, Head, T, S> next_head;
  };
  template <class T, class S>
  using state = row_cache<T, S, D>;  // the state that each position gives the mtp layer

  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& x, const Y& y, K& k) {
    const scope freed(c.scratch);
    if constexpr (is_mtp_outputs<Y>) {
      const auto t = run_trunk(c, p, x, y.logits, k);
      auto& memory = c.template arena_for<K>();
      const auto next = memory.template make<std::int32_t, dyn>(x.extent(0));
      ops::next_tokens(c.backend, x, c.options.sequences, 0, next);
      const auto d = run_drafts(c, p, mtp_inputs{as_const(next), t.given()}, y.drafts, k);
      if constexpr (keeps_tape<K>) {
        k.own.trunk = t;
        k.own.drafts = d;
      }
    } else {
      static_assert(!keeps_tape<K>,
                    "deepseek::with_mtp: training gives logits and drafts (one loss each); pass "
                    "mtp_outputs as y");
      const auto t = run_trunk(c, p, x, y, k);
      if constexpr (keeps_state<K>) {
        k.own.append(c.backend, c.options, t.given());
      }
    }
  }

  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k, G& g) {
    using T = typename decltype(dy.logits)::value_type;
    constexpr bool after_norm = Mtp::config.hidden == mtp_hidden::after_norm;
    const scope freed(c.scratch);
    const auto& t = k.own.trunk;
    const index_t n = x.extent(0);
    const auto make = [&] { return c.scratch.template make<T, dyn, D>(n); };
    const auto from_drafts = make(), dnormed = make(), dhidden = make(), dembedded = make();
    backward_drafts(c, p, dy.drafts, mtp_inputs{dembedded, from_drafts}, k, g);
    run_backward<Embedding>(c.in(0), p.embed, k.own.drafts.next, as_const(dembedded), dx,
                            k.own.next_embed, g.embed);
    run_backward<Head>(c.template with<vocabulary>(&p.embed, &g.embed).in(3), p.head,
                       as_const(t.normed), dy.logits, dnormed, k.head, g.head);
    if (after_norm) ops::add(c.backend, from_drafts, dnormed);
    run_backward(c.in(2), p.norm, as_const(t.hidden), as_const(dnormed), dhidden, k.norm, g.norm);
    if (!after_norm) ops::add(c.backend, from_drafts, dhidden);
    run_backward<Trunk>(lend_token_ids(c, x).in(1), p.trunk, as_const(t.embedded),
                        as_const(dhidden), dembedded, k.trunk, g.trunk);
    run_backward<Embedding>(c.in(0), p.embed, x, as_const(dembedded), dx, k.embed, g.embed);
  }

  // Decoding: drafts for the positions from `start` on, whose next tokens are given; the trunk has
  // seen `length` positions. Behind them a draft goes on from the state that the last one gave.
  template <class C, class P, class X, class Y, class K>
  static void draft(const C& c, const P& p, const X& next, const Y& y, K& k, index_t length) {
    const scope freed(c.scratch);
    const index_t n = next.extent(0);
    const auto d = run_drafts(c, p, mtp_inputs{next, k.own.read(c, c.options.start, n)}, y, k);
    auto after = c.options;
    after.start += n;
    if (n > 0 && after.start >= length && after.start < k.own.positions(after.pages)) {
      k.own.append(c.backend, after, rows(d.given(), n - 1, 1));
    }
  }

 private:
  // A tape keeps the second run of a shared part apart from the first.
  template <class K>
  static auto& next_embed(K& k) {
    if constexpr (keeps_tape<K>) {
      return k.own.next_embed;
    } else {
      return k.embed;
    }
  }
  template <class K>
  static auto& next_head(K& k) {
    if constexpr (keeps_tape<K>) {
      return k.own.next_head;
    } else {
      return k.head;
    }
  }

  template <class C, class P, class X, class Y, class K>
  static auto run_trunk(const C& c, const P& p, const X& x, const Y& logits, K& k) {
    using T = typename Y::value_type;
    auto& memory = c.template arena_for<K>();
    const auto make = [&] { return memory.template make<T, dyn, D>(x.extent(0)); };
    const trunk_rows<T, typename C::space> r{make(), make(), make()};
    run_forward<Embedding>(c.in(0), p.embed, x, r.embedded, k.embed);
    run_forward<Trunk>(lend_token_ids(c, x).in(1), p.trunk, as_const(r.embedded), r.hidden,
                       k.trunk);
    run_forward(c.in(2), p.norm, as_const(r.hidden), r.normed, k.norm);
    run_forward<Head>(c.template with<vocabulary>(&p.embed).in(3), p.head, as_const(r.normed),
                      logits, k.head);
    return r;
  }
  // in = mtp_inputs{next tokens, states of the trunk}.
  template <class C, class P, class In, class Y, class K>
  static auto run_drafts(const C& c, const P& p, const In& in, const Y& drafts, K& k) {
    using T = typename Y::value_type;
    auto& memory = c.template arena_for<K>();
    const auto make = [&] { return memory.template make<T, dyn, D>(drafts.extent(0)); };
    const draft_rows<T, typename C::space> r{in.embedding, make(), make(), make()};
    run_forward<Embedding>(c.in(0), p.embed, r.next, r.embedded, next_embed(k));
    run_forward<Mtp>(lend_token_ids(c, r.next).in(4), p.mtp,
                     mtp_inputs{as_const(r.embedded), as_const(in.hidden)}, r.hidden, k.mtp);
    run_forward(c.in(5), p.mtp.norm, as_const(r.hidden), r.normed, k.mtp.norm);
    run_forward<Head>(c.template with<vocabulary>(&p.embed).in(3), p.head, as_const(r.normed),
                      drafts, next_head(k));
    return r;
  }
  // Writes the gradients of the next tokens' embeddings and of the states given by the trunk.
  template <class C, class P, class DY, class DX, class K, class G>
  static void backward_drafts(const C& c, const P& p, const DY& dy, const DX& dx, K& k, G& g) {
    using T = typename DY::value_type;
    const scope freed(c.scratch);
    const auto& d = k.own.drafts;
    const auto dnormed = c.scratch.template make<T, dyn, D>(dy.extent(0));
    const auto dhidden = c.scratch.template make<T, dyn, D>(dy.extent(0));
    run_backward<Head>(c.template with<vocabulary>(&p.embed, &g.embed).in(3), p.head,
                       as_const(d.normed), dy, dnormed, next_head(k), g.head);
    run_backward(c.in(5), p.mtp.norm, as_const(d.hidden), as_const(dnormed), dhidden, k.mtp.norm,
                 g.mtp.norm);
    run_backward<Mtp>(lend_token_ids(c, d.next).in(4), p.mtp,
                      mtp_inputs{as_const(d.embedded), as_const(k.own.trunk.given())},
                      as_const(dhidden), dx, k.mtp, g.mtp);
  }
};

}  // namespace deepseek
