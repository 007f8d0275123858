// SPDX-License-Identifier: Apache-2.0
// The printed table of kernels: every kind of weights for every number of rows, tiles that hold all
// rows and none that holds none.
#include "deepseek/backend/cpu/product_table.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <string>

namespace ds = deepseek;

TEST_CASE("product_kernels: tiles hold the rows") {
  std::map<std::string, int> rows_of;
  for (const ds::product_kernel& kernel : ds::product_kernels()) {
    INFO(kernel.weights, " ", kernel.rows);
    ++rows_of[std::string(kernel.weights)];
    const int held = std::accumulate(kernel.tiles.begin(), kernel.tiles.end(), 0);
    CHECK(held >= kernel.rows);
    CHECK(held - kernel.tiles.back() < kernel.rows);
    CHECK(std::is_sorted(kernel.tiles.rbegin(), kernel.tiles.rend()));
    CHECK(kernel.columns % ds::simd::pack<float>::width == 0);
  }
  CHECK(rows_of.size() == 8);
  for (const auto& [weights, count] : rows_of) CHECK(count == 8);
}

TEST_CASE("product_table: what is compiled, and one row") {
  const std::string text = ds::product_table();
  CHECK(text.starts_with("products for " + std::string(ds::simd::instruction_set()) + "\n"));
  CHECK(text.find("\nint8: panels, tiles of ") != std::string::npos);
  CHECK(text.find("rows 1: 1; 2: ") != std::string::npos);
  CHECK(ds::tiles_text({8, 8, 8, 4, 1}) == "8 x 3, 4, 1");
  if (ds::simd::register_count == 32 && !ds::simd::has_tiles) {
    CHECK(text.find("int8: panels, tiles of 32 columns; rows 1: 1; 2: 2; 4: 4; 8: 8; 16: 8 x 2; "
                    "32: 8 x 4; 48: 8 x 6; 128: 8 x 16\n") != std::string::npos);
  }
}
