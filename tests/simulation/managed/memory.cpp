// SPDX-License-Identifier: Apache-2.0
// Every `new` of this program gives memory that host and device both see. Blocks of powers of two
// from slabs of 64 MiB; freed blocks are kept for the next of their size. Without a device the
// program ends as skipped (77) before its first test, with the line of run_op (docs/run_op.md).
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <new>

#include <cuda_runtime.h>

namespace simulation {

class managed_memory {
 public:
  static managed_memory& shared() {
    // Never destroyed: what is freed at the end of the program comes here too.
    static managed_memory* const one = new (std::malloc(sizeof(managed_memory))) managed_memory;
    return *one;
  }
  void* allocate(std::size_t bytes) {
    const std::lock_guard lock(guard_);
    const int size = size_of_block(bytes);
    if (!device_) return std::aligned_alloc(64, block_bytes(size));
    stack& freed = freed_[size];
    if (freed.count > 0) return freed.blocks[--freed.count];
    if (block_bytes(size) > slab) return from_driver(block_bytes(size));
    if (block_bytes(size) > left_) {
      next_ = static_cast<char*>(from_driver(slab));
      left_ = slab;
    }
    char* const p = next_;
    next_ += block_bytes(size);
    left_ -= block_bytes(size);
    return p;
  }
  void deallocate(void* p, std::size_t bytes) {
    const std::lock_guard lock(guard_);
    if (!device_) return std::free(p);
    stack& freed = freed_[size_of_block(bytes)];
    if (freed.count == freed.room) {
      freed.room = std::max<std::size_t>(64, freed.room * 2);
      freed.blocks = static_cast<void**>(std::realloc(freed.blocks, freed.room * sizeof(void*)));
    }
    freed.blocks[freed.count++] = p;
  }
  bool has_device() const { return device_; }

 private:
  struct stack {
    void** blocks = nullptr;
    std::size_t count = 0, room = 0;
  };
  static constexpr std::size_t slab = std::size_t{64} << 20;

  managed_memory() {
    int count = 0;
    device_ = cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
  }
  static int size_of_block(std::size_t bytes) {
    int size = 0;
    while (block_bytes(size) < bytes) ++size;
    return size;
  }
  static std::size_t block_bytes(int size) { return std::size_t{64} << size; }
  static void* from_driver(std::size_t bytes) {
    void* p = nullptr;
    if (cudaMallocManaged(&p, bytes) != cudaSuccess) throw std::bad_alloc();
    return p;
  }
  std::mutex guard_;
  stack freed_[48];
  char* next_ = nullptr;
  std::size_t left_ = 0;
  bool device_ = false;
};

// 64 bytes before each block hold its size.
inline void* managed_new(std::size_t bytes) {
  auto* const p = static_cast<char*>(managed_memory::shared().allocate(bytes + 64));
  *reinterpret_cast<std::size_t*>(p) = bytes + 64;
  return p + 64;
}
inline void managed_delete(void* p) noexcept {
  if (p == nullptr) return;
  auto* const block = static_cast<char*>(p) - 64;
  managed_memory::shared().deallocate(block, *reinterpret_cast<std::size_t*>(block));
}

inline const bool device_is_there = [] {
  if (!managed_memory::shared().has_device()) {
    std::puts("skipped: no CUDA device (or no driver for one)");
    std::fflush(stdout);
    std::fputs("{\"error\": \"device\", \"message\": \"cuda: no device, or no driver for one\"}\n",
               stderr);
    std::_Exit(77);
  }
  return true;
}();

}  // namespace simulation

void* operator new(std::size_t bytes) {
  return simulation::managed_new(bytes);
}
void* operator new(std::size_t bytes, std::align_val_t) {
  return simulation::managed_new(bytes);
}
void* operator new(std::size_t bytes, std::align_val_t, const std::nothrow_t&) noexcept {
  return simulation::managed_new(bytes);
}
void operator delete(void* p) noexcept {
  simulation::managed_delete(p);
}
void operator delete(void* p, std::size_t) noexcept {
  simulation::managed_delete(p);
}
void operator delete(void* p, std::align_val_t) noexcept {
  simulation::managed_delete(p);
}
void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  simulation::managed_delete(p);
}
