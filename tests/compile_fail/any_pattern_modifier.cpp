// expects: deepseek::any_pattern: the pattern changes scores
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/pattern/any_pattern.hpp>
#include <deepseek/pattern/band.hpp>
#include <deepseek/pattern/soft_cap.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
using held = ds::causal;
using seen = ds::scored<ds::any_pattern, ds::soft_cap<50>>;
#else
using held = ds::scored<ds::causal, ds::soft_cap<50>>;
using seen = ds::any_pattern;
#endif

bool first_is_seen() {
#ifdef DEEPSEEK_POSITIVE
  return seen(ds::any_pattern(held{}), {}).visible(0, 0);
#else
  return seen(held{}).visible(0, 0);
#endif
}
