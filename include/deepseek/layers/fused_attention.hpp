// SPDX-License-Identifier: Apache-2.0
// fused_attention<config, Fusion, Format, Branch...>: several attentions of the same queries,
// added:
//   q = Wq x, o_b = the attention of branch b, o[t, h] = sum_b g[t, h, b] o_b[t, h], y = Wo o.
// Each branch has a softmax of its own (one softmax over a union of keys is either<...> in one
// pattern). Branches: layers/attention_branch.hpp, pooled_branch, top_tokens, selected_blocks;
// weights g: layers/branch_fusion.hpp. Branches that share keys read one Wk, Wv.
// Decoding is refused at compile time where a branch or the weights look ahead.
// Names: wq, wk, wv, wo, mix, branches.0 ... Cost: the sum of the branches' attentions.
// Sources: Vaswani et al. 2017; Yuan et al. 2025 (gated branches).
#pragma once

#include "deepseek/layers/attention_branch.hpp"
#include "deepseek/layers/branch_fusion.hpp"
#include "deepseek/ops/hyper_streams.hpp"

namespace deepseek {

// Call tag: what one branch lends to those after it, such as pooled_scores.
struct earlier_branch {};

template <attention_config C, class Fusion, class F, class... Branch>
struct fused_attention {
  static constexpr index_t B = sizeof...(Branch);
  static_assert(B >= 1 && B <= most_branches,
                "deepseek::fused_attention: no branches, or more than 8; name 1 to 8 of them");
  static_assert(C.sink == sinks::absent,
                "deepseek::fused_attention: sinks stand in one softmax (here are several); leave "
                ".sink = sinks::absent or use multi_head_attention");
  static_assert(multi_head_attention<C, void, F>::out == C.dim);  // its checks of the sizes
  static constexpr bool shares_keys = (Branch::shares_keys || ...);
  static constexpr bool keeps_keys = ((Branch::shares_keys && Branch::reads_all) || ...);
  static constexpr bool looks_back = Fusion::looks_back && (Branch::looks_back && ...);
  static constexpr bool independent_rows =
      looks_back && (C.rope == rotary::none || !depends_on_length(C.scaling));
  using shape = head_shape<C>;
  static constexpr index_t H = shape::H, Q = shape::Q, KV = shape::KV;
  static constexpr index_t out = C.dim;
  static constexpr const char* label = "attn";
  template <class G>
  using with_format = fused_attention<C, Fusion, G, Branch...>;

  using fusion = typename Fusion::template on<C.dim, H, B>;
  using key_part = key_values<C, keeps_keys ? kept_keys::all : kept_keys::none, F>;
  using shared_rows = std::conditional_t<shares_keys, key_part, absent>;
  template <std::size_t I>
  using branch = std::tuple_element_t<I, std::tuple<typename Branch::template on<C, F>...>>;
  template <std::size_t I>
  using kind = std::tuple_element_t<I, std::tuple<Branch...>>;

  template <class Of, std::size_t I>
  struct slot {
    each<Of, branch<I>> part;
  };
  template <class Of, class Sequence>
  struct slots;
  template <class Of, std::size_t... I>
  struct slots<Of, std::index_sequence<I...>> : slot<Of, I>... {
    template <std::size_t J>
    auto& get() {
      return static_cast<slot<Of, J>&>(*this).part;
    }
    template <std::size_t J>
    const auto& get() const {
      return static_cast<const slot<Of, J>&>(*this).part;
    }
    static constexpr auto branch_fields() {
      constexpr const char* names[] = {"branches.0", "branches.1", "branches.2", "branches.3",
                                       "branches.4", "branches.5", "branches.6", "branches.7"};
      return std::tuple{named(names[I], &slot<Of, I>::part)...};
    }
  };
  template <class Of>
  struct parts : slots<Of, std::make_index_sequence<sizeof...(Branch)>> {
    using layer = fused_attention;
    each<Of, linear<C.dim, Q, F, C.projection_bias>> wq;
    each<Of, shared_rows> rows;
    each<Of, linear<Q, C.dim, F>> wo;
    each<Of, fusion> mix;
    static constexpr auto fields() {
      return std::tuple_cat(std::tuple{named("wq", &parts::wq), named("", &parts::rows),
                                       named("wo", &parts::wo), named("mix", &parts::mix)},
                            parts::branch_fields());
    }
  };

