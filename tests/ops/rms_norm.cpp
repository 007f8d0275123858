// SPDX-License-Identifier: Apache-2.0
// rms_norm and its backward against the oracle, differences and their contract.
#include "deepseek/ops/rms_norm.hpp"

#include "deepseek/backend/cpu/rms_norm.hpp"
#include "deepseek/backend/reference/rms_norm.hpp"

#include "ops/large_rows.hpp"
#include "ops/row_cases.hpp"
#include "oracle/golden.hpp"
#include "oracle/norm.hpp"

namespace ds = deepseek;
using row_cases::reals;
using row_cases::result;
using row_cases::row_case;

namespace {

constexpr double eps = 1e-6;

struct rms_norm_test {
  static constexpr const char* name = "rms_norm";
  static std::vector<int> inputs() { return {2, 1}; }

  template <class B, class From, class To>
  static void forward(const B& b, From& in, To& out) {
    ds::ops::rms_norm(b, in[0].matrix(), in[1].vector(), out[0].matrix(), eps);
  }
  template <class B, class Grids>
  static void backward(const B& b, Grids& in, Grids& out) {
    backward(b, in, out, out[0]);
  }
  template <class B, class Grids, class DX>
  static void backward(const B& b, Grids& in, Grids& out, DX& dx) {
    ds::ops::rms_norm_backward(b, ds::rms_norm_inputs{in[0].matrix(), in[1].vector()},
                               in[3].matrix(), ds::rms_norm_gradients{dx.matrix(), out[1].vector()},
                               eps);
  }
  static result expected(const std::vector<reals>& in, const row_case& c) {
    return row_cases::exact_magnitude(oracle::rms_norm(in[0], in[1], c.dim, eps));
  }
  static std::vector<result> expected_backward(const std::vector<reals>& in, const row_case& c) {
    const auto g = oracle::rms_norm_backward(in[0], in[1], in[3], eps);
    result dx{g.dx, reals(g.dx.size())}, dw{g.dw, reals(c.dim)};
    for (std::size_t row = 0; row < c.rows * c.dim; row += c.dim) {
      double squares = 0, mixed = 0;
      for (std::size_t i = 0; i < c.dim; ++i) squares += in[0][row + i] * in[0][row + i];
      const double n = static_cast<double>(c.dim), r = 1 / std::sqrt(squares / n + eps);
      for (std::size_t i = 0; i < c.dim; ++i) {
        mixed += std::fabs(in[3][row + i] * in[1][i] * in[0][row + i] * r) / n;
      }
      for (std::size_t i = 0; i < c.dim; ++i) {
        const double hat = std::fabs(in[0][row + i]) * r, dy = std::fabs(in[3][row + i]);
        dx.magnitude[row + i] = r * (dy * std::fabs(in[1][i]) + hat * mixed);
        dw.magnitude[i] += dy * hat;
      }
    }
    return {dx, dw};
  }
  static support::limits limits(ds::dtype type, const row_case& c, bool) {
    return row_cases::with_oracle(row_cases::element_limits(type, 8), c.dim);
  }
  static support::limits backward_limits(ds::dtype type, const row_case& c, bool) {
    const std::size_t terms = std::max(c.dim, c.rows);
    return row_cases::with_oracle(support::doubled(support::gemm_limits(type, terms)), terms);
  }
};

template <class B>
void check_errors(const B& b) {
  using ds::error_code;
  float data[64] = {};
  const auto x = row_cases::shaped(data, 2, 4), wrong = row_cases::shaped(data, 3, 4);
  const ds::view<float, ds::host, ds::dyn> w(data, {4}), narrow(data, {3});
  const auto null = row_cases::shaped<float>(nullptr, 2, 4);
  const auto& op = ds::ops::rms_norm;
  CHECK_ERROR(error_code::shape_mismatch, "rms_norm: w[3]", "expected 4", op(b, x, narrow, x, eps));
  CHECK_ERROR(error_code::shape_mismatch, "rms_norm: y[3, 4]", "expected 2",
              op(b, x, w, wrong, eps));
  CHECK_ERROR(error_code::invalid_argument, "rms_norm: x[2, 4]", op(b, null, w, x, eps));
  CHECK_ERROR(error_code::invalid_argument, "eps is -1", op(b, x, w, x, -1.0));
  const auto& back = ds::ops::rms_norm_backward;
  const ds::rms_norm_inputs in{x, w};
  CHECK_ERROR(error_code::shape_mismatch, "dy[3, 4]",
              back(b, in, wrong, ds::rms_norm_gradients{x, w}, eps));
  CHECK_ERROR(error_code::shape_mismatch, "dx[3, 4]",
              back(b, in, x, ds::rms_norm_gradients{wrong, w}, eps));
  CHECK_ERROR(error_code::shape_mismatch, "dw[3]",
              back(b, in, x, ds::rms_norm_gradients{x, narrow}, eps));
  CHECK_ERROR(error_code::invalid_argument, "dx[2, 4]", "null",
              back(b, in, x, ds::rms_norm_gradients{null, w}, eps));
  CHECK_ERROR(error_code::invalid_argument, "eps is inf",
              back(b, in, x, ds::rms_norm_gradients{x, w}, HUGE_VAL));
  support::facet("rms_norm", "errors");
}

}  // namespace

