// SPDX-License-Identifier: Apache-2.0
// Time against length, as attention_scaling.cpp, for the unions of its patterns that look back.
// A query of the n-th block draws among n blocks: where they are few the draws meet the window and
// each other, so that the pairs of a union themselves grow faster than the length at first.
#include "attention_scaling.hpp"

namespace bench {

template <class... P>
using back = ds::both<ds::causal, ds::either<P...>>;

void add_cases() {
  add_scaling<back<local_pattern, block_pattern>>("local+block");
  add_scaling<back<local_pattern, random_pattern>>("local+random");
  add_scaling<back<block_pattern, random_pattern>>("block+random");
  add_scaling<back<local_pattern, block_pattern, random_pattern>>("union");
}

}  // namespace bench
