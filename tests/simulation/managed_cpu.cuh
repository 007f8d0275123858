// SPDX-License-Identifier: Apache-2.0
// `ds::cpu` as the GPU, over memory that host and device both see: every allocation of the program
// is managed memory (managed/memory.cpp), and the context waits after each launch, so the tests of
// ops and layers run on the GPU unchanged.
#pragma once

#include "deepseek/backend/cuda/context.cuh"
#include "deepseek/backend/cuda/ops.hpp"
#include "deepseek/backend/reference/reference.hpp"

namespace deepseek {

struct cpu_config {
  int threads = 1;  // without meaning here
};

struct cpu : basic_cuda<host> {
  explicit cpu(cpu_config config = {}) : threads_(config.threads) {}
  int threads() const { return threads_; }

 private:
  int threads_;
};

}  // namespace deepseek
