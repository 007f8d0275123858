// SPDX-License-Identifier: Apache-2.0
// as_eigen: our views as Eigen matrices and vectors, read and written in place, any strides.

// g++ 12 sees uninitialized registers in its own AVX-512 header under Eigen's products and sums.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include "deepseek/backend/cpu/eigen.hpp"

#include "support/report.hpp"

#include <type_traits>

#include <doctest/doctest.h>

namespace ds = deepseek;

TEST_CASE("as_eigen: matrices of every kind of extent and stride") {
  ds::tensor<float, ds::host, ds::dyn, ds::dyn> t({3, 4});
  for (int i = 0; i < 12; ++i) t.data()[i] = static_cast<float>(i);
  const auto m = ds::as_eigen(t);
  CHECK(m.rows() == 3);
  CHECK(m.cols() == 4);
  CHECK(m(1, 2) == 6);
  CHECK((m * m.transpose())(0, 2) == 0 * 8 + 1 * 9 + 2 * 10 + 3 * 11);
  ds::as_eigen(t)(2, 3) = -1;
  CHECK(t.data()[11] == -1);

  const auto turned = ds::as_eigen(ds::transposed(t.view()));
  CHECK(turned.rows() == 4);
  CHECK(turned(2, 1) == 6);
  const ds::view<float, ds::host, ds::dyn, ds::dyn> part(t.data() + 1, {3, 2}, {4, 2});
  CHECK(ds::as_eigen(part)(2, 0) == 9);
  CHECK(ds::as_eigen(part)(0, 1) == 3);
  ds::as_eigen(part).setZero();
  CHECK(t.data()[5] == 0);
  CHECK(t.data()[6] == 6);
}

TEST_CASE("as_eigen: static extents, one column, one row, const") {
  ds::tensor<double, ds::host, 2, 3> t;
  for (int i = 0; i < 6; ++i) t.data()[i] = i;
  auto m = ds::as_eigen(t);
  static_assert(decltype(m)::RowsAtCompileTime == 2 && decltype(m)::ColsAtCompileTime == 3);
  CHECK(m(1, 0) == 3);
  const auto& constant = t;
  const auto c = ds::as_eigen(constant);
  static_assert(std::is_same_v<decltype(c.data()), const double*>);
  CHECK(c.sum() == 15);

  ds::tensor<double, ds::host, 3, 1> column;
  ds::tensor<double, ds::host, 1, 3> row;
  for (int i = 0; i < 3; ++i) column.data()[i] = row.data()[i] = i + 1;
  CHECK((ds::as_eigen(row) * ds::as_eigen(column))(0, 0) == 14);
  CHECK((m * ds::as_eigen(column))(1, 0) == 3 + 8 + 15);
}

TEST_CASE("as_eigen: vectors and integers") {
  ds::tensor<std::int32_t, ds::host, ds::dyn> t({6});
  for (int i = 0; i < 6; ++i) t.data()[i] = i;
  const ds::view<std::int32_t, ds::host, ds::dyn> odd(t.data() + 1, {3}, {2});
  const auto v = ds::as_eigen(odd);
  CHECK(v.size() == 3);
  CHECK(v.sum() == 9);
  CHECK(ds::as_eigen(t).maxCoeff() == 5);
  const ds::tensor<float, ds::host, ds::dyn, ds::dyn> none({0, 4});
  CHECK(ds::as_eigen(none).size() == 0);
  ds::tensor<float, ds::host, 4> fixed;
  ds::as_eigen(fixed) << 1, 2, 3, 4;
  CHECK(fixed.data()[3] == 4);
}
