// SPDX-License-Identifier: Apache-2.0
// Rows of keys that stand in pages of memory of their own, so that a test can close some: reading
// one of those, even without using it, is SIGSEGV.
#pragma once

#include "deepseek/core/error.hpp"
#include "deepseek/core/view.hpp"

#include <cstring>

#include <sys/mman.h>
#include <unistd.h>

namespace simulation {

template <class T>
class fenced_rows {
 public:
  fenced_rows(deepseek::index_t count, deepseek::index_t width)
      : page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))),
        bytes_(page_ * static_cast<std::size_t>(count)) {
    void* const at =
        mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    deepseek::require(at != MAP_FAILED && static_cast<std::size_t>(width) * sizeof(T) <= page_,
                      deepseek::error_code::out_of_memory, "simulation: ", count, " fenced rows");
    data_ = static_cast<T*>(at);
  }
  fenced_rows(const fenced_rows&) = delete;
  fenced_rows& operator=(const fenced_rows&) = delete;
  ~fenced_rows() { (void)munmap(data_, bytes_); }

  T* row(deepseek::index_t i) const { return data_ + i * stride(); }
  void close() const { (void)mprotect(data_, bytes_, PROT_NONE); }
  void open(deepseek::index_t i) const { (void)mprotect(row(i), page_, PROT_READ); }
  // [count, heads, width]
  deepseek::view<const T, deepseek::host, deepseek::dyn, deepseek::dyn, deepseek::dyn> rows(
      deepseek::index_t count, deepseek::index_t width, deepseek::index_t heads = 1) const {
    return {data_, {count, heads, width}, {stride(), heads == 1 ? stride() : width, 1}};
  }

 private:
  deepseek::index_t stride() const { return static_cast<deepseek::index_t>(page_ / sizeof(T)); }

  T* data_;
  std::size_t page_, bytes_;
};

}  // namespace simulation
