// SPDX-License-Identifier: Apache-2.0
// What attention layers share of the call: the spec of ops/attention.hpp for the rows of this call,
// whose keys are those of the call or of the cache up to its end.
#pragma once

#include "deepseek/core/call.hpp"
#include "deepseek/ops/attention.hpp"

namespace deepseek {

// The pattern of a layer whose composite lends it: call.with<lent_pattern>(value).
struct lent_pattern {};

template <class Pattern, class Call>
auto pattern_of(const Call& c) {
  if constexpr (std::is_same_v<Pattern, lent_pattern>) {
    return c.template get<lent_pattern>();
  } else {
    return make_pattern<Pattern>(pattern_key{c.options.seed, c.site});
  }
}

// queries: of this call; 0 for layers whose cache never stands in pages.
template <class Pattern, class Call>
auto seen_keys(const Call& c, double scale, index_t queries = 0) {
  const auto seen = pattern_of<Pattern>(c);
  return attention_spec<std::remove_const_t<decltype(seen)>, typename Call::space>{
      seen,
      scale,
      c.options.sequences,
      c.options.sequences,
      c.options.moving.moves() ? 0 : c.options.start,
      c.options.pages,
      c.options.pages.size == 0 ? 0 : c.options.start + queries,
      c.options.moving.at};
}

}  // namespace deepseek
