// SPDX-License-Identifier: Apache-2.0
// softmax and its backward against the oracle, differences and their contract.
#include "deepseek/ops/softmax.hpp"

#include "deepseek/backend/cpu/softmax.hpp"
#include "deepseek/backend/reference/softmax.hpp"

#include "ops/row_cases.hpp"
#include "oracle/softmax.hpp"

#include <cstring>
#include <limits>

namespace ds = deepseek;
using row_cases::reals;
using row_cases::result;
using row_cases::row_case;

namespace {

struct softmax_test {
  static constexpr const char* name = "softmax";
  static std::vector<int> inputs() { return {2}; }

  template <class B, class From, class To>
  static void forward(const B& b, From& in, To& out) {
    ds::ops::softmax(b, in[0].matrix(), out[0].matrix());
  }
  template <class B, class Grids>
  static void backward(const B& b, Grids& in, Grids& out) {
    backward(b, in, out, out[0]);
  }
  template <class B, class Grids, class DX>
  static void backward(const B& b, Grids& in, Grids&, DX& dx) {
    ds::ops::softmax_backward(b, in[1].matrix(), in[2].matrix(), dx.matrix());
  }
  static result expected(const std::vector<reals>& in, const row_case& c) {
    const reals p = oracle::softmax(in[0], c.rows, c.dim).p;
    return {p, support::softmax_magnitude(in[0], p, c.dim)};
  }
  static std::vector<result> expected_backward(const std::vector<reals>& in, const row_case& c) {
    const reals &p = in[1], &g = in[2];
    result dx{oracle::softmax_backward(p, g, c.dim), reals(p.size())};
    for (std::size_t row = 0; row < p.size(); row += c.dim) {
      double dot = 0;
      for (std::size_t i = 0; i < c.dim; ++i) dot += std::fabs(g[row + i] * p[row + i]);
      for (std::size_t i = 0; i < c.dim; ++i) {
        dx.magnitude[row + i] = p[row + i] * (std::fabs(g[row + i]) + dot);
      }
    }
    return {dx};
  }
  static support::limits limits(ds::dtype type, const row_case& c, bool) {
    return trusting(row_cases::with_oracle(support::softmax_limits(type, c.dim), c.dim), c);
  }
  static support::limits backward_limits(ds::dtype type, const row_case& c, bool) {
    const auto forward = support::doubled(support::gemm_limits(type, c.dim));
    return trusting(row_cases::with_oracle(forward, c.dim), c);
  }
  // One outlier or wide values leave one 1 and many zeros: right, and still telling.
  static support::limits trusting(support::limits l, const row_case& c) {
    using v = support::values;
    if (c.kind == v::outlier || c.kind == v::wide) l.zeros = 1;
    return l;
  }
};

// Rows of all, some and no -inf, with NaN and +inf; y over x.
template <class T, class B>
void check_infinite(const B& b) {
  constexpr T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  for (const ds::index_t n : {1, 2, 7, 16, 17, 40, 129}) {
    ds::tensor<T, ds::host, ds::dyn, ds::dyn> x({5, n}), dy({5, n}), dx({5, n});
    const auto v = x.view();
    for (ds::index_t i = 0; i < n; ++i) {
      v(0, i) = -inf;                         // zeros
      v(1, i) = i == n - 1 ? T(-7) : -inf;    // one visible
      v(2, i) = i == 0 ? nan : -inf;          // NaN
      v(3, i) = i == n / 2 ? inf : T(1);      // NaN
      v(4, i) = T(-1e4) - static_cast<T>(i);  // far below zero: no underflow of the sum
      dy.view()(0, i) = T(3);
    }
    ds::ops::softmax(b, x, x);
    ds::ops::softmax_backward(b, x, dy, dx);
    bool right = true;
    for (ds::index_t i = 0; i < n; ++i) {
      right = right && v(0, i) == 0 && v(1, i) == T(i == n - 1 ? 1 : 0);
      right = right && std::isnan(v(2, i)) && std::isnan(v(3, i));
      right = right && (i > 0 || v(4, i) > T(0.5)) && dx.view()(0, i) == 0;
    }
    support::expect_true("softmax", support::text("infinite n", n), right, "a row is wrong");
  }
}

// Rows together and large results (streamed, past the caches) have the bits of a row alone.
template <class T>
void check_large(ds::index_t rows, ds::index_t n, ds::index_t stride, int threads) {
  using matrix = ds::view<T, ds::host, ds::dyn, ds::dyn>;
  const ds::cpu b{{.threads = threads}};
  ds::tensor<T, ds::host, ds::dyn, ds::dyn> in({rows, stride}), out({rows, stride}), alone({1, n});
  for (ds::index_t i = 0; i < in.size(); ++i) {
    in.data()[i] = static_cast<T>(static_cast<float>(i * 7919 % 8009) / 1000.0F - 4);
  }
  const matrix x(in.data(), {rows, n}, {stride, 1}), y(out.data(), {rows, n}, {stride, 1});
  const auto same = [n](const T* one, const T* other) {
    return std::memcmp(one, other, sizeof(T) * static_cast<std::size_t>(n)) == 0;
  };
  ds::ops::softmax(b, x, y);
  bool right = true;
  for (ds::index_t r = 0; r < rows; ++r) {
    ds::ops::softmax(b, matrix(&x(r, 0), {1, n}), alone);
    right = right && same(alone.data(), &y(r, 0));
  }
  ds::ops::softmax(b, x, x);
  for (ds::index_t r = 0; r < rows; ++r) right = right && same(&x(r, 0), &y(r, 0));
  support::expect_true("softmax", support::text("rows", rows, "n", n), right, "bits differ");
}

template <class B>
void check_errors(const B& b) {
  using ds::error_code;
  float data[64] = {};
  const auto x = row_cases::shaped(data, 2, 4), wrong = row_cases::shaped(data, 2, 5);
  const auto null = row_cases::shaped<float>(nullptr, 2, 4);
  const auto& back = ds::ops::softmax_backward;
  CHECK_ERROR(error_code::shape_mismatch, "softmax: y[2, 5]", "expected 4",
              ds::ops::softmax(b, x, wrong));
  CHECK_ERROR(error_code::invalid_argument, "softmax: x[2, 4]", ds::ops::softmax(b, null, x));
  CHECK_ERROR(error_code::invalid_argument, "softmax: y[2, 4]", ds::ops::softmax(b, x, null));
  CHECK_ERROR(error_code::shape_mismatch, "dy[2, 5]", back(b, x, wrong, x));
  CHECK_ERROR(error_code::shape_mismatch, "dx[2, 5]", back(b, x, x, wrong));
  CHECK_ERROR(error_code::invalid_argument, "dx[2, 4]", "8 elements", back(b, x, x, null));
  support::facet("softmax", "errors");
}

}  // namespace

TEST_CASE("softmax: reference") {
  row_cases::check_on_reference<softmax_test>();
}
TEST_CASE("softmax: cpu") {
  row_cases::check_on_cpu<softmax_test>();
}
TEST_CASE("softmax: infinite values") {
  check_infinite<float>(ds::reference{});
  check_infinite<double>(ds::reference{});
  check_infinite<float>(ds::cpu{});
  check_infinite<double>(ds::cpu{});
}
TEST_CASE("softmax: rows alone, together and streamed") {
  check_large<float>(37, 100, 101, 2);
  if constexpr (!ds::RunsKernels<ds::cpu>) {  // a device has one way
    check_large<float>(1500, 2000, 2000, 1);
    check_large<float>(4200, 2001, 2001, 2);
    check_large<float>(4200, 2001, 2016, 1);
    check_large<ds::bf16>(8300, 2048, 2048, 2);
    check_large<double>(70, 65533, 65536, 2);
  }
}
TEST_CASE("softmax: errors") {
  check_errors(ds::reference{});
  check_errors(ds::cpu{});
}
