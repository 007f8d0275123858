// SPDX-License-Identifier: Apache-2.0
// Every `new` of this program, and the posix_memalign of tensors and arenas (core/space.hpp; the
// linker is told --wrap, so that no shared library gets these), gives memory that host and device
// both see; so are the data of the program, and the stack that main runs on. Blocks of powers
// of two from slabs of 64 MiB; freed blocks are kept for the next of their size. Without a device
// the program ends as skipped (77) before its first test, with the line of run_op (docs/run_op.md).
// It ends before what was there before the runtime is destroyed: at its end the runtime may take
// managed memory away.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <new>

#include <cuda_runtime.h>
#include <link.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

extern "C" {
int __real_main(int argc, char** argv);
int __real_posix_memalign(void** p, std::size_t alignment, std::size_t bytes);
void __real_free(void* p);
}

namespace simulation {

// What the driver gave, only ever added to: `free` asks without a lock, for the runtime calls it
// too.
class driver_memory {
 public:
  static void add(const char* p, std::size_t bytes) {
    const int i = count.load(std::memory_order_relaxed);
    if (i == most) throw std::bad_alloc();
    ranges[i] = {p, p + bytes};
    count.store(i + 1, std::memory_order_release);
  }
  static bool owns(const void* p) {
    const auto* const at = static_cast<const char*>(p);
    return std::any_of(ranges, ranges + count.load(std::memory_order_acquire),
                       [at](const range& r) { return at >= r.first && at < r.last; });
  }

 private:
  struct range {
    const char *first, *last;
  };
  static constexpr int most = 8192;
  static inline range ranges[most];
  static inline std::atomic<int> count;
};

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
    if (!device_) return std::aligned_alloc(64, block_bytes(size));  // plain, with a header
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
    if (!device_) return __real_free(p);
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
    // Handlers run from the last to the first, so those of the runtime have run when this does.
    (void)on_exit(
        [](int status, void*) {
          std::fflush(nullptr);
          std::_Exit(status);
        },
        nullptr);
    int count = 0;
    device_ = cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
  }
  static int size_of_block(std::size_t bytes) {
    int size = 0;
    while (block_bytes(size) < bytes) ++size;
    return size;
  }
  static std::size_t block_bytes(int size) { return std::size_t{64} << size; }
  void* from_driver(std::size_t bytes) {
    void* p = nullptr;
    if (cudaMallocManaged(&p, bytes) != cudaSuccess) throw std::bad_alloc();
    driver_memory::add(static_cast<char*>(p), bytes);
    return p;
  }
  std::mutex guard_;
  stack freed_[48];
  char* next_ = nullptr;
  std::size_t left_ = 0;
  bool device_ = false;
};

// Before what a caller gets: its block.
struct alignas(64) block_header {
  void* block;
  std::size_t bytes;
};
inline void* managed_new(std::size_t bytes, std::size_t alignment = 64) {
  alignment = std::max<std::size_t>(alignment, 64);
  const std::size_t all = bytes + sizeof(block_header) + alignment - 64;
  void* const block = managed_memory::shared().allocate(all);
  const auto begin = reinterpret_cast<std::uintptr_t>(block) + sizeof(block_header);
  auto* const p = reinterpret_cast<char*>((begin + alignment - 1) / alignment * alignment);
  *reinterpret_cast<block_header*>(p - sizeof(block_header)) = {block, all};
  return p;
}
inline void managed_delete(void* p) noexcept {
  if (p == nullptr) return;
  const auto at = *reinterpret_cast<block_header*>(static_cast<char*>(p) - sizeof(block_header));
  managed_memory::shared().deallocate(at.block, at.bytes);
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

// Constants and variables of the program, pinned where they stand: its pages are made its own by
// writing to them.
inline void show_own_data() {
  dl_iterate_phdr(
      [](dl_phdr_info* program, std::size_t, void*) {
        const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
        for (int i = 0; i < program->dlpi_phnum; ++i) {
          const auto& part = program->dlpi_phdr[i];
          if (part.p_type != PT_LOAD || (part.p_flags & PF_X) != 0) continue;
          const auto begin = (program->dlpi_addr + part.p_vaddr) / page * page;
          const auto end =
              (program->dlpi_addr + part.p_vaddr + part.p_memsz + page - 1) / page * page;
          auto* const first = reinterpret_cast<char*>(begin);
          if (mprotect(first, end - begin, PROT_READ | PROT_WRITE) != 0) continue;
          for (volatile char* p = first; p < first + (end - begin); p += page) *p = *p;
          if (cudaHostRegister(first, end - begin, cudaHostRegisterDefault) != cudaSuccess) {
            (void)cudaGetLastError();
            std::fputs("managed memory: a device does not see the program's data\n", stderr);
          }
        }
        return 1;  // the program itself comes first
      },
      nullptr);
}

}  // namespace simulation

extern "C" {
int __wrap_posix_memalign(void** p, std::size_t alignment, std::size_t bytes) {
  if (!simulation::managed_memory::shared().has_device()) {
    return __real_posix_memalign(p, alignment, bytes);
  }
  try {
    *p = simulation::managed_new(bytes, alignment);
  } catch (const std::bad_alloc&) {
    return ENOMEM;
  }
  return 0;
}
// Pinned, not managed: the host writes to its stack while kernels run.
int __wrap_main(int argc, char** argv) {
  constexpr std::size_t bytes = std::size_t{16} << 20;
  struct call {
    int argc;
    char** argv;
    int status;
  } mine{argc, argv, 1};
  simulation::show_own_data();
  void* stack = nullptr;
  pthread_attr_t how;
  pthread_t thread;
  if (cudaHostAlloc(&stack, bytes, cudaHostAllocPortable | cudaHostAllocMapped) != cudaSuccess ||
      pthread_attr_init(&how) != 0 || pthread_attr_setstack(&how, stack, bytes) != 0 ||
      pthread_create(
          &thread, &how,
          [](void* with) -> void* {
            auto& me = *static_cast<call*>(with);
            me.status = __real_main(me.argc, me.argv);
            return nullptr;
          },
          &mine) != 0) {
    std::fputs("managed memory: no stack that the device sees\n", stderr);
    return 1;
  }
  (void)pthread_join(thread, nullptr);
  return mine.status;
}
void __wrap_free(void* p) {
  simulation::driver_memory::owns(p) ? simulation::managed_delete(p) : __real_free(p);
}
}

void* operator new(std::size_t bytes) {
  return simulation::managed_new(bytes);
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return simulation::managed_new(bytes, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return simulation::managed_new(bytes, static_cast<std::size_t>(alignment));
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
