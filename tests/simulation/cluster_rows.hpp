// SPDX-License-Identifier: Apache-2.0
// What the tests of rows that clusters share have in common.
#pragma once

#include "simulation/with_clusters.hpp"

#include "ops/row_case.hpp"
#include "ops/table.hpp"

namespace cluster_rows {

using namespace table;
using simulation::clusters;

inline constexpr std::size_t rows = 2;

template <class T>
std::string named(std::size_t n) {
  return support::text(std::string(ds::to_string(type_of<T>)), n);
}

// How many launches of clusters f() made: `want` on the simulated device.
template <class F>
void expect_clusters(const clusters& b, ds::index_t want, const F& f) {
  const ds::index_t before = simulation::launched(b);
  f();
  if (simulation::counts_clusters) CHECK(simulation::launched(b) - before == want);
}

template <class T>
reals rounded(const reals& x) {
  return support::to_double(support::as<T>(x));
}

// Values of size 1, other in each row; never near zero where a norm would not be telling.
template <class T>
reals plain_rows(std::size_t count, double shift) {
  reals x(count);
  for (std::size_t i = 0; i < count; ++i)
    x[i] = std::sin(3.0 * static_cast<double>(i) + shift) + shift;
  return rounded<T>(x);
}

template <class F>
void every_type(std::size_t i, const F& f) {
  f(float{}, layout::contiguous);
  f(float{}, layout::offset);
  if (i % 2 == 0) f(ds::bf16{}, layout::padded);
  if (i % 2 == 1) f(ds::f16{}, layout::padded);
}

}  // namespace cluster_rows
