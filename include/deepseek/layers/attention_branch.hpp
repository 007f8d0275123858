// SPDX-License-Identifier: Apache-2.0
// Branches of fused_attention: each is one attention of the layer's queries over keys of its own
// choice. A branch is a type with
//   shares_keys   it reads the layer's keys and values (else it makes its own)
//   reads_all     it reads rows of all positions (a decoder must cache them)
//   looks_back    no query sees a later position, so a decoder gives what one run gives
//   on<config, Format>: a part with forward(c, p, in, out, kept), which writes out and returns what
//     it lends to later branches (or none), and backward(c, p, in, out, d, kept, g), which writes
//     d.dq, d.dk, d.dv and adds to d.dx.
// over<Pattern>: the keys that a pattern shows. own_keys<Branch>: a branch with projections Wk, Wv
// of its own.
#pragma once

#include "deepseek/layers/key_values.hpp"

namespace deepseek {

template <class X, class Q, class Rows>
struct branch_inputs {
  X x;        // [tokens, dim]
  Q q;        // [tokens, heads, d], rotated
  Rows rows;  // key_value_rows, or none
};
template <class X, class Q, class Rows>
branch_inputs(X, Q, Rows) -> branch_inputs<X, Q, Rows>;

template <class DX, class DO, class DQ, class DKV>
struct branch_gradients {
  DX dx;    // [tokens, dim], added to
  DO d_o;   // [tokens, heads, d], read
  DQ dq;    // [tokens, heads, d], written
  DKV dkv;  // {k, v}, each [tokens, kv_heads * d], written; none where the branch has its own
};
template <class DX, class DO, class DQ, class DKV>
branch_gradients(DX, DO, DQ, DKV) -> branch_gradients<DX, DO, DQ, DKV>;

template <class V>
struct key_value_gradients {
  V k, v;
};
template <class T, index_t KV, class S>
auto make_key_value_gradients(arena<S>& memory, index_t n) {
  return key_value_gradients<view<T, S, dyn, KV>>{memory.template make<T, dyn, KV>(n),
                                                  memory.template make<T, dyn, KV>(n)};
}

template <class Pattern>
struct over {
  static constexpr bool shares_keys = true, reads_all = true;
  static constexpr bool looks_back = reach_of<Pattern> == reach::past;

  template <attention_config C, class F>
  struct on {
    using shape = head_shape<C>;
    static constexpr index_t out = shape::Q;
    static constexpr const char* label = "over";

    template <class Call, class P, class In, class Out, class K>
    static none forward(const Call& c, const P&, const In& in, const Out& to, K&) {
      ops::attention(
          c.backend,
          attention_inputs{in.q, shape::kv_heads(in.rows.keys), shape::kv_heads(in.rows.values)},
          to, seen_keys<Pattern>(c, shape::scale(), in.x.extent(0)));
      return {};
    }
    template <class Call, class P, class In, class Out, class D, class K, class G>
    static void backward(const Call& c, const P&, const In& in, const Out& from, const D& d, K&,
                         G&) {
      ops::attention_backward(
          c.backend, attention_inputs{in.q, shape::kv_heads(in.rows.k), shape::kv_heads(in.rows.v)},
          from,
          attention_gradients{d.d_o, d.dq, shape::kv_heads(d.dkv.k), shape::kv_heads(d.dkv.v)},
          seen_keys<Pattern>(c, shape::scale(), in.x.extent(0)));
    }
  };
};

template <class Branch>
struct own_keys {
  static_assert(Branch::shares_keys,
                "deepseek::own_keys: this branch has keys of its own already; write it alone");
  static constexpr bool shares_keys = false, reads_all = Branch::reads_all;
  static constexpr bool looks_back = Branch::looks_back;

  template <attention_config C, class F>
  struct on {
    using inner = typename Branch::template on<C, F>;
    using projections = key_values<C, reads_all ? kept_keys::all : kept_keys::none, F>;
    static constexpr index_t out = inner::out;
    static constexpr const char* label = inner::label;

    template <class Of>
    struct parts {
      using layer = on;
      each<Of, projections> rows;
      each<Of, inner> body;
      static constexpr auto fields() {
        return std::tuple{named("", &parts::rows), named("", &parts::body)};
      }
    };

    template <class Call, class P, class In, class Out, class K>
    static auto forward(const Call& c, const P& p, const In& in, const Out& to, K& kept) {
      using T = typename decltype(in.q)::value_type;
      const auto rows = projections::template project<T>(c.in(0), p.rows, in.x, kept.rows);
      return inner::forward(c.in(1), p.body, branch_inputs{in.x, in.q, rows}, to, kept.body);
    }
    template <class Call, class P, class In, class Out, class D, class K, class G>
    static void backward(const Call& c, const P& p, const In& in, const Out& from, const D& d,
                         K& kept, G& g) {
      using T = typename decltype(d.dq)::value_type;
      const scope freed(c.scratch);
      const auto dkv = make_key_value_gradients<T, projections::KV>(c.scratch, in.x.extent(0));
      const auto& s = kept.rows.own;
      inner::backward(c.in(1), p.body, branch_inputs{in.x, in.q, s}, from,
                      branch_gradients{d.dx, d.d_o, d.dq, dkv}, kept.body, g.body);
      projections::add_backward(c.in(0), p.rows, in.x, dkv, d.dx, kept.rows, g.rows);
    }
  };
};

}  // namespace deepseek
