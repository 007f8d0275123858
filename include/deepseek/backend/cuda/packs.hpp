// SPDX-License-Identifier: Apache-2.0
// Rows read and written 16 bytes at a time. packs_suit(views...) says on the host whether every row
// of some matrices is a whole number of aligned packs; packs_of<T> is how a kernel sees such a row.
#pragma once

#include "deepseek/core/view.hpp"

#include <cstdint>

namespace deepseek {

inline constexpr index_t pack_bytes = 16;

template <class T>
struct alignas(pack_bytes) pack {
  static constexpr int size = static_cast<int>(pack_bytes / sizeof(T));
  T at[size];
};

template <class View>
bool rows_are_packs(const View& v) {
  using T = typename View::value_type;
  if constexpr (sizeof(T) > pack_bytes) {
    return false;
  } else {
    constexpr index_t each = pack<T>::size;
    constexpr int last = View::rank - 1;
    bool suits = v.stride(last) == 1 && v.extent(last) % each == 0 &&
                 reinterpret_cast<std::uintptr_t>(v.data()) % pack_bytes == 0;
    for (int d = 0; d < last; ++d) suits = suits && v.stride(d) % each == 0;
    return suits;
  }
}
// All of one element type, so that pack i of a row is the same elements in each.
template <class View, class... More>
bool packs_suit(const View& v, const More&... more) {
  constexpr bool alike =
      (std::is_same_v<typename View::value_type, typename More::value_type> && ...);
  return alike && rows_are_packs(v) && (rows_are_packs(more) && ...);
}

// A row [n] as packs [n / size]. Row: view<T, S, dyn>.
template <class Row>
DEEPSEEK_HOST_DEVICE auto* packs_of(const Row& row) {
  using T = typename Row::element_type;
  using P = std::conditional_t<std::is_const_v<T>, const pack<std::remove_const_t<T>>, pack<T>>;
  return reinterpret_cast<P*>(row.data());
}

}  // namespace deepseek
