// SPDX-License-Identifier: Apache-2.0
// The language model's head. Untied: called<"head", linear<D, V>>. Tied: tied<embedding<V, D>,
// body> lends its embedding to a tied_head<V, D> inside the body (no parameters of its own): logits
// = h E^T, and the table's gradient gets both parts.
#pragma once

#include "deepseek/layers/embedding.hpp"
#include "deepseek/ops/gemm.hpp"
#include "deepseek/quant/format.hpp"

namespace deepseek {

struct vocabulary {};  // call tag: pointers to the embedding's parameters and their gradient

template <index_t V, index_t D>
struct tied_head {
  static constexpr index_t out = V;
  static constexpr const char* label = "head";

  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P&, const X& x, const Y& y, K&) {
    ops::gemm(c.backend, x, transposed(c.template get<vocabulary>()->weight.view()), y);
  }
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P&, const X& x, const DY& dy, const DX& dx, K&, G&) {
    const auto* table = c.template get<vocabulary>();
    auto* gradient = c.template gradient_of<vocabulary>();
    ops::gemm_backward(c.backend, gemm_inputs{x, transposed(table->weight.view())}, dy,
                       gemm_gradients{dx, transposed(gradient->weight.view())});
  }
};

template <class Embedding, class Body>
struct tied {
  static constexpr index_t out = Body::out;
  static constexpr const char* label = "";
  template <class F>
  using with_format = tied<Embedding, reformatted<Body, F>>;
  template <class Of>
  struct parts {
    using layer = tied;
    each<Of, Embedding> embed;
    each<Of, Body> body;
    static constexpr auto fields() {
      return std::tuple{named("embed", &parts::embed), named("", &parts::body)};
    }
  };
  template <class T, class S>
  struct saved {
    view<T, S, dyn, Embedding::out> h;
  };

  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& x, const Y& y, K& k) {
    const scope freed(c.scratch);
    auto h = c.template arena_for<K>().template make<typename Y::value_type, dyn, Embedding::out>(
        x.extent(0));
    run_forward<Embedding>(c.in(0), p.embed, x, h, k.embed);
    run_forward<Body>(lend_token_ids(c, x).template with<vocabulary>(&p.embed).in(1), p.body,
                      as_const(h), y, k.body);
    if constexpr (keeps_tape<K>) k.own.h = h;
  }
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k, G& g) {
    const scope freed(c.scratch);
    auto dh = c.scratch.template make<typename DY::value_type, dyn, Embedding::out>(x.extent(0));
    run_backward<Body>(lend_token_ids(c, x).template with<vocabulary>(&p.embed, &g.embed).in(1),
                       p.body, as_const(k.own.h), dy, dh, k.body, g.body);
    run_backward<Embedding>(c.in(0), p.embed, x, as_const(dh), dx, k.embed, g.embed);
  }
};

}  // namespace deepseek
