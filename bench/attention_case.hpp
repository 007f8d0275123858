// SPDX-License-Identifier: Apache-2.0
// Attention with one pattern at one size, for attention.cpp and attention_scaling.cpp. Its work is
// that of the pairs that the pattern shows, nothing else. The reference checks the queries of a few
// places only; the backward is checked on a shorter sequence of the same kind.
#pragma once

#include "deepseek/ops/attention.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/block.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/random_blocks.hpp"

#include "deepseek/backend/cpu/attention.hpp"

#include "shapes.hpp"
#include "support/op_case.hpp"

#include <bit>

namespace bench {

using dense_pattern = ds::causal;
using local_pattern = ds::local<128>;
using block_pattern = ds::block<128, 1>;
using random_pattern = ds::random_blocks<64, 4>;

template <class P>
double visible_pairs(const attention_size& s) {
  double pairs = 0;
  for (index_t head = 0; head < s.heads; ++head) {
    const P seen = ds::bind_pattern(ds::make_pattern<P>({}), {head, s.tokens, ds::reach_of<P>});
    for (index_t q = 0; q < s.tokens; ++q) {
      for (auto span = ds::next_keys(seen, q, q + 1, 0); span.first < s.tokens;
           span = ds::next_keys(seen, q, q + 1, span.last)) {
        pairs += static_cast<double>(std::min(span.last, s.tokens) - span.first);
      }
    }
  }
  return pairs;
}

template <class P>
struct attention_case {
  static constexpr const char* op = "attention";
  attention_size s;
  cube q, k, v, o;
  matrix lse;

  explicit attention_case(const attention_size& size)
      : s(size),
        q(filled<cube>({s.tokens, s.heads, s.dim}, 1)),
        k(filled<cube>({s.tokens, s.kv_heads, s.dim}, 2)),
        v(filled<cube>({s.tokens, s.kv_heads, s.dim}, 3)),
        o({s.tokens, s.heads, s.dim}),
        lse({s.tokens, s.heads}) {}
  static auto spec(index_t start) {
    return ds::attention_spec<P>{.pattern = ds::make_pattern<P>({}), .start = start};
  }
  auto inputs() const { return ds::attention_inputs{q, k, v}; }

  template <class B>
  void run(const B& b) {
    ds::ops::attention(b, inputs(), ds::attention_outputs{o.view(), lse.view()}, spec(0));
  }
  work cost() const {
    const double elements = static_cast<double>(q.size() + k.size() + v.size() + o.size());
    return {4 * static_cast<double>(s.dim) * visible_pairs<P>(s), 4 * elements, 0, arithmetic::f32,
            traffic::reads};
  }
  double error() {
    constexpr index_t queries = 3;
    double worst = 0;
    for (const index_t first : {index_t{0}, s.tokens / 2, s.tokens - queries}) {
      cube want({queries, s.heads, s.dim});
      ds::ops::attention(
          ds::reference(),
          ds::attention_inputs{rows(std::as_const(q).view(), first, queries), k.view(), v.view()},
          ds::attention_outputs{want.view()}, spec(first));
      const double terms = static_cast<double>(s.tokens);
      worst = std::max(worst,
                       difference({o.data() + first * s.heads * s.dim, nullptr, want.size(), terms},
                                  out(want, terms)));
    }
    return worst;
  }
};

template <class P>
struct attention_backward_case : attention_case<P> {
  static constexpr const char* op = "attention_backward";
  using base = attention_case<P>;
  using base::k, base::lse, base::o, base::q, base::s, base::v;
  cube d_o, dq, dk, dv;

  explicit attention_backward_case(const attention_size& size)
      : base(size),
        d_o(filled<cube>({s.tokens, s.heads, s.dim}, 4)),
        dq({s.tokens, s.heads, s.dim}),
        dk({s.tokens, s.kv_heads, s.dim}),
        dv({s.tokens, s.kv_heads, s.dim}) {
    base::run(ds::cpu());
  }
  template <class B>
  void run(const B& b) {
    ds::ops::attention_backward(
        b, base::inputs(), ds::attention_outputs{o.view(), lse.view()},
        ds::attention_gradients{d_o.view(), dq.view(), dk.view(), dv.view()}, base::spec(0));
  }
  work cost() const {
    const work forward = base::cost();
    return {2.5 * forward.flops, 2 * forward.bytes};
  }
  std::vector<output> outputs() const {
    const double terms = static_cast<double>(s.tokens);
    return {out(dq, terms), out(dk, terms), out(dv, terms)};
  }
  double error() {
    attention_size shorter = s;
    shorter.tokens = std::min<index_t>(s.tokens, 448);  // whole blocks of 64
    attention_backward_case got(shorter), want(shorter);
    got.run(ds::cpu({.threads = 2}));
    want.run(ds::reference());
    return difference(got.outputs(), want.outputs());
  }
};

}  // namespace bench
