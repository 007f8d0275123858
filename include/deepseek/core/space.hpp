// SPDX-License-Identifier: Apache-2.0
// Where memory lives, as a type: mixing host and device memory is then a compile-time sentence.
// `memory<Space>` is the customization point a backend specializes for its own memory: allocate,
// deallocate, zero, copy, and, where it is not the host's, copy_in and copy_out.
#pragma once

#include "deepseek/config.hpp"
#include "deepseek/core/error.hpp"
#include "deepseek/core/huge_pages.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <stdlib.h>  // posix_memalign, free

namespace deepseek {

using index_t = std::int64_t;       // extents, strides, positions
inline constexpr index_t dyn = -1;  // an extent known only at run time

struct host {};
struct device {};
template <index_t N, class Space>
struct stacked {};  // every parameter tensor gains a leading extent N: contiguous experts

template <class Space>
struct memory;

template <>
struct memory<host> {
  static constexpr std::size_t alignment = 64;  // one cache line, one AVX-512 register

  static void* allocate(std::size_t bytes) {
    const auto [start, size] = request_for(bytes, alignment);
    void* p = nullptr;
    if (::posix_memalign(&p, start, size > 0 ? size : alignment) != 0) p = nullptr;
    require(p != nullptr, error_code::out_of_memory, "memory: ", bytes,
            " bytes of host memory are not available; use a smaller model or batch");
    advise_huge_pages(p, size);
    return p;
  }
  // Not inlined: g++ 12 at -O3 takes a pointer that a loop before it advances for p and warns.
  __attribute__((noinline)) static void deallocate(void* p) noexcept { ::free(p); }
  static void zero(void* p, std::size_t bytes) {
    if (bytes > 0) std::memset(p, 0, bytes);
  }
  static void copy(void* to, const void* from, std::size_t bytes) {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }
};

// The product of sizes that come from outside; overflow is an error, never a small buffer.
inline index_t checked_product(index_t a, index_t b) {
  index_t r = 0;
  require(!__builtin_mul_overflow(a, b, &r), error_code::overflow, "shape: ", a, " x ", b,
          " elements overflow 64 bits");
  return r;
}

}  // namespace deepseek