TEST_CASE("rms_norm: reference") {
  row_cases::check_on_reference<rms_norm_test>();
}
TEST_CASE("rms_norm: cpu") {
  row_cases::check_on_cpu<rms_norm_test>();
}
TEST_CASE("rms_norm: errors") {
  check_errors(ds::reference{});
  check_errors(ds::cpu{});
}

TEST_CASE("rms_norm: golden values; tensors are borrowed, weights may be bf16") {
  namespace golden = oracle::golden::rms_norm;
  ds::tensor<float, ds::host, ds::dyn, 4> x({1, 4}), y({1, 4}), dx({1, 4});
  ds::tensor<ds::bf16, ds::host, 4> w;
  ds::tensor<float, ds::host, 4> dw;
  for (std::size_t i = 0; i < 4; ++i) {
    x.data()[i] = static_cast<float>(golden::x[i]);
    w.data()[i] = ds::bf16(golden::w[i]);
  }
  const ds::cpu cpu;
  ds::ops::rms_norm(cpu, x, w, y, golden::eps);
  for (std::size_t i = 0; i < 4; ++i) CHECK(y.data()[i] == doctest::Approx(golden::y[i]));
  ds::ops::rms_norm_backward(cpu, ds::rms_norm_inputs{x, w}, x, ds::rms_norm_gradients{dx, dw},
                             golden::eps);
  // dw = dy * xhat with dy = x.
  for (std::size_t i = 0; i < 4; ++i) {
    const double want = golden::x[i] * golden::y[i] / golden::w[i];
    CHECK(dw.data()[i] == doctest::Approx(want));
  }
}
TEST_CASE("rms_norm: bf16 rows beside weights and results of float") {
  constexpr ds::index_t rows = 3, dim = 45;
  ds::tensor<ds::bf16, ds::host, rows, dim> x, dy, dx;
  ds::tensor<float, ds::host, rows, dim> wide_x, wide_dy, y, want, want_dx;
  ds::tensor<float, ds::host, dim> w, dw, want_dw;
  for (ds::index_t i = 0; i < x.size(); ++i) {
    wide_x.data()[i] = x.data()[i] = ds::bf16(std::sin(static_cast<float>(i)));
    wide_dy.data()[i] = dy.data()[i] = ds::bf16(std::cos(2 * static_cast<float>(i)));
    w.data()[i % dim] = 1 + std::sin(3 * static_cast<float>(i));
  }
  const ds::cpu b;
  ds::ops::rms_norm(b, x, w, y, eps);
  ds::ops::rms_norm(b, wide_x, w, want, eps);
  ds::ops::rms_norm_backward(b, ds::rms_norm_inputs{x, w}, dy, ds::rms_norm_gradients{dx, dw}, eps);
  ds::ops::rms_norm_backward(b, ds::rms_norm_inputs{wide_x, w}, wide_dy,
                             ds::rms_norm_gradients{want_dx, want_dw}, eps);
  // A device gives the elements of a row to threads by their size: another order of the same sums.
  constexpr bool exact = !ds::RunsKernels<ds::cpu>;
  const auto agree = [](float got, float wanted) {
    return exact ? std::memcmp(&got, &wanted, sizeof got) == 0 : std::fabs(got - wanted) < 1e-5F;
  };
  for (ds::index_t i = 0; i < y.size(); ++i) CHECK(agree(y.data()[i], want.data()[i]));
  for (ds::index_t i = 0; i < dw.size(); ++i) CHECK(agree(dw.data()[i], want_dw.data()[i]));
  bool rounded = true;
  for (ds::index_t i = 0; i < dx.size(); ++i) {
    const float once = ds::bf16(want_dx.data()[i]), got = dx.data()[i];
    rounded = rounded && (exact ? got == once : std::fabs(got - once) <= 0.01F * std::fabs(once));
  }
  CHECK(rounded);
}
TEST_CASE_TEMPLATE("rms_norm: large results have the bits of rows alone", T, float, ds::bf16,
                   double) {
  constexpr ds::index_t n = 2045, stride = 2048, large = (33 << 20) / n / ds::index_t{sizeof(T)};
  constexpr ds::index_t rows = ds::RunsKernels<ds::cpu> ? 3 : large;  // a device has one way
  using matrix = ds::view<T, ds::host, ds::dyn, ds::dyn>;
  const ds::cpu b{{.threads = 2}};
  ds::tensor<T, ds::host, ds::dyn, ds::dyn> in({rows, stride}), out({rows, stride}), alone({1, n});
  ds::tensor<T, ds::host, n> w;
  for (ds::index_t i = 0; i < in.size(); ++i) {
    in.data()[i] = static_cast<T>(static_cast<float>(i * 7919 % 8009) / 1000.0F - 4);
  }
  for (ds::index_t i = 0; i < n; ++i)
    w.data()[i] = static_cast<T>(1 + 0.25F * static_cast<float>(i % 7));
  const matrix x(in.data(), {rows, n}, {stride, 1}), y(out.data(), {rows, n}, {stride, 1});
  ds::ops::rms_norm(b, x, w, y, eps);
  ds::index_t wrong = 0;
  for (ds::index_t r = 0; r < rows; ++r) {
    ds::ops::rms_norm(b, matrix(&x(r, 0), {1, n}), w, alone, eps);
    wrong += std::memcmp(alone.data(), &y(r, 0), sizeof(T) * n) != 0;
  }
  CHECK(wrong == 0);
}
TEST_CASE_TEMPLATE("rms_norm: no weight is a weight of ones", B, ds::reference, ds::cpu) {
  const B b;
  b.workspace().fill_with(0xff);
  ds::tensor<float, ds::host, 5, 33> x, dy, y, want, dx, want_dx;
  ds::tensor<float, ds::host, 33> ones, dw;
  for (ds::index_t i = 0; i < x.size(); ++i) {
    x.data()[i] = std::sin(static_cast<float>(i));
    dy.data()[i] = std::cos(2 * static_cast<float>(i));
  }
  for (ds::index_t i = 0; i < 33; ++i) ones.data()[i] = 1;
  ds::ops::rms_norm(b, x, ds::none{}, y, 1e-6);
  ds::ops::rms_norm(b, x, ones, want, 1e-6);
  ds::ops::rms_norm_backward(b, ds::rms_norm_inputs{x, ds::none{}}, dy,
                             ds::rms_norm_gradients{dx, ds::none{}}, 1e-6);
  ds::ops::rms_norm_backward(b, ds::rms_norm_inputs{x, ones}, dy,
                             ds::rms_norm_gradients{want_dx, dw}, 1e-6);
  CHECK(std::memcmp(y.data(), want.data(), sizeof(float) * 165) == 0);
  CHECK(std::memcmp(dx.data(), want_dx.data(), sizeof(float) * 165) == 0);
  CHECK(b.workspace().bytes_used() == 0);
}

