// SPDX-License-Identifier: Apache-2.0
// The codes of one output channel in signed 8-bit integers, symmetric about zero:
//   s = max |w| / 127 (0 -> 1), q = clamp(rne(w / s), -127, 127).
#pragma once

#include "deepseek/core/space.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace deepseek {

template <class A>
std::int8_t int8_weight_code(A w, float scale) {
  const A code = std::nearbyint(w / static_cast<A>(scale));
  return static_cast<std::int8_t>(std::clamp(code, A(-127), A(127)));
}

// Hands out put(k, code) and writes the scale; returns the sum of the codes. A: the type of the
// computation.
template <class A, class Row>
std::int32_t make_int8_channel(const Row& from, float& scale, const auto& put) {
  A largest = 0;
  for (index_t k = 0; k < from.extent(0); ++k) {
    largest = std::max(largest, std::abs(static_cast<A>(from(k))));
  }
  scale = static_cast<float>(largest / A(127));
  if (!(scale > 0)) scale = 1;
  std::int32_t sum = 0;
  for (index_t k = 0; k < from.extent(0); ++k) {
    const std::int8_t q = int8_weight_code(static_cast<A>(from(k)), scale);
    put(k, q);
    sum += q;
  }
  return sum;
}

}  // namespace deepseek
