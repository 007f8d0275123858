// SPDX-License-Identifier: Apache-2.0
// Whether there is a device to test; where there is none the case counts as skipped.
#pragma once

#include "support/report.hpp"

#include <cuda_runtime.h>

namespace cuda_test {

inline bool has_device() {
  int count = 0;
  const bool has = cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
  (void)cudaGetLastError();
  if (!has) support::skip("no CUDA device");
  return has;
}

}  // namespace cuda_test
