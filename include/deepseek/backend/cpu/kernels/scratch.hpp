// SPDX-License-Identifier: Apache-2.0
// Memory of the calling thread that kernels reuse from call to call: it grows to the largest
// request and is freed with the thread, so nothing is allocated after warm-up. Each Purpose has a
// block of its own; a block's contents are lost at the next request for the same purpose on the
// same thread. Aligned to 64 bytes, not initialized, large blocks in large pages.
#pragma once

#include "deepseek/core/space.hpp"

#include <memory>

namespace deepseek::kernels {

struct release_scratch {
  void operator()(std::byte* p) const noexcept { memory<host>::deallocate(p); }
};

template <class Purpose, class T>
T* scratch(std::size_t count) {
  thread_local std::unique_ptr<std::byte, release_scratch> block;
  thread_local std::size_t size = 0;
  const std::size_t needed = count * sizeof(T);
  if (needed > size) {
    block.reset();
    size = 0;
    block.reset(static_cast<std::byte*>(memory<host>::allocate(needed)));
    size = needed;
  }
  return reinterpret_cast<T*>(block.get());
}

}  // namespace deepseek::kernels