TEST_CASE_TEMPLATE("rms_norm: rows whose squares overflow", T, float, ds::bf16, double) {
  const auto run = [](const auto& b, auto& r) {
    ds::ops::rms_norm(b, r.of(r.x), r.vector(r.w), r.of(r.y), 1e-20);
    ds::ops::rms_norm_backward(b, ds::rms_norm_inputs{r.of(r.x), r.vector(r.w)}, r.of(r.dy),
                               ds::rms_norm_gradients{r.of(r.dx), r.vector(r.dw)}, 1e-20);
  };
  const double largest = sizeof(T) == 8 ? 1e308 : 3e38;
  large_rows::check<T>({sizeof(T) == 8 ? 1e20 : 1e10, std::sqrt(largest), largest}, run);
}
TEST_CASE_TEMPLATE("rms_norm: an infinity or NaN is seen in its row", B, ds::reference, ds::cpu) {
  for (const float bad : {HUGE_VALF, std::nanf("")}) {
    large_rows::rows<float> r(70, 1e25);
    r.x[71] = bad;
    ds::ops::rms_norm(B{}, r.of(r.x), r.vector(r.w), r.of(r.y), 1e-20);
    CHECK(std::isnan(r.y[71]));
    CHECK(std::isfinite(r.y[69]));
    CHECK(std::fabs(r.y[140]) > 0);
  }
}
