// expects: deepseek::view: two static extents differ; give the layers matching sizes
// SPDX-License-Identifier: Apache-2.0
#include <deepseek/core/view.hpp>

int main() {
#ifdef DEEPSEEK_POSITIVE
  constexpr int width = 4;
#else
  constexpr int width = 5;
#endif
  const deepseek::view<float, deepseek::host, 2, 4> narrow;
  const deepseek::view<const float, deepseek::host, 2, width> seen = narrow;
  return seen.empty() ? 1 : 0;
}
