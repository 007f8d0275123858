// SPDX-License-Identifier: Apache-2.0
// Arenas: alignment, scopes, growth without moving, reuse without allocating.
#include "deepseek/core/arena.hpp"

#include <doctest/doctest.h>

#include <cstdint>

#include "support/throws.hpp"

namespace ds = deepseek;

TEST_CASE("what a scope took is taken again") {
  ds::arena<ds::host> a(1024);
  auto kept = a.make<double, ds::dyn>(10);
  const auto used = a.bytes_used();
  double* first = nullptr;
  for (int round = 0; round < 3; ++round) {
    const ds::scope freed(a);
    const auto t = a.make<double, ds::dyn, 3>(5);
    CHECK(t.extent(0) == 5);
    CHECK(reinterpret_cast<std::uintptr_t>(t.data()) % 64 == 0);
    if (round == 0) first = t.data();
    CHECK(t.data() == first);
    kept(9) = 1;
  }
  CHECK(a.bytes_used() == used);
  CHECK(a.bytes_peak() > used);
}

TEST_CASE("it grows by blocks, nothing moves, and a second round allocates nothing") {
  ds::arena<ds::host> a(256);
  std::size_t blocks = 0;
  for (int round = 0; round < 2; ++round) {
    const ds::scope freed(a);
    int* before = nullptr;
    for (int i = 1; i <= 6; ++i) {
      const auto t = a.make<int, ds::dyn>(100 * i);
      t(100 * i - 1) = i;
      if (before != nullptr) CHECK(*before == i - 1);
      before = &t(100 * i - 1);
    }
    if (round == 0) blocks = a.blocks();
  }
  CHECK(blocks > 1);
  CHECK(a.blocks() == blocks);
  CHECK(a.bytes_used() == 0);
}

TEST_CASE("an empty view, a filled one, and sizes that cannot be") {
  ds::arena<ds::host> a;
  CHECK(a.make<float, ds::dyn, 8>(0).empty());
  a.fill_with(0xff);
  const auto t = a.make<unsigned char, ds::dyn>(3);
  CHECK(t(2) == 0xff);
  CHECK_ERROR(ds::error_code::invalid_argument, "-1", a.make<float, ds::dyn>(-1));
  CHECK_ERROR(ds::error_code::overflow, "overflow",
              a.make<float, ds::dyn, ds::dyn>(ds::index_t{1} << 40, ds::index_t{1} << 40));
}
