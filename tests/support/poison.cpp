// SPDX-License-Identifier: Apache-2.0
// Canaries around a buffer, and closed pages around another.
#include "support/poison.hpp"

#include <new>

#include <sys/mman.h>
#include <unistd.h>

namespace support {
namespace {

constexpr std::size_t canary_bytes = 64;

unsigned char canary(std::size_t i) {
  return static_cast<unsigned char>(0xA5U ^ (i * 37U));
}

std::size_t page_bytes() {
  return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

canary_memory::canary_memory(std::size_t bytes, std::size_t skew)
    : memory_(bytes + 3 * canary_bytes + skew), start_(canary_bytes), bytes_(bytes) {
  const auto address = reinterpret_cast<std::uintptr_t>(memory_.data()) + canary_bytes;
  start_ += (canary_bytes - address % canary_bytes) % canary_bytes + skew;
  for (std::size_t i = 0; i < canary_bytes; ++i) {
    memory_[start_ - canary_bytes + i] = canary(i);
    memory_[start_ + bytes_ + i] = canary(i);
  }
}

bool canary_memory::intact() const {
  for (std::size_t i = 0; i < canary_bytes; ++i) {
    if (memory_[start_ - canary_bytes + i] != canary(i)) return false;
    if (memory_[start_ + bytes_ + i] != canary(i)) return false;
  }
  return true;
}

fenced_memory::fenced_memory(std::size_t bytes) {
  const std::size_t page = page_bytes();
  const std::size_t inside = (bytes + page - 1) / page * page;
  mapped_ = inside + 2 * page;
  void* map = ::mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) throw std::bad_alloc();
  map_ = static_cast<unsigned char*>(map);
  if (inside > 0 && ::mprotect(map_ + page, inside, PROT_READ | PROT_WRITE) != 0) {
    ::munmap(map_, mapped_);
    throw std::bad_alloc();
  }
  data_ = map_ + page + inside - bytes;
}

fenced_memory::~fenced_memory() {
  ::munmap(map_, mapped_);
}

}  // namespace support
