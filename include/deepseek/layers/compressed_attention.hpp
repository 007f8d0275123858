// SPDX-License-Identifier: Apache-2.0
// compressed_attention<config>: DeepSeek-V4's attention. cq = RMSNorm(Wqa x), q = Wqb cq, each head
// over its rms; kv = RMSNorm(Wkv x), one head, key and value at once; rotary embedding
// (interleaved) of the last rope_dim of both. A query sees the last `window` tokens, itself among
// them, and, with ratio m > 0, the entries of a compressor<> that are complete: one softmax over
// both, with a sink in each head. The output's last rope_dim are turned back by the query's
// position (key and value are one tensor), then y = Wob z, z_j = Woa_j o_j for `groups` groups of
// heads. Scale head_dim^-1/2. Decoding keeps the last window, all entries, and what the compressor
// keeps: bits as in one run. Not done: rounding through 8-bit floats. Source: DeepSeek-V4's
// published inference code as ported by others; the sink also in FlashMLA's tests.
#pragma once

#include "deepseek/layers/attention_sink.hpp"
#include "deepseek/layers/compressor.hpp"
#include "deepseek/layers/entry_cache.hpp"
#include "deepseek/layers/entry_indexer.hpp"
#include "deepseek/layers/grouped_linear.hpp"
#include "deepseek/ops/attention.hpp"
#include "deepseek/ops/attention_merge.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/compressed.hpp"
#include "deepseek/pattern/index_set.hpp"

namespace deepseek {

struct compressed_attention_config {
  index_t dim = 0;                    // model width
  index_t heads = 0;                  // query heads
  index_t head_dim = 0;               // of q and kv
  index_t rope_dim = 0;               // the last elements of a head that are rotated, even
  index_t q_rank = 0;                 // width of cq
  index_t groups = 1;                 // of the output projection; divides heads
  index_t group_rank = 0;             // width of a group's z_j
  index_t window = 128;               // tokens that a query sees, itself among them
  index_t ratio = 0;                  // tokens of an entry; 0: no entries
  overlap windows = overlap::absent;  // of the compressor
  index_t selected = 0;               // entries that a query sees, by its indexer; 0: all
  index_t index_heads = 0;            // of the indexer, and their width
  index_t index_dim = 0;
  double theta = 1e4;  // rotary base of q, kv and entries
  rope_scaling scaling = {};
  double eps = 1e-6;  // of the norms
  bool operator==(const compressed_attention_config&) const = default;

  constexpr compressor_config entries() const {
    return {dim, head_dim, rope_dim, ratio, windows, theta, scaling, eps};
  }
  constexpr entry_indexer_config indexer() const {
    return {{dim, index_dim, rope_dim, ratio, windows, theta, scaling, eps},
            q_rank,
            index_heads,
            selected};
  }
};

template <compressed_attention_config C, class F = plain>
struct compressed_attention {
  static_assert(C.dim > 0 && C.heads > 0 && C.head_dim > 0 && C.q_rank > 0 && C.group_rank > 0,
                "deepseek::compressed_attention: a size is not positive; write .dim, .heads, "
                ".head_dim, .q_rank and .group_rank");
  static_assert(C.groups > 0 && C.heads % C.groups == 0,
                "deepseek::compressed_attention: groups does not divide heads (each group of the "
                "output projection takes as many heads); choose a divisor of heads");
  static_assert(C.rope_dim >= 0 && C.rope_dim <= C.head_dim && C.rope_dim % 2 == 0,
                "deepseek::compressed_attention: rope_dim is odd or not within head_dim (rotary "
                "embedding turns pairs); write an even .rope_dim <= .head_dim");
  static_assert(C.window > 0 && C.ratio >= 0,
                "deepseek::compressed_attention: window is not positive or ratio is negative; "
                "write .window = 128 and .ratio = 0, 4 or 128");
  static_assert(C.selected >= 0 && (C.selected == 0 || C.ratio > 0),
                "deepseek::compressed_attention: selected without entries (an indexer chooses "
                "among the entries of a compressor); write .ratio = 4 or .selected = 0");
  static_assert(rope_scaling_problem(C.scaling, C.theta) == nullptr &&
                    !depends_on_length(C.scaling),
                "deepseek::compressed_attention: the rotary scaling cannot be used (out of range, "
                "or it depends on the length); see ops/rope_scaling.hpp");
  static constexpr index_t H = C.heads, D = C.head_dim, Q = H * D, Z = C.groups * C.group_rank;
  static constexpr index_t out = C.dim;
  static constexpr bool compresses = C.ratio > 0, selects = C.selected > 0;
  static constexpr const char* label = "attn";
  template <class G>
  using with_format = compressed_attention<C, G>;

