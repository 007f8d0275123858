// SPDX-License-Identifier: Apache-2.0
// embedding<V, D>: y[n] = table[ids[n]], ids [tokens] int32, y [tokens, D]. An id outside 0 .. V-1
// is an error (index_range). Backward adds to the table's gradient; integers have no dx.
#pragma once

#include "deepseek/layers/layer.hpp"
#include "deepseek/ops/embedding.hpp"

namespace deepseek {

template <index_t V, index_t D>
struct embedding {
  static_assert(V > 0 && D > 0,
                "deepseek::embedding: a size is not positive; write embedding<vocabulary, dim>");
  static constexpr index_t vocabulary = V, out = D;
  static constexpr const char* label = "embed";

  template <class T, class S>
  struct parameters {
    using layer = embedding;
    tensor<T, S, V, D> weight;
    static constexpr auto fields() { return std::tuple{named("weight", &parameters::weight)}; }
  };

  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& ids, const Y& y, K&) {
    ops::embedding(c.backend, ids, p.weight, y);
  }
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P&, const X& ids, const DY& dy, const DX&, K&, G& g) {
    static_assert(std::is_same_v<DX, none>,
                  "deepseek::embedding: token ids have no gradient; pass ds::none{} as dx");
    ops::embedding_backward(c.backend, ids, dy, g.weight);
  }
};

}  // namespace deepseek
