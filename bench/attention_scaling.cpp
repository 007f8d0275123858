// SPDX-License-Identifier: Apache-2.0
// Time of attention against the length of the sequence: linear where every query sees a bounded
// number of keys, quadratic where it sees all before it. Unions are in attention_union_scaling.cpp,
// the papers' other patterns in attention_sparse_scaling.cpp.
#include "attention_scaling.hpp"

namespace bench {

void add_cases() {
  add_scaling<dense_pattern>("causal");
  add_scaling<local_pattern>("local");
  add_scaling<block_pattern>("block");
  add_scaling<random_pattern>("random");
}

}  // namespace bench
