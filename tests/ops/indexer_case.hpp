// SPDX-License-Identifier: Apache-2.0
// One problem of the lightning indexer: its arrays in guarded memory, of chosen strides, and what
// the oracle says.
#pragma once

#include "deepseek/ops/lightning_indexer.hpp"

#include "ops/table.hpp"
#include "oracle/indexer.hpp"

namespace indexer_test {

using namespace table;

struct problem {
  std::size_t n = 0, m = 0, heads = 1, d = 1;
  layout how = layout::contiguous;
  double scale = 0.3;
  std::string text() const {
    return support::text("n", n, "m", m, "heads", heads, "d", d, "layout", static_cast<int>(how));
  }
};

inline oracle::indexer_shape shape_of(const problem& p) {
  return {p.n, p.m, p.heads, p.d, p.scale};
}

// q, k, and w (of either sign) in the oracle's order.
template <class T>
oracle::attention_inputs draw(const problem& p, const char* stream = "indexer") {
  support::numbers from(p.text() + stream);
  const auto normal = [&](std::size_t size) {
    return support::rounded_to<T>(support::draw(support::values::normal, size, from));
  };
  return {normal(p.n * p.heads * p.d), normal(p.m * p.d), normal(p.n * p.heads)};
}

// [rows, heads * d] seen as [rows, heads, d].
template <class T>
ds::view<T, ds::host, ds::dyn, ds::dyn, ds::dyn> heads_of(sheet<T>& s, const problem& p) {
  const auto m = s.matrix();
  const auto d = static_cast<ds::index_t>(p.d);
  return {m.data(),
          {m.extent(0), static_cast<ds::index_t>(p.heads), d},
          {m.stride(0), d * m.stride(1), m.stride(1)}};
}

template <class T>
struct arrays {
  sheet<T> q, k, w;
  problem p;

  arrays(const problem& given, const oracle::attention_inputs& x)
      : q(given.n, given.heads * given.d, given.how, x.q),
        k(given.m, given.d, given.how, x.k),
        w(given.n, given.heads, given.how, x.v),
        p(given) {}
  auto inputs() { return ds::indexer_inputs{heads_of(q, p), k.matrix(), w.matrix()}; }
  bool unchanged() const { return q.unchanged() && k.unchanged() && w.unchanged(); }
};

template <class P>
ds::attention_spec<P> spec_of(const problem& p, const P& pattern = {}) {
  return {.pattern = pattern, .scale = p.scale};
}

// The oracle's numbers at visible pairs; what is hidden is compared apart.
inline void expect_scores(const std::string& text, support::limits allowed,
                          const oracle::indexer_result& want, const reals& got, std::size_t row) {
  reals r, y, size;
  bool hidden = true;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const bool inside = !std::isinf(want.scores[i]);
    hidden = hidden && (inside || got[i] == want.scores[i]);
    r.push_back(inside ? want.scores[i] : 0);
    y.push_back(inside ? got[i] : 0);
    size.push_back(want.magnitude[i]);
  }
  judge("lightning_indexer", text, allowed, r, y, row, size);
  support::expect_true("lightning_indexer", "hidden " + text, hidden, "a hidden pair has a score");
}

}  // namespace indexer_test
