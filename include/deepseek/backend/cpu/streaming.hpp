// SPDX-License-Identifier: Apache-2.0
// When the results of a row-wise op go past the caches (simd::store_narrow, streamed). An ordinary
// store reads the line first; a streamed one does not, and who reads the result next finds it in
// memory. Measured on a Zen 4 core with a last cache of 32 MiB, softmax and a read of y after it:
// streamed 26 % slower where y has 4 MiB, 5 % at 8, 22 % faster at 16, 25 % at 32, 32 % at 64 MiB.
// The limit is higher than here would do: caches are larger elsewhere.
#pragma once

#include "deepseek/backend/cpu/rows.hpp"

#include <cstddef>
#include <cstdint>

namespace deepseek {

inline constexpr std::size_t streamed_from = std::size_t{32} << 20;
inline constexpr std::size_t cached_up_to = std::size_t{8} << 20;

template <class V>
std::size_t bytes_of_all(const V& v) {
  return static_cast<std::size_t>(v.size()) * sizeof(typename V::value_type);
}

// y [rows, n] is large, and each of its rows begins where a register may be streamed to.
template <class Y>
bool worth_streaming(const Y& y) {
  constexpr std::size_t size = sizeof(typename Y::value_type);
  constexpr std::size_t line = simd::pack<lanes_of<Y>>::width * size;
  return bytes_of_all(y) >= streamed_from &&
         reinterpret_cast<std::uintptr_t>(y.data()) % line == 0 &&
         static_cast<std::size_t>(y.stride(0)) * size % line == 0;
}

// More of them than elsewhere in a task, whose first row nothing overlaps.
inline index_t streamed_rows_per_task(index_t length) {
  return std::clamp<index_t>(65536 / std::max<index_t>(length, 1), 1, 1024);
}

}  // namespace deepseek
