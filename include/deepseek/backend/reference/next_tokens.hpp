// SPDX-License-Identifier: Apache-2.0
// next_tokens on the reference backend; see ops/next_tokens.hpp. The offsets are checked before
// anything is written.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/ops/next_tokens.hpp"

namespace deepseek {

template <class Ids, class Offsets, class Out>
void next_tokens_impl(const reference&, const Ids& ids, const Offsets& offsets, std::int32_t last,
                      const Out& out) {
  const index_t tokens = out.extent(0);
  if (!offsets.empty()) require_offsets(offsets, tokens, "next_tokens: offsets");
  const index_t sequences = offsets.empty() ? 1 : offsets.extent(0) - 1;
  for (index_t s = 0; s < sequences; ++s) {
    const index_t first = offsets.empty() ? 0 : offsets(s);
    const index_t end = offsets.empty() ? tokens : offsets(s + 1);
    for (index_t i = first; i + 1 < end; ++i) out(i) = ids(i + 1);
    if (end > first) out(end - 1) = last;
  }
}

}  // namespace deepseek
