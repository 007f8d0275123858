// SPDX-License-Identifier: Apache-2.0
// What the two translation units and main agree on; nothing of the library is seen here.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

inline constexpr int rows = 5, inner = 37, columns = 19;

inline float left_element(int i) {
  return static_cast<float>(i % 11 - 5) / 8.0f;
}
inline float right_element(int i) {
  return static_cast<float>(i % 7 - 3) / 4.0f;
}

struct answers {
  std::vector<float> reference_product, cpu_product;
  std::vector<std::size_t> layouts, cpu_layouts;  // cpu's: empty where it is not seen
  std::string refusal;
};

answers first_answers();
answers second_answers();
