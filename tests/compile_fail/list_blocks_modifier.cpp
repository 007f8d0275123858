// expects: deepseek::list_blocks: the pattern changes scores
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/pattern/band.hpp>
#include <deepseek/pattern/list_blocks.hpp>
#include <deepseek/pattern/soft_cap.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
using listed = ds::causal;
#else
using listed = ds::scored<ds::causal, ds::soft_cap<50>>;
#endif

ds::index_t tiles_of() {
  return ds::list_blocks(listed{}, {.queries = 5, .keys = 5}).blocks.extent(0);
}