  using norm_of_q = rms_norm<C.q_rank, norm_config{.eps = C.eps}>;
  using norm_of_kv = rms_norm<D, norm_config{.eps = C.eps}>;
  using entries_of = std::conditional_t<compresses, compressor<C.entries(), F>, absent>;
  using indexer_of = std::conditional_t<selects, entry_indexer<C.indexer(), F>, absent>;

  template <class Of>
  struct parts {
    using layer = compressed_attention;
    each<Of, linear<C.dim, C.q_rank, F>> wq_a;
    each<Of, norm_of_q> q_norm;
    each<Of, linear<C.q_rank, Q, F>> wq_b;
    each<Of, linear<C.dim, D, F>> wkv;
    each<Of, norm_of_kv> kv_norm;
    each<Of, grouped_linear<Q / C.groups, C.group_rank, C.groups>> wo_a;
    each<Of, linear<Z, C.dim, F>> wo_b;
    each<Of, head_sinks<H>> attn_sink;
    each<Of, entries_of> compressor;
    each<Of, indexer_of> indexer;
    static constexpr auto fields() {
      return std::tuple{named("wq_a", &parts::wq_a),
                        named("q_norm", &parts::q_norm),
                        named("wq_b", &parts::wq_b),
                        named("wkv", &parts::wkv),
                        named("kv_norm", &parts::kv_norm),
                        named("wo_a", &parts::wo_a),
                        named("wo_b", &parts::wo_b),
                        named("attn_sink", &parts::attn_sink),
                        named("compressor", &parts::compressor),
                        named("indexer", &parts::indexer)};
    }
  };

  // Of n tokens and e entries. o is what attention, merge and sink left, before it is turned back.
  template <class T, class S>
  struct saved {
    view<T, S, dyn, C.q_rank> qa, cq;
    view<T, S, dyn, Q> qb, q, o;
    view<T, S, dyn, D> kva, kv, entries;
    view<T, S, dyn, Z> z;
    view<accumulate_t<T>, S, dyn, H> lse;
    view<std::int32_t, S, dyn, C.selected> ids;  // of the entries that each query sees
  };
  template <class T, class S>
  struct state {
    recent_rows<T, S, D, C.window, 64> window;
    entry_cache<T, S, D, compresses ? C.ratio : 1> entries;
    static constexpr bool steps_alike = true;
    static constexpr index_t rewinds = decltype(window)::rewinds;
    // What grows with the tokens.
    static constexpr index_t bytes_per_token() {
      return compresses ? decltype(entries)::bytes_per_token() : 0;
    }
    void reserve(index_t capacity) {
      window.reserve(capacity);
      if constexpr (compresses) entries.reserve(capacity);
    }
  };

  template <class Call, class P, class X, class Y, class K>
  static void forward(const Call& c, const P& p, const X& x, const Y& y, K& k) {
    using T = typename Y::value_type;
    const scope freed(c.scratch);
    const auto numbers = entries_in(c, x.extent(0));
    const auto s = make<T>(c.template arena_for<K>(), x.extent(0), numbers.entries);
    project(c, p, x, s, k);
    attend_window(c, s, k);
    if constexpr (compresses) {
      run_forward(c.in(5), p.compressor, x, s.entries, k.compressor);
      if constexpr (selects) {
        indexer_of::select(c.in(6), p.indexer, x, as_const(s.cq), s.ids, k.indexer);
      }
      attend_entries(c, s, numbers.sequences, k);
    }
    ops::attention_sink(c.backend, p.attn_sink.logits, result(s));
    auto back = c.scratch.template make<T, dyn, Q>(x.extent(0));
    turned_back(c, s.o, back);
    run_forward(c.in(3), p.wo_a, as_const(back), s.z, k.wo_a);
    run_forward(c.in(4), p.wo_b, as_const(s.z), y, k.wo_b);
    if constexpr (keeps_tape<K>) k.own = s;
  }

