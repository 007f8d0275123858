// SPDX-License-Identifier: Apache-2.0
// Lines asked for in the order of memory: each line of the rows once, none between them.
#include "deepseek/backend/cpu/kernels/fetch.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <vector>

namespace kernels = deepseek::kernels;

TEST_CASE("line_order: all of the rows, in steps of any size that divides them") {
  constexpr std::ptrdiff_t rows = 5, width = 2 * kernels::ordered_bytes, gap = 320;
  const std::vector<std::byte> memory(static_cast<std::size_t>(rows * (width + gap)));
  for (const std::ptrdiff_t step : {64, 256, 1024, 2048}) {
    kernels::line_order order{memory.data(), width, gap, width};
    for (std::ptrdiff_t row = 0; row < rows; ++row) {
      for (std::ptrdiff_t done = 0; done < width; done += step) {
        CHECK(order.at == memory.data() + row * (width + gap) + done);
        CHECK(order.left == width - done);
        order.move(step);
      }
    }
  }
}

TEST_CASE("line_order: no gap between rows") {
  const std::vector<std::byte> memory(4 * kernels::ordered_bytes);
  kernels::line_order order{memory.data(), kernels::ordered_bytes, 0, kernels::ordered_bytes};
  for (std::ptrdiff_t done = 0; done < 4 * kernels::ordered_bytes; done += 512) {
    CHECK(order.at == memory.data() + done);
    kernels::fetch_next<512>(order);
  }
}
