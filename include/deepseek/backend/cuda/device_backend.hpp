// SPDX-License-Identifier: Apache-2.0
// A backend that runs kernels (block.hpp): the cuda context, and the simulated device of the tests.
// The ops of this room are written over it and include nothing of CUDA, so that any C++20 compiler
// reads them. It offers
//   b.launch(kernel)            runs kernel.blocks() blocks of it, after all that was launched
//                               before
//   b.library_product(product)  a matrix product by the vendor's library; false: take our kernel
//   b.library_offers(product)   whether it would take that one, where preparing it costs
//   b.sum_before(call), b.sort(call)  sums and sorts of a whole array (device_calls.hpp)
//   b.read(pointer)             one number on the host, after all that was launched (waits: not in
//                               what a decode step calls)
//   b.faults()                  where kernels say what is wrong with their data (faults.hpp)
//   b.deterministic()           what cannot promise equal bits refuses then
#pragma once

#include "deepseek/backend/cuda/block.hpp"
#include "deepseek/backend/cuda/device_calls.hpp"
#include "deepseek/backend/cuda/faults.hpp"

namespace deepseek {

template <class B>
concept DeviceBackend = RunsKernels<B>;

template <class Kernel>
std::size_t shared_bytes_of(const Kernel& kernel) {
  if constexpr (requires { kernel.shared_bytes(); }) {
    return kernel.shared_bytes();
  } else {
    return 0;
  }
}

constexpr index_t blocks_of(index_t n, index_t each) {
  return (n + each - 1) / each;
}

}  // namespace deepseek
