// SPDX-License-Identifier: Apache-2.0
// hadamard against the oracle's matrix; that it is orthogonal and its own inverse; its gradient
// (itself) against differences; ranks, aliases, zero sizes, errors.
#include "deepseek/ops/hadamard.hpp"

#include "deepseek/backend/cpu/hadamard.hpp"

#include "ops/table.hpp"
#include "oracle/hadamard.hpp"

using namespace table;

namespace {

constexpr const char* op = "hadamard";

template <class T, class B>
std::vector<T> check(const B& b, const shape_case& c) {
  const reals x = drawn<T>(c, c.size(), " x");
  sheet<T> from(c.rows, c.columns, c.how, x), to(c.rows, c.columns, c.how);
  ds::ops::hadamard(b, from.matrix(), to.matrix());
  // Every result is a sum of dim terms of this size, added in a tree of log2(dim) levels.
  reals magnitude(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t row = i / c.columns * c.columns;
    for (std::size_t j = 0; j < c.columns; ++j) magnitude[i] += std::fabs(x[row + j]);
    magnitude[i] /= std::sqrt(static_cast<double>(c.columns));
  }
  judge(op, where<T>(b, c), support::gemm_limits(type_of<T>, c.columns),
        oracle::hadamard(x, c.columns), to.values(), c.columns, magnitude);
  support::expect_true(op, "memory " + where<T>(b, c), from.unchanged() && to.clean(),
                       "an input or memory around the output was written");
  const auto y = to.values();
  ds::ops::hadamard(b, from.matrix(), from.matrix());
  support::expect_true(op, "y over x " + where<T>(b, c), support::same_bits(from.values(), y),
                       "y over x differs");
  return y;
}

template <class B>
void check_gradient(const B& b) {
  const shape_case c{3, 16, 0, layout::padded};
  const reals x = drawn<double>(c, c.size(), " x"), weights = support::loss_weights(c.size());
  const auto loss = [&](const reals& moved) {
    sheet<double> from(c.rows, c.columns, c.how, moved), to(c.rows, c.columns, c.how);
    ds::ops::hadamard(b, from.matrix(), to.matrix());
    return support::weighted_sum(weights, to.values());
  };
  sheet<double> dy(c.rows, c.columns, c.how, weights), dx(c.rows, c.columns, c.how);
  ds::ops::hadamard(b, dy.matrix(), dx.matrix());
  support::expect_gradient(op, c.text(), support::check_gradient(loss, x, dx.values()));
}

}  // namespace

TEST_CASE("hadamard: table of cases") {
  const std::size_t most = ds::RunsKernels<ds::cpu> ? 17 : 65;  // rows
  for (const shape_case& c :
       shape_cases({1, 2, 9, most}, {1, 2, 4, 8, 16, 32, 64, 128, 512, 1024})) {
    everywhere(op, c.text(), [&](const auto& b, auto type) { return check<decltype(type)>(b, c); });
  }
  on_both([](const auto& b) { check_gradient(b); });
  facets(op, {"forward", "strides"});
}

TEST_CASE("hadamard: the bits of plain loops, its own inverse, inner products stay") {
  const ds::cpu b;
  const shape_case c{7, 128};
  const reals x = drawn<double>(c, c.size(), " x");
  sheet<double> from(7, 128, c.how, x), y(7, 128, c.how), plain(7, 128, c.how), back(7, 128, c.how);
  ds::ops::hadamard(b, from.matrix(), y.matrix());
  ds::ops::hadamard(ds::reference{}, from.matrix(), plain.matrix());
  ds::ops::hadamard(b, y.matrix(), back.matrix());
  CHECK(support::same_bits(y.values(), plain.values()));
  judge(op, "inverse", support::gemm_limits(ds::dtype::f64, 128), x, back.values(), 128);
  const auto dot = [](const reals& a, std::size_t i, std::size_t j) {
    double sum = 0;
    for (std::size_t k = 0; k < 128; ++k) sum += a[i * 128 + k] * a[j * 128 + k];
    return sum;
  };
  for (std::size_t i = 0; i < 7; ++i) {
    for (std::size_t j = 0; j < 7; ++j) {
      CHECK(std::fabs(dot(x, i, j) - dot(y.values(), i, j)) <= 1e-12);
    }
  }
}

TEST_CASE("hadamard: heads are rows; zero sizes and errors") {
  on_both([](const auto& b) {
    ds::tensor<float, ds::host, ds::dyn, 3, 8> heads({5, 3, 8}), out({5, 3, 8});
    for (ds::index_t i = 0; i < heads.size(); ++i) heads.data()[i] = static_cast<float>(i % 7);
    ds::ops::hadamard(b, heads, out);
    ds::tensor<float, ds::host, ds::dyn, ds::dyn> flat({15, 8}), y({15, 8}), six({2, 6}),
        none({0, 4}), empty({4, 0});
    std::copy_n(heads.data(), heads.size(), flat.data());
    ds::ops::hadamard(b, flat, y);
    CHECK(std::equal(out.data(), out.data() + out.size(), y.data()));
    ds::ops::hadamard(b, none, none);
    ds::ops::hadamard(b, empty, empty);
    CHECK_ERROR(ds::error_code::config, "hadamard: rows of 6", "power of two",
                ds::ops::hadamard(b, six, six));
    CHECK_ERROR(ds::error_code::shape_mismatch, "hadamard: y[2, 6]",
                ds::ops::hadamard(b, flat, six));
    const ds::view<float, ds::host, ds::dyn, ds::dyn> null(nullptr, {15, 8});
    CHECK_ERROR(ds::error_code::invalid_argument, "hadamard: x", "null",
                ds::ops::hadamard(b, null, y));
  });
  facets(op, {"zero", "errors"});
}
