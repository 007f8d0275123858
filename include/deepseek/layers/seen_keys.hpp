// SPDX-License-Identifier: Apache-2.0
// What attention layers share of the call: the spec of ops/attention.hpp for the rows of this call,
// whose keys are those of the call or of the cache up to its end.
#pragma once

#include "deepseek/core/call.hpp"
#include "deepseek/ops/attention.hpp"

namespace deepseek {

template <class Pattern, class Call>
auto seen_keys(const Call& c, double scale, index_t queries) {
  const auto seen = make_pattern<Pattern>(pattern_key{c.options.seed, c.site});
  return attention_spec<std::remove_const_t<decltype(seen)>>{
      seen,
      scale,
      c.options.sequences,
      c.options.sequences,
      c.options.start,
      c.options.pages,
      c.options.pages.size == 0 ? 0 : c.options.start + queries};
}

}  // namespace deepseek