  template <class Call, class P, class X, class DY, class DX, class K, class G>
  static void backward(const Call& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k,
                       G& g) {
    using T = typename DY::value_type;
    const scope freed(c.scratch);
    const auto& s = k.own;
    const auto d = make<T>(c.scratch, x.extent(0), s.entries.extent(0));
    turned_back(c, s.o, d.q);  // d.q is free until attention's backward
    run_backward(c.in(4), p.wo_b, as_const(s.z), dy, d.z, k.wo_b, g.wo_b);
    run_backward(c.in(3), p.wo_a, as_const(d.q), as_const(d.z), d.o, k.wo_a, g.wo_a);
    turn(c, rope_turn::forward, heads(d.o));
    ops::attention_sink_backward(c.backend, p.attn_sink.logits, result(s), heads(d.o),
                                 g.attn_sink.logits);
    attend_window_backward(c, s, d);
    if constexpr (compresses) attend_entries_backward(c, s, d);
    project_backward(c, p, x, d, dx, k, g);
    if constexpr (compresses) {
      auto dx_part = c.scratch.template make<T, dyn, C.dim>(x.extent(0));
      run_backward(c.in(5), p.compressor, x, as_const(d.entries), dx_part, k.compressor,
                   g.compressor);
      ops::add(c.backend, dx_part, dx);
    }
  }

 private:
  template <class T, class S>
  static saved<T, S> make(arena<S>& a, index_t n, index_t e) {
    return {a.template make<T, dyn, C.q_rank>(n),
            a.template make<T, dyn, C.q_rank>(n),
            a.template make<T, dyn, Q>(n),
            a.template make<T, dyn, Q>(n),
            a.template make<T, dyn, Q>(n),
            a.template make<T, dyn, D>(n),
            a.template make<T, dyn, D>(n),
            a.template make<T, dyn, D>(e),
            a.template make<T, dyn, Z>(n),
            a.template make<accumulate_t<T>, dyn, H>(n),
            a.template make<std::int32_t, dyn, C.selected>(n)};
  }
  template <class V>
  static auto heads(const V& v) {
    return as_heads<H, D>(v);
  }
  template <class V>
  static auto one_head(const V& v) {
    return as_heads<1, D>(v);
  }
  template <class Saved>
  static auto result(const Saved& s) {
    return attention_outputs{heads(s.o), s.lse};
  }

  struct no_entries {
    none sequences;
    index_t entries = 0;
  };
  template <class Call>
  static auto entries_in(const Call& c, index_t tokens) {
    if constexpr (compresses) {
      return entries_of::count(c, tokens);
    } else {
      return no_entries{};
    }
  }

  // Rotates the last rope_dim of each head in place.
  template <class Call, class... V>
  static void turn(const Call& c, rope_turn direction, const V&... v) {
    if constexpr (C.rope_dim > 0) {
      rotate(c,
             rope_spec{.theta = C.theta,
                       .turn = direction,
                       .first = D - C.rope_dim,
                       .count = C.rope_dim,
                       .scaling = C.scaling},
             v...);
    }
  }
  // to: o turned back by the position of each query.
  template <class Call, class V, class To>
  static void turned_back(const Call& c, const V& o, const To& to) {
    ops::copy(c.backend, o, to);
    turn(c, rope_turn::inverse, heads(to));
  }
  // [tokens, heads * D] as a row for each head.
  template <class T, class S, index_t N>
  static view<T, S, dyn, D> head_rows(const view<T, S, N, Q>& v) {
    return {v.data(), {v.extent(0) * H, D}};
  }

  template <class Call, class P, class X, class Saved, class K>
  static void project(const Call& c, const P& p, const X& x, const Saved& s, K& k) {
    side_by_side(run_of(c.in(0), p.wq_a, x, s.qa, k.wq_a), run_of(c.in(2), p.wkv, x, s.kva, k.wkv));
    run_forward(c, p.q_norm, as_const(s.qa), s.cq, k.q_norm);
    run_forward(c.in(1), p.wq_b, as_const(s.cq), s.qb, k.wq_b);
    ops::rms_norm(c.backend, head_rows(s.qb), none{}, head_rows(s.q), C.eps);
    run_forward(c, p.kv_norm, as_const(s.kva), s.kv, k.kv_norm);
    turn(c, rope_turn::forward, heads(s.q), one_head(s.kv));
  }
  // From d.q and d.kv; the gradient of x is written.
  template <class Call, class P, class X, class Saved, class DX, class K, class G>
  static void project_backward(const Call& c, const P& p, const X& x, const Saved& d, const DX& dx,
                               K& k, G& g) {
    const auto& s = k.own;
    auto dx_part = c.scratch.template make<typename DX::value_type, dyn, C.dim>(x.extent(0));
    turn(c, rope_turn::inverse, heads(d.q), one_head(d.kv));
    ops::rms_norm_backward(c.backend, rms_norm_inputs{head_rows(s.qb), none{}}, head_rows(d.q),
                           rms_norm_gradients{head_rows(d.qb), none{}}, C.eps);
    run_backward(c.in(1), p.wq_b, as_const(s.cq), as_const(d.qb), d.cq, k.wq_b, g.wq_b);
    run_backward(c, p.q_norm, as_const(s.qa), as_const(d.cq), d.qa, k.q_norm, g.q_norm);
    run_backward(c.in(0), p.wq_a, x, as_const(d.qa), dx, k.wq_a, g.wq_a);
    run_backward(c, p.kv_norm, as_const(s.kva), as_const(d.kv), d.kva, k.kv_norm, g.kv_norm);
    run_backward(c.in(2), p.wkv, x, as_const(d.kva), dx_part, k.wkv, g.wkv);
    ops::add(c.backend, dx_part, dx);
  }

