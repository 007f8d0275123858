// SPDX-License-Identifier: Apache-2.0
// Neighbouring elements of a row moved 16 bytes at a time where they may be: load_run, store_run
// move `Count` elements that lie next to each other and begin at a multiple of 16 bytes.
// moves_whole(v): every row of the view does so, which the host asks before it takes such a kernel.
#pragma once

#include "deepseek/backend/cuda/packets.hpp"
#include "deepseek/backend/rows/row_at.hpp"

#include <cstdint>
#include <cstring>

namespace deepseek {

inline constexpr int vector_bytes = 16;

// Elements of T that are moved at once.
template <class T>
inline constexpr int vector_length = vector_bytes / static_cast<int>(sizeof(T));

// What a GPU would stop at stops the simulated device too.
inline void require_whole(const void* p) {
  if (reinterpret_cast<std::uintptr_t>(p) % vector_bytes != 0) __builtin_trap();
}

template <int Count, class T>
DEEPSEEK_HOST_DEVICE void load_run(const T* from, std::remove_const_t<T>* to) {
  static_assert(Count % vector_length<T> == 0);
#if defined(__CUDA_ARCH__)
#pragma unroll
  for (int i = 0; i < Count; i += vector_length<T>) {
    const uint4 word = *reinterpret_cast<const uint4*>(from + i);
    memcpy(to + i, &word, vector_bytes);
  }
#else
  require_whole(from);
  std::memcpy(to, from, Count * sizeof(T));
#endif
}
template <int Count, class T>
DEEPSEEK_HOST_DEVICE void store_run(const T* from, T* to) {
  static_assert(Count % vector_length<T> == 0);
#if defined(__CUDA_ARCH__)
#pragma unroll
  for (int i = 0; i < Count; i += vector_length<T>) {
    uint4 word;
    memcpy(&word, from + i, vector_bytes);
    *reinterpret_cast<uint4*>(to + i) = word;
  }
#else
  require_whole(to);
  std::memcpy(to, from, Count * sizeof(T));
#endif
}

// Rows of neighbouring elements that all begin at a multiple of 16 bytes.
template <class View>
bool moves_whole(const View& v) {
  constexpr auto bytes = static_cast<index_t>(sizeof(typename View::value_type));
  if (!begins_at_packet(v.data()) || (row_length(v) > 1 && row_stride(v) != 1)) return false;
  for (int d = 0; d + 1 < View::rank; ++d) {
    if (v.extent(d) > 1 && v.stride(d) * bytes % vector_bytes != 0) return false;
  }
  return true;
}

}  // namespace deepseek
