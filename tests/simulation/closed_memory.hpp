// SPDX-License-Identifier: Apache-2.0
// Device memory of the simulated device: one region that the host may not touch. open_memory opens
// it while a kernel or a copy runs; a layer that reads device memory on the host is SIGSEGV. Blocks
// end at the end of their pages, so that one element too far is one too.
#pragma once

#include "deepseek/core/space.hpp"

#include <cstdint>
#include <map>

#include <sys/mman.h>
#include <unistd.h>

namespace simulation {

class closed_region {
 public:
  static closed_region& shared() {
    static closed_region one;
    return one;
  }
  void* allocate(std::size_t bytes) {
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t pages = (bytes + page - 1) / page * page;
    void* map = mmap(nullptr, pages + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    deepseek::require(map != MAP_FAILED, deepseek::error_code::out_of_memory, "simulation: ", bytes,
                      " bytes of device memory");
    auto* const first = static_cast<std::byte*>(map);
    // 16 bytes: what vector accesses may ask of a block; a GPU gives 256.
    std::byte* const data = first + (pages - (bytes + 15) / 16 * 16);
    blocks_[data] = {first, pages, page};
    if (open_ > 0) (void)mprotect(first, pages, PROT_READ | PROT_WRITE);
    return data;
  }
  void deallocate(void* p) {
    const auto at = blocks_.find(static_cast<std::byte*>(p));
    if (at == blocks_.end()) return;
    (void)munmap(at->second.first, at->second.bytes + at->second.fence);
    blocks_.erase(at);
  }
  // While launches are recorded nothing may be allocated or copied.
  void seal(bool sealed) { sealed_ = sealed; }
  void require_unsealed(const char* what) const {
    deepseek::require(!sealed_, deepseek::error_code::unsupported, "simulation: ", what,
                      " while launches are recorded");
  }
  void open() {
    if (open_++ == 0) protect(PROT_READ | PROT_WRITE);
  }
  void close() {
    if (--open_ == 0) protect(PROT_NONE);
  }

 private:
  struct block {
    std::byte* first;
    std::size_t bytes, fence;
  };
  void protect(int how) {
    for (const auto& [data, b] : blocks_) (void)mprotect(b.first, b.bytes, how);
  }
  std::map<std::byte*, block> blocks_;
  int open_ = 0;
  bool sealed_ = false;
};

class open_memory {
 public:
  open_memory() { closed_region::shared().open(); }
  ~open_memory() { closed_region::shared().close(); }
  open_memory(const open_memory&) = delete;
  open_memory& operator=(const open_memory&) = delete;
};

}  // namespace simulation

namespace deepseek {

template <>
struct memory<device> {
  static constexpr std::size_t alignment = 16;

  static void* allocate(std::size_t bytes) {
    simulation::closed_region::shared().require_unsealed("memory is allocated");
    return simulation::closed_region::shared().allocate(bytes);
  }
  static void deallocate(void* p) noexcept { simulation::closed_region::shared().deallocate(p); }
  static void zero(void* p, std::size_t bytes) {
    simulation::closed_region::shared().require_unsealed("memory is cleared");
    const simulation::open_memory open;
    memory<host>::zero(p, bytes);
  }
  static void copy(void* to, const void* from, std::size_t bytes) {
    simulation::closed_region::shared().require_unsealed("memory is copied");
    const simulation::open_memory open;
    memory<host>::copy(to, from, bytes);
  }
  static void copy_in(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes); }
  static void copy_out(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes); }
};

}  // namespace deepseek
