// SPDX-License-Identifier: Apache-2.0
// Tensors own aligned, zeroed memory; copies are deep; sizes from outside are checked.
#include "deepseek/core/tensor.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>

#include "support/throws.hpp"

namespace ds = deepseek;

TEST_CASE("memory is aligned and zero, copies are deep, moves leave nothing") {
  ds::tensor<float, ds::host, 5, 7> a;
  CHECK(reinterpret_cast<std::uintptr_t>(a.data()) % 64 == 0);
  for (int i = 0; i < 35; ++i) CHECK(a.data()[i] == 0);
  a.view()(2, 3) = 8;
  const auto copy = a;
  a.view()(2, 3) = 9;
  CHECK(copy.view()(2, 3) == 8);
  const auto moved = std::move(a);
  CHECK(moved.view()(2, 3) == 9);
  ds::tensor<float, ds::host, 5, 7> b;
  b = copy;
  CHECK(b.view()(2, 3) == 8);
  b.zero();
  CHECK(b.view()(2, 3) == 0);
}

TEST_CASE("large blocks begin at a large page and are zero") {
  if (!ds::has_huge_pages) return;
  for (const ds::index_t bytes : {(ds::index_t{2} << 20) - 1, (ds::index_t{2} << 20) + 1}) {
    const ds::tensor<std::uint8_t, ds::host, ds::dyn> a({bytes});
    CHECK(reinterpret_cast<std::uintptr_t>(a.data()) % ds::huge_page == 0);
    CHECK(std::count(a.data(), a.data() + bytes, 0) == bytes);
  }
}

TEST_CASE("run-time extents; a stack has one extent more") {
  ds::tensor<double, ds::host, ds::dyn, 4> t({3, 4});
  CHECK(t.size() == 12);
  CHECK(t.extent(0) == 3);
  const ds::tensor<double, ds::host, ds::dyn, 4> nothing;
  CHECK(nothing.size() == 0);
  const ds::tensor<double, ds::host, ds::dyn, 4> none_yet({0, 4});
  CHECK(none_yet.view().empty());
  const ds::tensor<int, ds::stacked<6, ds::host>, 2, 3> stack;
  static_assert(ds::is_stacked<std::remove_const_t<decltype(stack)>>);
  CHECK(stack.view().extent(0) == 6);
  CHECK(stack.size() == 36);
}

TEST_CASE("sizes that cannot be are errors with their numbers") {
  using any = ds::tensor<double, ds::host, ds::dyn, ds::dyn>;
  using fixed = ds::tensor<double, ds::host, ds::dyn, 4>;
  const ds::index_t large = ds::index_t{1} << 40;
  CHECK_ERROR(ds::error_code::invalid_argument, "-3", any({2, -3}));
  CHECK_ERROR(ds::error_code::overflow, "overflow", any({large, large}));
  CHECK_ERROR(ds::error_code::overflow, "overflow", any({large, large / 256}));
  CHECK_ERROR(ds::error_code::shape_mismatch, "extent 1", "4", "5", fixed({2, 5}));
  // What is empty is a tensor where its view is one: products are taken from the last extent.
  using three = ds::tensor<double, ds::host, ds::dyn, ds::dyn, ds::dyn>;
  CHECK_ERROR(ds::error_code::overflow, "overflow", three({0, large, large}));
  CHECK(three({large, large, 0}).view().empty());
}
