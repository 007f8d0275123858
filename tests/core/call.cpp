// SPDX-License-Identifier: Apache-2.0
// The call: sites that differ by place, things lent by tag, where intermediates go.
#include "deepseek/core/call.hpp"

#include <doctest/doctest.h>

#include <set>

#include "deepseek/backend/reference/context.hpp"

namespace ds = deepseek;

namespace {
struct first {};
struct second {};
}  // namespace

TEST_CASE("sites differ between the parts of a model, and are the same again") {
  const ds::reference b;
  ds::arena<ds::host> tape;
  const ds::call<ds::reference> c{b, {}, b.workspace(), tape, 0, {}};
  std::set<std::uint32_t> sites;
  for (int i = 0; i < 100; ++i) {
    for (int j = 0; j < 100; ++j) sites.insert(c.in(i).in(j).site);
  }
  CHECK(sites.size() == 10000);
  CHECK(c.in(3).in(4).site == c.in(3).in(4).site);
  CHECK(c.in(3).in(4).site != c.in(4).in(3).site);
}

TEST_CASE("what a composite lends is found by its tag, the innermost first") {
  const ds::reference b;
  ds::arena<ds::host> tape;
  const ds::call<ds::reference> c{b, {}, b.workspace(), tape, 7, {}};
  static_assert(!decltype(c)::has<first>);
  int gradient = 0;
  const auto lent = c.with<first>(5, &gradient).with<second>(2.5).in(1);
  static_assert(std::remove_const_t<decltype(lent)>::has<first> &&
                std::remove_const_t<decltype(lent)>::has<second>);
  CHECK(lent.get<first>() == 5);
  CHECK(lent.get<second>() == 2.5);
  *lent.gradient_of<first>() = 3;
  CHECK(gradient == 3);
  CHECK(lent.with<first>(6).get<first>() == 6);
}

TEST_CASE("intermediates go to the tape only when they must survive") {
  struct layer {};
  const ds::reference b;
  ds::arena<ds::host> tape;
  const ds::call<ds::reference> c{b, {.how = ds::mode::training}, b.workspace(), tape, 0, {}};
  CHECK(&c.arena_for<ds::keep<ds::for_backward, layer, float, ds::host>>() == &tape);
  CHECK(&c.arena_for<ds::keep<ds::for_decode, layer, float, ds::host>>() == &b.workspace());
  CHECK(&c.arena_for<ds::keep<ds::nothing, layer, float, ds::host>>() == &b.workspace());
  CHECK(c.training());
}