  // Of n tokens; the outputs of the branches stand side by side: [tokens, heads, branches, d].
  template <class T, class S>
  struct saved {
    view<T, S, dyn, Q> q, o;
    view<T, S, dyn, Q * B> each_o;
    view<accumulate_t<T>, S, dyn, H> lse;      // [branches * tokens, heads]
    view<accumulate_t<T>, S, dyn, B> weights;  // [tokens * heads, branches]
  };

  template <class Call, class P, class X, class Y, class K>
  static void forward(const Call& c, const P& p, const X& x, const Y& y, K& kept) {
    static_assert(!keeps_state<K> || looks_back,
                  "deepseek::fused_attention: cannot decode (a branch or the weights look at later "
                  "tokens); use patterns inside both<causal, ...> and weights by token");
    using T = typename Y::value_type;
    const scope freed(c.scratch);
    auto s = make<T>(c.template arena_for<K>(), x.extent(0));
    run_forward(c.in(0), p.wq, x, s.q, kept.wq);
    shape::turn(c, shape::heads(s.q), rope_turn::forward);
    if constexpr (shares_keys) {
      const auto rows = key_part::template project<T>(c.in(1), p.rows, x, kept.rows);
      attend<0>(c, p, branch_inputs{x, shape::heads(s.q), rows}, s, kept);
    } else {
      attend<0>(c, p, branch_inputs{x, shape::heads(s.q), none{}}, s, kept);
    }
    s.weights = fusion::template forward<T>(c.in(2), p.mix, x, kept.mix);
    ops::hyper_read(c.backend, by_head(s.each_o), s.weights, head_rows(s.o));
    run_forward(c.in(3), p.wo, as_const(s.o), y, kept.wo);
    if constexpr (keeps_tape<K>) kept.own = s;
  }

  template <class Call, class P, class X, class DY, class DX, class K, class G>
  static void backward(const Call& c, const P& p, const X& x, const DY& dy, const DX& dx, K& kept,
                       G& g) {
    using T = typename DY::value_type;
    const index_t n = x.extent(0);
    const scope freed(c.scratch);
    const auto& s = kept.own;
    const auto d = make<T>(c.scratch, n);  // gradients of what was saved; d.lse is not used
    const auto dw = c.scratch.template make<accumulate_t<T>, dyn, B>(n * H);
    run_backward(c.in(3), p.wo, as_const(s.o), dy, d.o, kept.wo, g.wo);
    ops::fill(c.backend, 0, d.each_o);
    ops::hyper_read_backward(c.backend, hyper_read_views{by_head(s.each_o), s.weights},
                             head_rows(d.o), hyper_read_views{by_head(d.each_o), dw});
    ops::fill(c.backend, 0, dx);
    fusion::backward(c.in(2), p.mix, x, s.weights, dw, dx, kept.mix, g.mix);
    ops::fill(c.backend, 0, d.q);
    if constexpr (shares_keys) {
      const auto dkv = make_key_value_gradients<T, KV>(c.scratch, n);
      ops::fill(c.backend, 0, dkv.k);
      ops::fill(c.backend, 0, dkv.v);
      const branch_inputs in{x, shape::heads(s.q), kept.rows.own};
      attend_backward<0>(c, p, in, branch_gradients{dx, d.each_o, d.q, dkv}, kept, g);
      key_part::add_backward(c.in(1), p.rows, x, dkv, dx, kept.rows, g.rows);
    } else {
      const branch_inputs in{x, shape::heads(s.q), none{}};
      attend_backward<0>(c, p, in, branch_gradients{dx, d.each_o, d.q, none{}}, kept, g);
    }
    shape::turn(c, shape::heads(d.q), rope_turn::inverse);
    add_backward(c.in(0), p.wq, x, as_const(d.q), dx, kept.wq, g.wq);
  }

