// SPDX-License-Identifier: Apache-2.0
// A team of one, and a team of several workers played one after the other: a row body written over
// a team gives the same row whatever the team's size.
#include "deepseek/core/team.hpp"

#include "deepseek/backend/rows/activation.hpp"
#include "deepseek/backend/rows/row_sum.hpp"

#include <doctest/doctest.h>

#include <vector>

namespace ds = deepseek;

namespace {

// Worker `own` of `workers`; sum adds what the others would bring, given beforehand.
struct played_worker {
  int own, workers;
  double others = 0;
  int rank() const { return own; }
  int size() const { return workers; }
  void sync() const {}
  template <class X>
  X sum(X x) const {
    return x + static_cast<X>(others);
  }
  template <class X>
  X max(X x) const {
    return x;
  }
  template <class X>
  X broadcast(X x) const {
    return x;
  }
};

}  // namespace

TEST_CASE("team: a serial team is one worker that keeps its values") {
  static_assert(ds::Team<ds::serial_team> && ds::Team<played_worker>);
  static_assert(!ds::Team<int>);
  constexpr ds::serial_team team;
  static_assert(team.rank() == 0 && team.size() == 1);
  CHECK(team.sum(2.5F) == 2.5F);
  CHECK(team.max(-3.0) == -3.0);
  CHECK(team.broadcast(7) == 7);
}

TEST_CASE("team: row_sum visits every element once, by any number of workers") {
  for (ds::index_t n : {0, 1, 2, 15, 16, 17, 31, 33, 100, 257}) {
    for (int workers : {1, 2, 3, 32}) {
      double total = 0;
      for (int own = 0; own < workers; ++own) {
        const auto term = [](ds::index_t i) { return static_cast<double>(i + 1); };
        total += ds::row_sum(played_worker{own, workers}, n, term);
      }
      CHECK(total == static_cast<double>(n * (n + 1) / 2));
    }
  }
}

TEST_CASE("team: sixteen partial sums keep a long float sum close") {
  const auto tenth = [](ds::index_t) { return 0.1F; };
  const float sum = ds::row_sum(ds::serial_team{}, 100000, tenth);
  CHECK(sum == doctest::Approx(10000).epsilon(1e-5));
}

TEST_CASE("team: an elementwise row body is shared out completely") {
  constexpr ds::index_t n = 37;
  std::vector<float> x(n), alone(n), shared(n, -1);
  for (ds::index_t i = 0; i < n; ++i) x[static_cast<std::size_t>(i)] = static_cast<float>(i - 18);
  using view = ds::view<float, ds::host, ds::dyn>;
  const view from(x.data(), {n});
  ds::activation_row(ds::serial_team{}, ds::silu_kind{}, from, view(alone.data(), {n}));
  for (int own = 0; own < 5; ++own) {
    ds::activation_row(played_worker{own, 5}, ds::silu_kind{}, from, view(shared.data(), {n}));
  }
  CHECK(shared == alone);
}
