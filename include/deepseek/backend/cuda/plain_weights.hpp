// SPDX-License-Identifier: Apache-2.0
// Plain numbers as forms of coded_weights.hpp, for w [E, K, N] whose rows or columns are whole
// packets of 16 bytes:
//   plain_rows     neighbours along k lie next to each other: weights as layers store them
//   plain_columns  neighbours along n do: the same weights in the product that makes dx; tensor
//                  cores alone read it (tensor_packets.hpp)
#pragma once

#include "deepseek/backend/cuda/coded_weights.hpp"
#include "deepseek/core/view.hpp"

namespace deepseek {

namespace cuda_coded {

template <class T>
struct plain_rows : plain_slabs {
  static constexpr int columns = 1, steps = static_cast<int>(packet_bytes / sizeof(T));
  static constexpr bool single_rows = false;  // that kernel would spill registers
  const T* data;
  index_t out, in, expert_step, row_step;

  struct group_of {};
  DEEPSEEK_HOST_DEVICE const T* at(index_t e, index_t n, index_t k) const {
    return data + e * expert_step + n * row_step + k;
  }
  DEEPSEEK_HOST_DEVICE packet load(index_t e, index_t n, index_t k) const {
    return load_packet(at(e, n, k), true);
  }
  DEEPSEEK_HOST_DEVICE static group_of group(index_t, index_t, index_t) { return {}; }
  template <class A>
  DEEPSEEK_HOST_DEVICE static void decode(const packet& p, const group_of&,
                                          A (&values)[columns][steps]) {
    T some[steps];
    __builtin_memcpy(static_cast<void*>(some), &p, sizeof p);
    for (int i = 0; i < steps; ++i) values[0][i] = static_cast<A>(some[i]);
  }
};

template <class T>
struct plain_columns {
  const T* data;
  index_t out, in, expert_step, row_step;
  DEEPSEEK_HOST_DEVICE const T* at(index_t e, index_t n, index_t k) const {
    return data + e * expert_step + k * row_step + n;
  }
};

// Whether matrices [E, ., .] are whole packets along extent `along`, neighbours in memory.
template <class W>
bool is_plain_along(const W& w, int along) {
  constexpr auto bytes = static_cast<index_t>(sizeof(typename W::value_type));
  return w.stride(along) == 1 && begins_at_packet(w.data()) &&
         w.extent(along) * bytes % packet_bytes == 0 && w.stride(0) * bytes % packet_bytes == 0 &&
         w.stride(3 - along) * bytes % packet_bytes == 0;
}
template <class W>
plain_rows<typename W::value_type> plain_rows_of(const W& w) {
  return {{}, w.data(), w.extent(2), w.extent(1), w.stride(0), w.stride(2)};
}
template <class W>
plain_columns<typename W::value_type> plain_columns_of(const W& w) {
  return {w.data(), w.extent(2), w.extent(1), w.stride(0), w.stride(1)};
}

}  // namespace cuda_coded

}  // namespace deepseek
