// SPDX-License-Identifier: Apache-2.0
// What the machine can do at this moment: the rate of multiply-adds that touch only registers, and
// the rate at which memory is read (or read and written, for what writes much) by vectors, in
// order, on the same number of threads as the case beside which it is measured. It takes
// milliseconds.
#pragma once

#include "support/cases.hpp"

namespace bench {

struct limits {
  double flops = 0;  // per second; 0: not asked for
  double bytes = 0;
};

// Memory is swept over as many bytes as the case touches, so that the limit of what fits a cache is
// that cache's. Beyond the last cache it is that of main memory.
limits measure_limits(const work& cost, int threads);

// Four times the last level cache, at least 128 MiB: what goes through so much memory finds nothing
// of it in a cache.
double cold_bytes();

}  // namespace bench
