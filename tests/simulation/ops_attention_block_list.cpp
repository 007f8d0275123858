// SPDX-License-Identifier: Apache-2.0
// The tests of this op on the device: as_cpu.hpp.
#include "ops/attention_block_list.cpp"
