// SPDX-License-Identifier: Apache-2.0
// lightning_indexer on the reference backend: plain loops over visible pairs, any types and
// strides; see ops/lightning_indexer.hpp.
#pragma once

#include "deepseek/backend/reference/attention.hpp"
#include "deepseek/backend/reference/context.hpp"
#include "deepseek/ops/lightning_indexer.hpp"

#include <algorithm>

namespace deepseek {

namespace reference_indexer {

// q[i, h] . k[j] of rows of the batch.
template <class A, class In>
A dot(const In& in, index_t i, index_t h, index_t j) {
  A sum = 0;
  for (index_t d = 0; d < in.q.extent(2); ++d) {
    sum += static_cast<A>(in.q(i, h, d)) * static_cast<A>(in.k(j, d));
  }
  return sum;
}

template <class A>
A relu(A x) {
  return x < A(0) ? A(0) : x;  // NaN stays NaN
}

// f(i, j) for the pairs of rows of one sequence that see each other, i then j ascending.
template <class Spec, class F>
void for_each_pair(const Spec& spec, const attention_range& range, F f) {
  const auto pattern = bind_pattern(spec.pattern, scope_of(range, 0));
  for (index_t i = 0; i < range.queries; ++i) {
    for_visible_keys(pattern, range.start + i, range.keys, [&](index_t j) { f(i, j); });
  }
}

}  // namespace reference_indexer

// Scores of the queries of one range, which may be a part of a sequence; row i is its i-th query.
template <class In, class Scores, class Spec>
void indexer_scores(const reference&, const In& in, const Scores& scores, const Spec& spec,
                    const attention_range& range) {
  using T = typename Scores::value_type;
  using A = accumulate_t<T>;
  for (index_t i = 0; i < scores.extent(0); ++i) {
    for (index_t j = 0; j < scores.extent(1); ++j) {
      scores(i, j) = static_cast<T>(-std::numeric_limits<A>::infinity());
    }
  }
  reference_indexer::for_each_pair(spec, range, [&](index_t i, index_t j) {
    A sum = 0;
    for (index_t h = 0; h < in.q.extent(1); ++h) {
      const A r = reference_indexer::dot<A>(in, range.query + i, h, range.key + j);
      sum += static_cast<A>(in.w(range.query + i, h)) * reference_indexer::relu(r);
    }
    scores(i, j) = static_cast<T>(sum * static_cast<A>(spec.scale));
  });
}

template <class B, class In, class Scores, class Spec>
requires std::is_base_of_v<reference, B>
void lightning_indexer_impl(const B& b, const In& in, const Scores& scores, const Spec& spec) {
  for (index_t s = 0; s < sequence_count(spec); ++s) {
    const auto range = sequence_range(spec, s, in.q.extent(0), in.k.extent(0));
    indexer_scores(b, in, rows(scores, range.query, range.queries), spec, range);
  }
}

template <class In, class DS, class G, class Spec>
void lightning_indexer_backward_impl(const reference& b, const In& in, const DS& dscores,
                                     const G& g, const Spec& spec) {
  using T = typename decltype(g.dq)::value_type;
  using A = accumulate_t<T>;
  const index_t heads = in.q.extent(1), width = in.q.extent(2);
  const scope freed(b.workspace());
  const auto dq = b.workspace().template make<A, dyn, dyn, dyn>(in.q.extent(0), heads, width);
  const auto dk = b.workspace().template make<A, dyn, dyn>(in.k.extent(0), width);
  const auto dw = b.workspace().template make<A, dyn, dyn>(in.q.extent(0), heads);
  std::fill_n(dq.data(), dq.size(), A(0));
  std::fill_n(dk.data(), dk.size(), A(0));
  std::fill_n(dw.data(), dw.size(), A(0));
  const A scale = static_cast<A>(spec.scale);
  for (index_t s = 0; s < sequence_count(spec); ++s) {
    const auto range = sequence_range(spec, s, in.q.extent(0), in.k.extent(0));
    reference_indexer::for_each_pair(spec, range, [&](index_t i, index_t j) {
      const index_t query = range.query + i, key = range.key + j;
      const A given = static_cast<A>(dscores(query, j)) * scale;
      for (index_t h = 0; h < heads; ++h) {
        const A r = reference_indexer::dot<A>(in, query, h, key);
        dw(query, h) += given * reference_indexer::relu(r);
        if (!(r > A(0))) continue;
        const A dr = given * static_cast<A>(in.w(query, h));
        for (index_t d = 0; d < width; ++d) {
          dq(query, h, d) += dr * static_cast<A>(in.k(key, d));
          dk(key, d) += dr * static_cast<A>(in.q(query, h, d));
        }
      }
    });
  }
  for (index_t i = 0; i < in.q.extent(0); ++i) {
    for (index_t h = 0; h < heads; ++h) {
      g.dw(i, h) = static_cast<typename decltype(g.dw)::value_type>(dw(i, h));
      for (index_t d = 0; d < width; ++d) g.dq(i, h, d) = static_cast<T>(dq(i, h, d));
    }
  }
  for (index_t j = 0; j < in.k.extent(0); ++j) {
    for (index_t d = 0; d < width; ++d) {
      g.dk(j, d) = static_cast<typename decltype(g.dk)::value_type>(dk(j, d));
    }
  }
}

}  // namespace deepseek
