// SPDX-License-Identifier: Apache-2.0
// Learning-rate schedules against golden values and the oracle; refusals.
#include "deepseek/train/schedule.hpp"

#include <doctest/doctest.h>

#include "oracle/golden.hpp"
#include "oracle/schedule.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;

TEST_CASE("warm-up and cosine: the golden steps") {
  const ds::warmup_cosine s{};
  CHECK(s(0) == 0);
  CHECK(std::fabs(s(1000) - 1.5e-5) < 1e-20);
  CHECK(std::fabs(s(2000) - 3e-5) < 1e-20);
  CHECK(std::fabs(s(51000) - 1.5e-5) < 1e-19);
  CHECK(s(100000) == 0);
  CHECK(s(200000) == 0);
}

TEST_CASE("warm-up and cosine: every step of a short run") {
  const ds::warmup_cosine s{.peak = 0.3, .floor = 0.02, .warmup = 7, .total = 50};
  for (ds::index_t t = 0; t < 60; ++t) {
    CHECK(std::fabs(s(t) - oracle::learning_rate(t, {0.3, 0.02, 7, 50})) <= 1e-16);
  }
  CHECK(ds::constant_rate{.peak = 0.25}(17) == 0.25);
}

TEST_CASE("a schedule that cannot be is a config error with its numbers") {
  CHECK_ERROR(ds::error_code::config, "warmup 9", "total 5",
              ds::warmup_cosine({.peak = 1, .warmup = 9, .total = 5})(0));
  CHECK_ERROR(ds::error_code::config, "-1", ds::warmup_cosine({.peak = -1})(0));
}
