// SPDX-License-Identifier: Apache-2.0
// The slots of backend/cuda/expert_tiles.hpp cover every row of every expert once and no other row,
// for all ways in which few rows fall to few experts and for drawn ones; at compile time too.
#include "deepseek/backend/cuda/expert_tiles.hpp"

#include "support/seed.hpp"

#include <vector>

#include <doctest/doctest.h>

namespace ds = deepseek;

namespace {

// What is wrong with the cover of these offsets; 0: nothing.
int wrong_with(const std::vector<std::int32_t>& offsets, ds::index_t rows, ds::index_t tile) {
  const auto experts = static_cast<ds::index_t>(offsets.size()) - 1;
  const ds::expert_offsets o{offsets.data(), 1, experts, rows};
  std::vector<int> seen(static_cast<std::size_t>(rows));
  for (ds::index_t slot = 0; slot < ds::row_slots(o, tile); ++slot) {
    const ds::expert_slot at = ds::rows_of_slot(o, tile, slot);
    if (at.first > at.last || at.last - at.first > tile) return 1;
    if (at.first == at.last) continue;
    if (at.expert < 0 || at.expert >= experts) return 2;
    if (at.first < o(at.expert) || at.last > o(at.expert + 1)) return 3;
    for (ds::index_t r = at.first; r < at.last; ++r) ++seen[static_cast<std::size_t>(r)];
  }
  for (ds::index_t r = 0; r < rows; ++r) {
    if (seen[static_cast<std::size_t>(r)] != (r < o.end() ? 1 : 0)) return 4;
  }
  return 0;
}

constexpr std::int32_t three[] = {0, 1, 1, 9};
constexpr ds::expert_offsets plan{three, 1, 3, 9};
static_assert(ds::row_slots(plan, 4) == 5 && ds::rows_of_slot(plan, 4, 0).last == 1 &&
              ds::rows_of_slot(plan, 4, 2).expert == 2 && ds::rows_of_slot(plan, 4, 2).last == 5);

}  // namespace

TEST_CASE("expert_tiles: every row is in one slot") {
  int plans = 0, wrong = 0;
  for (std::int32_t rows = 0; rows <= 9; ++rows) {
    for (std::int32_t a = 0; a <= rows; ++a) {
      for (std::int32_t b = a; b <= rows; ++b) {
        for (std::int32_t c = b; c <= rows; ++c) {
          for (ds::index_t tile : {1, 2, 3, 4, 8}) {
            wrong += wrong_with({0, a, b, c}, rows, tile) != 0;  // rows behind c: padding
            ++plans;
          }
        }
      }
    }
  }
  CHECK(plans > 3000);
  CHECK(wrong == 0);
}

TEST_CASE("expert_tiles: many experts, many of them without rows") {
  support::numbers from("expert_tiles");
  for (int draw = 0; draw < 200; ++draw) {
    std::vector<std::int32_t> offsets{0};
    const auto experts = 1 + from.below(300);
    for (std::uint64_t e = 0; e < experts; ++e) {
      const auto count = from.below(3) == 0 ? from.below(200) : from.below(2);
      offsets.push_back(offsets.back() + static_cast<std::int32_t>(count));
    }
    const ds::index_t rows = offsets.back() + static_cast<ds::index_t>(from.below(70));
    for (ds::index_t tile : {1, 8, 64}) CHECK(wrong_with(offsets, rows, tile) == 0);
  }
}

TEST_CASE("expert_tiles: without offsets all rows are of one expert") {
  for (ds::index_t rows : {0, 1, 8, 9, 64, 65}) {
    const ds::expert_offsets o{nullptr, 1, 1, rows};
    ds::index_t next = 0;
    for (ds::index_t slot = 0; slot < ds::row_slots(o, 8); ++slot) {
      const ds::expert_slot at = ds::rows_of_slot(o, 8, slot);
      CHECK(at.first == next);
      next = at.last;
    }
    CHECK(next == rows);
  }
}
