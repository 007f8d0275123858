// SPDX-License-Identifier: Apache-2.0
// Stream-ordered pools of this process's own, one for each device. The default pool gives what is
// free back to the driver at every synchronize (its release threshold is 0), so that the next
// allocation has to ask for it again; and its settings belong to all libraries of the process.
// Here a pool keeps what is free while a context of its device lives: up to the memory limit, or
// all where there is none. With the last context it goes back; so it does, once, where the device
// has nothing left to give.
#pragma once

#include "deepseek/backend/cuda/error.cuh"

#include <cstdint>
#include <limits>
#include <map>
#include <mutex>

namespace deepseek {

class device_memory_pools {
 public:
  static device_memory_pools& shared() {
    static device_memory_pools one;
    return one;
  }

  // From the pool of this device, the current one, on its default stream.
  cudaError_t allocate(void** p, std::size_t bytes, int device) {
    pool* from = nullptr;
    cudaError_t status = find(device, from);
    if (status == cudaSuccess) status = cudaMallocFromPoolAsync(p, bytes, from->handle, nullptr);
    if (status != cudaErrorMemoryAllocation) return status;
    (void)cudaGetLastError();
    status = trim(*from);
    return status == cudaSuccess ? cudaMallocFromPoolAsync(p, bytes, from->handle, nullptr)
                                 : status;
  }
  cudaError_t trim(int device) {
    pool* one = nullptr;
    const cudaError_t status = find(device, one);
    return status == cudaSuccess ? trim(*one) : status;
  }
  // Bytes that the device's pool has from the driver: in use, or kept.
  std::size_t reserved(int device) {
    pool* one = nullptr;
    std::uint64_t bytes = 0;
    require_cuda(find(device, one), "making a memory pool", device);
    require_cuda(cudaMemPoolGetAttribute(one->handle, cudaMemPoolAttrReservedMemCurrent, &bytes),
                 "asking a memory pool", device);
    return bytes;
  }

  // The most that a pool keeps while it has contexts.
  void keep_at_most(std::size_t bytes) {
    const std::lock_guard lock(guard_);
    most_ = bytes;
    for (const auto& [device, one] : pools_) {
      require_cuda(set_threshold(one), "setting up a memory pool", device);
    }
  }
  void add_context(int device) {
    pool* one = nullptr;
    require_cuda(find(device, one), "making a memory pool", device);
    const std::lock_guard lock(guard_);
    ++one->contexts;
    const cudaError_t status = set_threshold(*one);
    if (status != cudaSuccess) --one->contexts;
    require_cuda(status, "setting up a memory pool", device);
  }
  // Of one that was added. At the end of a program the driver may be gone: no error.
  void remove_context(int device) noexcept {
    const std::lock_guard lock(guard_);
    pool& one = pools_.find(device)->second;
    if (--one.contexts > 0) return;
    (void)set_threshold(one);
    (void)trim(one);
  }

 private:
  struct pool {
    cudaMemPool_t handle = nullptr;
    int contexts = 0;
  };

  cudaError_t find(int device, pool*& one) {
    const std::lock_guard lock(guard_);
    const auto [at, is_new] = pools_.try_emplace(device);
    one = &at->second;
    if (!is_new) return cudaSuccess;
    cudaMemPoolProps what{};
    what.allocType = cudaMemAllocationTypePinned;
    what.location.type = cudaMemLocationTypeDevice;
    what.location.id = device;
    const cudaError_t status = cudaMemPoolCreate(&one->handle, &what);
    if (status != cudaSuccess) pools_.erase(at);
    return status;
  }
  cudaError_t set_threshold(const pool& one) const {
    std::uint64_t bytes = one.contexts > 0 ? most_ : 0;
    return cudaMemPoolSetAttribute(one.handle, cudaMemPoolAttrReleaseThreshold, &bytes);
  }
  // Waits for the device: a block is free when the host has seen what used it end.
  static cudaError_t trim(const pool& one) {
    const cudaError_t status = cudaStreamSynchronize(nullptr);
    return status == cudaSuccess ? cudaMemPoolTrimTo(one.handle, 0) : status;
  }

  std::mutex guard_;
  std::map<int, pool> pools_;  // stay to the end of the program: tensors may outlive all contexts
  std::uint64_t most_ = std::numeric_limits<std::uint64_t>::max();
};

// Held by a context while its device's pool keeps what is free.
class kept_memory {
 public:
  explicit kept_memory(int device) : device_(device) {
    device_memory_pools::shared().add_context(device);
  }
  kept_memory(const kept_memory&) = delete;
  kept_memory& operator=(const kept_memory&) = delete;
  ~kept_memory() { device_memory_pools::shared().remove_context(device_); }

 private:
  int device_;
};

}  // namespace deepseek
