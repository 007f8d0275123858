// SPDX-License-Identifier: Apache-2.0
// Packets: 16 bytes that a thread reads at once. load_packet: from memory aligned to 16 bytes, or
// word by word; load_bytes: from any bytes, of which `left` exist. load_elements: neighbours of a
// row, as numbers. unrolled<N>(f): f(0) .. f(N - 1) without a loop, for arrays in registers.
#pragma once

#include "deepseek/core/dtype.hpp"
#include "deepseek/core/space.hpp"

#include <utility>

namespace deepseek {

inline constexpr index_t packet_bytes = 16;

struct alignas(16) packet {
  std::uint32_t word[4];
};

inline bool begins_at_packet(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % packet_bytes == 0;
}

namespace detail {
template <class F, int... I>
DEEPSEEK_HOST_DEVICE constexpr void call_each(const F& f, std::integer_sequence<int, I...>) {
  (f(I), ...);
}
}  // namespace detail
template <int N, class F>
DEEPSEEK_HOST_DEVICE constexpr void unrolled(const F& f) {
  detail::call_each(f, std::make_integer_sequence<int, N>{});
}

// Elements of 4 bytes or, aligned, of any size.
template <class T>
DEEPSEEK_HOST_DEVICE packet load_packet(const T* from, bool aligned) {
  packet p;
  if (aligned) {
    __builtin_memcpy(&p, __builtin_assume_aligned(from, packet_bytes), sizeof p);
  } else {
    constexpr int each = static_cast<int>(sizeof(std::uint32_t) / sizeof(T));
    for (int i = 0; i < 4; ++i) __builtin_memcpy(&p.word[i], from + i * each, sizeof p.word[i]);
  }
  return p;
}
DEEPSEEK_HOST_DEVICE inline void store_packet(const packet& p, void* to) {  // aligned
  __builtin_memcpy(__builtin_assume_aligned(to, packet_bytes), &p, sizeof p);
}
DEEPSEEK_HOST_DEVICE inline packet load_bytes(const std::uint8_t* from, index_t left) {
  packet p{};
  for (int i = 0; i < packet_bytes; ++i) {
    if (i < left) p.word[i / 4] |= std::uint32_t{from[i]} << (8 * (i % 4));
  }
  return p;
}

// Count elements from `from` on, which is aligned to 16 bytes or to all of them.
template <int Count, class T, class A>
DEEPSEEK_HOST_DEVICE void load_elements(const T* from, A (&to)[Count]) {
  constexpr std::size_t bytes = Count * sizeof(T), at_once = bytes < 16 ? bytes : 16;
  constexpr int each = static_cast<int>(at_once / sizeof(T));
  for (int i = 0; i < Count; i += each) {
    T some[each];
    __builtin_memcpy(some, __builtin_assume_aligned(from + i, at_once), at_once);
    for (int j = 0; j < each; ++j) to[i + j] = static_cast<A>(some[j]);
  }
}

}  // namespace deepseek
