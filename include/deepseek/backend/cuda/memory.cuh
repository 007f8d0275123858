// SPDX-License-Identifier: Apache-2.0
// Device memory: allocated and cleared on the default stream of the current device, from a pool
// (memory_pool.cuh), which the contexts' streams wait for, and freed on that of its own device. At
// most `limit` bytes at a time
// (cuda_config.memory_limit); more is out_of_memory with the numbers, and nothing is lost.
#pragma once

#include "deepseek/backend/cuda/memory_pool.cuh"
#include "deepseek/core/space.hpp"

#include <atomic>
#include <limits>
#include <mutex>
#include <unordered_map>

namespace deepseek {

class device_memory_account {
 public:
  static device_memory_account& shared() {
    static device_memory_account one;
    return one;
  }
  void set_limit(std::size_t bytes) { limit_ = bytes; }
  std::size_t used() const { return used_; }

  void add(std::size_t bytes) {
    const std::size_t before = used_.fetch_add(bytes);
    if (before + bytes <= limit_) return;
    used_.fetch_sub(bytes);
    fail(error_code::out_of_memory, "cuda: ", bytes, " bytes beside ", before,
         " in use pass the limit of ", limit_.load(),
         "; use a smaller model or batch, or raise cuda_config.memory_limit");
  }
  void give_back(std::size_t bytes) { used_.fetch_sub(bytes); }
  struct block {
    std::size_t bytes = 0;
    int device = 0;
  };
  void remember(void* p, const block& what) {
    const std::lock_guard lock(guard_);
    blocks_[p] = what;
  }
  block forget(void* p) {
    const std::lock_guard lock(guard_);
    const auto at = blocks_.find(p);
    const block found = at == blocks_.end() ? block{} : at->second;
    if (at != blocks_.end()) blocks_.erase(at);
    return found;
  }

 private:
  std::atomic<std::size_t> used_{0}, limit_{std::numeric_limits<std::size_t>::max()};
  std::mutex guard_;
  std::unordered_map<void*, block> blocks_;
};

// The current device is another one meanwhile: what is queued on a default stream is of the current
// device. At the end of a program the driver may be gone: no error.
class other_device {
 public:
  explicit other_device(int device) noexcept {
    changed_ = cudaGetDevice(&before_) == cudaSuccess && before_ != device &&
               cudaSetDevice(device) == cudaSuccess;
  }
  other_device(const other_device&) = delete;
  other_device& operator=(const other_device&) = delete;
  ~other_device() {
    if (changed_) (void)cudaSetDevice(before_);
  }

 private:
  int before_ = 0;
  bool changed_ = false;
};

template <>
struct memory<device> {
  static constexpr std::size_t alignment = 256;

  static void* allocate(std::size_t bytes) {
    auto& account = device_memory_account::shared();
    account.add(bytes);
    void* p = nullptr;
    int device = 0;
    cudaError_t status = cudaGetDevice(&device);
    if (status == cudaSuccess) status = device_memory_pools::shared().allocate(&p, bytes, device);
    if (status != cudaSuccess) account.give_back(bytes);
    require_cuda(status, "allocating " + std::to_string(bytes) + " bytes");
    account.remember(p, {bytes, device});
    return p;
  }
  static void deallocate(void* p) noexcept {
    auto& account = device_memory_account::shared();
    const device_memory_account::block block = account.forget(p);
    account.give_back(block.bytes);
    const other_device its_own(block.device);
    (void)cudaFreeAsync(p, nullptr);
  }
  static void zero(void* p, std::size_t bytes) {
    if (bytes > 0) require_cuda(cudaMemsetAsync(p, 0, bytes, nullptr), "clearing memory");
  }
  static void copy(void* to, const void* from, std::size_t bytes) {
    move(to, from, bytes, cudaMemcpyDeviceToDevice);
  }
  // Between the host and here; both wait until the bytes are there.
  static void copy_in(void* to, const void* from_host, std::size_t bytes) {
    move(to, from_host, bytes, cudaMemcpyHostToDevice);
  }
  static void copy_out(void* to_host, const void* from, std::size_t bytes) {
    move(to_host, from, bytes, cudaMemcpyDeviceToHost);
  }

 private:
  static void move(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    if (bytes == 0) return;
    require_cuda(cudaMemcpyAsync(to, from, bytes, kind, nullptr), "copying memory");
    if (kind != cudaMemcpyDeviceToDevice) {
      require_cuda(cudaStreamSynchronize(nullptr), "copying memory");
    }
  }
};

}  // namespace deepseek