 private:
  template <class T, class S>
  static saved<T, S> make(arena<S>& a, index_t n) {
    return {a.template make<T, dyn, Q>(n),
            a.template make<T, dyn, Q>(n),
            a.template make<T, dyn, Q * B>(n),
            a.template make<accumulate_t<T>, dyn, H>(B * n),
            {}};
  }
  // A row for each token and head: its branches, or what they are together.
  template <class T, class S>
  static view<T, S, dyn, B, shape::d> by_head(const view<T, S, dyn, Q * B>& v) {
    return {v.data(), {v.extent(0) * H, B, shape::d}};
  }
  template <class T, class S>
  static view<T, S, dyn, shape::d> head_rows(const view<T, S, dyn, Q>& v) {
    return {v.data(), {v.extent(0) * H, shape::d}};
  }
  // [tokens, heads, d] of branch i.
  template <class T, class S>
  static view<T, S, dyn, H, shape::d> of_branch(const view<T, S, dyn, Q * B>& v, index_t i) {
    return {v.data() + i * shape::d, {v.extent(0), H, shape::d}, {Q * B, B * shape::d, 1}};
  }
  template <class Saved>
  static auto result(const Saved& s, index_t i) {
    const index_t n = s.q.extent(0);
    return attention_outputs{of_branch(s.each_o, i), rows(s.lse, i * n, n)};
  }
  template <class Call, class Lent>
  static auto lend(const Call& c, const Lent& lent) {
    if constexpr (std::is_same_v<Lent, none>) {
      return c;
    } else {
      return c.template with<earlier_branch>(lent);
    }
  }

  template <std::size_t I, class Call, class P, class In, class Saved, class K>
  static void attend(const Call& c, const P& p, const In& in, const Saved& s, K& kept) {
    if constexpr (I < sizeof...(Branch)) {
      constexpr auto i = static_cast<index_t>(I);
      const auto lent = branch<I>::forward(c.in(4 + i), p.template get<I>(), in, result(s, i),
                                           kept.template get<I>());
      attend<I + 1>(lend(c, lent), p, in, s, kept);
    }
  }
  // total: gradients of what the branches share; each_o in the place of d_o.
  template <std::size_t I, class Call, class P, class In, class D, class K, class G>
  static void attend_backward(const Call& c, const P& p, const In& in, const D& total, K& kept,
                              G& g) {
    if constexpr (I < sizeof...(Branch)) {
      using T = typename decltype(total.dq)::value_type;
      constexpr auto i = static_cast<index_t>(I);
      const index_t n = in.x.extent(0);
      {
        const scope freed(c.scratch);
        const auto dq = c.scratch.template make<T, dyn, Q>(n);
        const auto run = [&](const auto& dkv) {
          branch<I>::backward(
              c.in(4 + i), p.template get<I>(), in, result(kept.own, i),
              branch_gradients{total.dx, of_branch(total.d_o, i), shape::heads(dq), dkv},
              kept.template get<I>(), g.template get<I>());
        };
        if constexpr (kind<I>::shares_keys) {
          const auto dkv = make_key_value_gradients<T, KV>(c.scratch, n);
          run(dkv);
          ops::add(c.backend, dkv.k, total.dkv.k);
          ops::add(c.backend, dkv.v, total.dkv.v);
        } else {
          run(none{});
        }
        ops::add(c.backend, dq, total.dq);
      }
      attend_backward<I + 1>(c, p, in, total, kept, g);
    }
  }
};

// A layer that looks ahead needs the whole sequence; dynamic scaling turns a row by the length.
template <class L>
requires requires {
  { L::independent_rows } -> std::convertible_to<bool>;
}
inline constexpr bool rows_are_independent<L> = L::independent_rows;

}  // namespace deepseek
