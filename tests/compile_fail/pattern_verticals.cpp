// expects: deepseek::fixed: the verticals of all heads do not fit into a block
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/pattern/fixed.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
using seen = ds::fixed<8, 2, 4>;
#else
using seen = ds::fixed<8, 3, 4>;
#endif

bool first_is_seen() {
  return ds::make_pattern<seen>({}).visible(0, 0);
}
