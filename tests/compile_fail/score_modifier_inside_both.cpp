// expects: deepseek::both: a part changes scores
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/pattern/alibi.hpp>
#include <deepseek/pattern/band.hpp>
#include <deepseek/pattern/combine.hpp>

namespace ds = deepseek;

#ifdef DEEPSEEK_POSITIVE
using seen = ds::scored<ds::both<ds::causal, ds::local<4>>, ds::alibi<8>>;
#else
using seen = ds::both<ds::causal, ds::scored<ds::local<4>, ds::alibi<8>>>;
#endif

bool first_is_seen() {
  return ds::make_pattern<seen>({}).visible(0, 0);
}
