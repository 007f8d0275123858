// SPDX-License-Identifier: Apache-2.0
// Rows read and written as packs of 16 bytes (vectors.hpp). packs_suit(views...) says on the host
// whether every row of some matrices is a whole number of aligned packs of one element type.
#pragma once

#include "deepseek/backend/cuda/vectors.hpp"

namespace deepseek {

template <class T>
struct pack {
  static constexpr int size = vector_length<T>;
  T at[size];
};

template <class View, class... More>
bool packs_suit(const View& v, const More&... more) {
  constexpr bool alike =
      (std::is_same_v<typename View::value_type, typename More::value_type> && ...);
  constexpr index_t each = pack<typename View::value_type>::size;
  return alike && row_length(v) % each == 0 && moves_whole(v) && (moves_whole(more) && ...);
}

// Pack i of a row: view<T, S, dyn>.
template <class Row>
DEEPSEEK_HOST_DEVICE pack<typename Row::value_type> load_pack(const Row& row, index_t i) {
  using P = pack<typename Row::value_type>;
  P p;
  load_run<P::size>(row.data() + i * P::size, p.at);
  return p;
}
template <class Row>
DEEPSEEK_HOST_DEVICE void store_pack(const Row& row, index_t i,
                                     const pack<typename Row::value_type>& p) {
  using P = pack<typename Row::value_type>;
  store_run<P::size>(p.at, row.data() + i * P::size);
}

}  // namespace deepseek
