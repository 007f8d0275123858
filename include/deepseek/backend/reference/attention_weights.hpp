// SPDX-License-Identifier: Apache-2.0
// attention_weights on the reference backend: plain loops over visible pairs; see
// ops/attention_weights.hpp.
#pragma once

#include "deepseek/backend/reference/attention.hpp"
#include "deepseek/ops/attention_weights.hpp"

namespace deepseek {

template <class In, class P, class Spec>
void attention_weights_impl(const reference&, const In& in, const P& p, const Spec& spec) {
  using T = typename P::value_type;
  using A = accumulate_t<T>;
  const index_t heads = in.q.extent(1), group = heads / in.k.extent(1);
  for (index_t i = 0; i < p.extent(0); ++i) {
    for (index_t j = 0; j < p.extent(1); ++j) p(i, j) = static_cast<T>(A(0));
  }
  for (index_t s = 0; s < sequence_count(spec); ++s) {
    const auto range = sequence_range(spec, s, in.q.extent(0), in.k.extent(0));
    for (index_t i = 0; i < range.queries; ++i) {
      const index_t row = range.query + i;
      const auto pattern = bind_pattern(spec.pattern, scope_of(range, 0));
      for_visible_keys(pattern, range.start + i, range.keys, [&](index_t j) {
        A sum = 0;
        for (index_t h = 0; h < heads; ++h) {
          const A lse = static_cast<A>(in.lse(row, h));
          if (lse == -std::numeric_limits<A>::infinity()) continue;
          A dot = 0;
          for (index_t d = 0; d < in.q.extent(2); ++d) {
            dot +=
                static_cast<A>(in.q(row, h, d)) * static_cast<A>(in.k(range.key + j, h / group, d));
          }
          sum += std::exp(dot * static_cast<A>(spec.scale) - lse);
        }
        p(row, j) = static_cast<T>(sum / static_cast<A>(heads));
      });
    }
  }
}

}  // namespace deepseek
