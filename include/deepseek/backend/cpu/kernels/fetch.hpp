// SPDX-License-Identifier: Apache-2.0
// How far ahead kernels ask memory for what they read once, in order.
#pragma once

#include <cstddef>

namespace deepseek::kernels {

inline constexpr std::ptrdiff_t line_bytes = 64;

// Bytes. Few rows (two by floats, four by narrower weights) wait for memory alone: near fetches
// carry the processor's own prefetching over the ends of pages, farther ones disturb it (a Zen 4
// core: 28 GB/s, and 22 at 12 KiB). With more rows so much is done with each line that it no longer
// runs ahead by itself.
constexpr std::ptrdiff_t stream_ahead(bool waits_for_memory) {
  return waits_for_memory ? 2048 : 12288;
}

}  // namespace deepseek::kernels