  template <class Call>
  static attention_spec<sliding<C.window>, typename Call::space> window_spec(
      const Call& c, index_t start, const sequence_offsets<typename Call::space>& at = {}) {
    return {{}, 0, c.options.sequences, c.options.sequences, start, {}, 0, at};
  }
  template <class Call, class Saved, class K>
  static void attend_window(const Call& c, const Saved& s, K& k) {
    const auto attend = [&](const auto& kv, const auto& spec) {
      ops::attention(c.backend, attention_inputs{heads(s.q), one_head(kv), one_head(kv)}, result(s),
                     spec);
    };
    if constexpr (keeps_state<K>) {
      const auto all = k.own.window.append(c, s.kv);
      attend(all.rows, window_spec(c, all.start, all.at));
    } else {
      attend(s.kv, window_spec(c, c.options.start));
    }
  }
  // Writes d.q and d.kv: kv is key and value.
  template <class Call, class Saved>
  static void attend_window_backward(const Call& c, const Saved& s, const Saved& d) {
    ops::attention_backward(
        c.backend, attention_inputs{heads(s.q), one_head(s.kv), one_head(s.kv)}, result(s),
        attention_gradients{heads(d.o), heads(d.q), one_head(d.kv), one_head(d.kva)},
        window_spec(c, c.options.start));
    ops::add(c.backend, d.kva, d.kv);
  }

  // Which entries a query sees.
  template <class Saved>
  static auto seen_entries(const Saved& s) {
    if constexpr (selects) {
      return index_set(s.ids, index_order::ascending);
    } else {
      return compressed<C.ratio>{};
    }
  }
  template <class Call, class Saved, class Sequences>
  static auto spec_of_entries(const Call& c, const Saved& s, const Sequences& sequences) {
    return entry_spec<C.ratio>(c, seen_entries(s), 0, sequences);
  }
  // Adds the entries' part to s.o and s.lse.
  template <class Call, class Saved, class Sequences, class K>
  static void attend_entries(const Call& c, const Saved& s, const Sequences& sequences, K& k) {
    using T = typename decltype(s.o)::value_type;
    const scope freed(c.scratch);
    const index_t n = s.o.extent(0);
    auto o = c.scratch.template make<T, dyn, Q>(n);
    auto lse = c.scratch.template make<accumulate_t<T>, dyn, H>(n);
    const attention_outputs part{heads(o), lse};
    const auto attend = [&](const auto& entries) {
      ops::attention(c.backend, attention_inputs{heads(s.q), one_head(entries), one_head(entries)},
                     part, spec_of_entries(c, s, sequences));
    };
    if constexpr (keeps_state<K>) {
      attend(k.own.entries.append(c, s.entries));
    } else {
      attend(s.entries);
    }
    ops::attention_merge(c.backend, part, result(s));
  }
  // Adds to d.q, writes d.entries.
  template <class Call, class Saved>
  static void attend_entries_backward(const Call& c, const Saved& s, const Saved& d) {
    using T = typename decltype(s.o)::value_type;
    const scope freed(c.scratch);
    auto dq = c.scratch.template make<T, dyn, Q>(s.q.extent(0));
    auto dv = c.scratch.template make<T, dyn, D>(s.entries.extent(0));
    const auto sequences = entries_in(c, s.q.extent(0)).sequences;
    ops::attention_backward(
        c.backend, attention_inputs{heads(s.q), one_head(s.entries), one_head(s.entries)},
        result(s), attention_gradients{heads(d.o), heads(dq), one_head(d.entries), one_head(dv)},
        spec_of_entries(c, s, sequences));
    ops::add(c.backend, dv, d.entries);
    ops::add(c.backend, dq, d.q);
  }
};

}  // namespace deepseek
