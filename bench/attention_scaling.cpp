// SPDX-License-Identifier: Apache-2.0
// Time of attention against the length of the sequence: linear where every query sees a bounded
// number of keys, quadratic where it sees all before it. The papers' other patterns are in
// attention_sparse_scaling.cpp.
#include "attention_scaling.hpp"

namespace bench {

using union_pattern =
    ds::both<ds::causal, ds::either<local_pattern, block_pattern, random_pattern>>;

void add_cases() {
  add_scaling<dense_pattern>("causal");
  add_scaling<local_pattern>("local");
  add_scaling<block_pattern>("block");
  add_scaling<random_pattern>("random");
  add_scaling<union_pattern>("union");
}

}  // namespace bench
