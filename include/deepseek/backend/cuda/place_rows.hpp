// SPDX-License-Identifier: Apache-2.0
// place_rows on the device: a thread for each element, which reads the first row's number; a number
// outside y is told and nothing is written. See ops/place_rows.hpp.
#pragma once

#include "deepseek/backend/cuda/device_backend.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/ops/place_rows.hpp"

namespace deepseek {

namespace cuda_place_rows {

template <class X, class First, class Y>
struct placed {
  static constexpr int threads = 256;
  X x;
  First first;
  Y y;
  row_place place;
  index_t places;  // where x may begin
  fault_place faults;
  const char* object;

  index_t blocks() const { return blocks_of(x.size(), threads); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t at = first(0);
    if (at < 0 || at >= places) {
      if (block.index() == 0 && block.rank() == 0) tell(block, at);
      return;
    }
    const index_t e = block.index() * threads + block.rank();
    if (e >= x.size() || faults.found()) return;
    const index_t i = e / x.extent(1), j = e % x.extent(1);
    const auto value = convert_to<typename Y::value_type>(x(i, j));
    y(place.first(at + i), j) = value;
    if (place.ring > 0) y(place.second(at + i), j) = value;
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void tell(const Block& block, index_t at) const {
    fault f;
    f.value = at;
    f.size = places;
    f.object = object;
    faults.tell(block, f);
  }
};

}  // namespace cuda_place_rows

template <DeviceBackend B, class X, class First, class Y>
void place_rows_impl(const B& b, const X& x, const First& first, const Y& y,
                     const row_place& place) {
  b.launch(cuda_place_rows::placed<X, First, Y>{
      x, first, y, place, place_rows_op::starts(x.extent(0), y.extent(0), place), b.faults(),
      "place_rows: first"});
}

}  // namespace deepseek
