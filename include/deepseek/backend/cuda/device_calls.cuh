// SPDX-License-Identifier: Apache-2.0
// device_calls.hpp by CUB, on a stream; what CUB needs for itself is memory of the workspace.
#pragma once

#include "deepseek/backend/cuda/device_calls.hpp"
#include "deepseek/backend/cuda/error.cuh"
#include "deepseek/core/arena.hpp"

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>

namespace deepseek {

// f(memory, bytes): asks for the bytes where memory is null, else runs.
template <class Space, class F>
cudaError_t with_workspace(arena<Space>& workspace, const F& f) {
  std::size_t bytes = 0;
  const cudaError_t asked = f(nullptr, bytes);
  if (asked != cudaSuccess) return asked;
  const scope freed(workspace);
  const index_t size = bytes > 0 ? static_cast<index_t>(bytes) : 1;
  return f(workspace.template make<std::byte, dyn>(size).data(), bytes);
}

template <class Space>
cudaError_t run_call(const sums_before& c, arena<Space>& workspace, cudaStream_t stream) {
  return with_workspace(workspace, [&](void* memory, std::size_t& bytes) {
    return cub::DeviceScan::ExclusiveSum(memory, bytes, c.numbers, c.numbers, c.n, stream);
  });
}
template <class Space>
cudaError_t run_call(const sorted_pairs& c, arena<Space>& workspace, cudaStream_t stream) {
  return with_workspace(workspace, [&](void* memory, std::size_t& bytes) {
    return cub::DeviceRadixSort::SortPairs(memory, bytes, c.keys, c.to_keys, c.values, c.to_values,
                                           c.n, 0, c.bits > 0 ? c.bits : 1, stream);
  });
}

}  // namespace deepseek
