// SPDX-License-Identifier: Apache-2.0
// layer_norm and its backward against the oracle, differences and their contract.
#include "deepseek/ops/layer_norm.hpp"

#include "deepseek/backend/cpu/layer_norm.hpp"
#include "deepseek/backend/reference/layer_norm.hpp"

#include "ops/large_rows.hpp"
#include "ops/row_cases.hpp"
#include "oracle/norm.hpp"

namespace ds = deepseek;
using row_cases::reals;
using row_cases::result;
using row_cases::row_case;

namespace {

constexpr double eps = 1e-6;

struct layer_norm_test {
  static constexpr const char* name = "layer_norm";
  static std::vector<int> inputs() { return {2, 1, 1}; }

  template <class B, class From, class To>
  static void forward(const B& b, From& in, To& out) {
    ds::ops::layer_norm(b, in[0].matrix(), ds::layer_norm_affine{in[1].vector(), in[2].vector()},
                        out[0].matrix(), eps);
  }
  template <class B, class Grids>
  static void backward(const B& b, Grids& in, Grids& out) {
    backward(b, in, out, out[0]);
  }
  template <class B, class Grids, class DX>
  static void backward(const B& b, Grids& in, Grids& out, DX& dx) {
    const ds::layer_norm_gradients to{dx.matrix(), out[1].vector(), out[2].vector()};
    ds::ops::layer_norm_backward(b, ds::layer_norm_inputs{in[0].matrix(), in[1].vector()},
                                 in[4].matrix(), to, eps);
  }

  // Statistics of a row in double; x and the mean count with their full size, since their
  // difference cancels.
  struct row_of {
    double r, size, mean;
  };
  static row_of statistics(const double* x, std::size_t n) {
    double mean = 0, variance = 0, size = 0;
    const double count = static_cast<double>(n);
    for (std::size_t i = 0; i < n; ++i) mean += x[i] / count;
    for (std::size_t i = 0; i < n; ++i) {
      variance += (x[i] - mean) * (x[i] - mean) / count;
      size += std::fabs(x[i]) / count;
    }
    return {1 / std::sqrt(variance + eps), size, mean};
  }
  static double hat(const row_of& s, double x) { return (std::fabs(x) + s.size) * s.r; }

  static result expected(const std::vector<reals>& in, const row_case& c) {
    result y{oracle::layer_norm(in[0], in[1], in[2], eps), reals(c.rows * c.dim)};
    for (std::size_t row = 0; row < c.rows * c.dim; row += c.dim) {
      const row_of s = statistics(&in[0][row], c.dim);
      for (std::size_t i = 0; i < c.dim; ++i) {
        y.magnitude[row + i] = std::fabs(in[1][i]) * hat(s, in[0][row + i]) + std::fabs(in[2][i]);
      }
    }
    return y;
  }
  static std::vector<result> expected_backward(const std::vector<reals>& in, const row_case& c) {
    const auto g = oracle::layer_norm_backward(in[0], in[1], in[4], eps);
    result dx{g.dx, reals(g.dx.size())}, dw{g.dw, reals(c.dim)}, db{g.db, reals(c.dim)};
    for (std::size_t row = 0; row < c.rows * c.dim; row += c.dim) {
      const row_of s = statistics(&in[0][row], c.dim);
      double plain = 0, mixed = 0;
      for (std::size_t i = 0; i < c.dim; ++i) {
        const double share = std::fabs(in[4][row + i] * in[1][i]) / static_cast<double>(c.dim);
        plain += share;
        mixed += share * hat(s, in[0][row + i]);
      }
      for (std::size_t i = 0; i < c.dim; ++i) {
        const double h = hat(s, in[0][row + i]), dy = std::fabs(in[4][row + i]);
        dx.magnitude[row + i] = s.r * (dy * std::fabs(in[1][i]) + plain + h * mixed);
        dw.magnitude[i] += dy * h;
        db.magnitude[i] += dy;
      }
    }
    return {dx, dw, db};
  }
  static support::limits limits(ds::dtype type, const row_case& c, bool) {
    return level(row_cases::with_oracle(support::gemm_limits(type, c.dim), c.dim), c);
  }
  static support::limits backward_limits(ds::dtype type, const row_case& c, bool) {
    const std::size_t terms = std::max(c.dim, c.rows);
    const auto forward = support::doubled(support::gemm_limits(type, terms));
    return level(row_cases::with_oracle(forward, terms), c);
  }
  // Where all x are equal, what is left is the error of the mean, the same in each element.
  static support::limits level(support::limits l, const row_case& c) {
    if (c.kind == support::values::all_equal) l.depth = 1;
    return l;
  }
};

template <class B>
void check_errors(const B& b) {
  using ds::error_code;
  float data[64] = {};
  const auto x = row_cases::shaped(data, 2, 4), wrong = row_cases::shaped(data, 3, 4);
  const ds::view<float, ds::host, ds::dyn> w(data, {4}), narrow(data, {3});
  const auto null = row_cases::shaped<float>(nullptr, 2, 4);
  const auto& op = ds::ops::layer_norm;
  const ds::layer_norm_affine good{w, w};
  CHECK_ERROR(error_code::shape_mismatch, "layer_norm: w[3]", "expected 4",
              op(b, x, ds::layer_norm_affine{narrow, w}, x, eps));
  CHECK_ERROR(error_code::shape_mismatch, "layer_norm: bias[3]", "expected 4",
              op(b, x, ds::layer_norm_affine{w, narrow}, x, eps));
  CHECK_ERROR(error_code::shape_mismatch, "layer_norm: y[3, 4]", op(b, x, good, wrong, eps));
  CHECK_ERROR(error_code::invalid_argument, "layer_norm: x[2, 4]", op(b, null, good, x, eps));
  CHECK_ERROR(error_code::invalid_argument, "eps is nan", op(b, x, good, x, std::nan("")));
  const auto& back = ds::ops::layer_norm_backward;
  const ds::layer_norm_inputs in{x, w};
  CHECK_ERROR(error_code::shape_mismatch, "dy[3, 4]",
              back(b, in, wrong, ds::layer_norm_gradients{x, w, w}, eps));
  CHECK_ERROR(error_code::shape_mismatch, "dx[3, 4]",
              back(b, in, x, ds::layer_norm_gradients{wrong, w, w}, eps));
  CHECK_ERROR(error_code::shape_mismatch, "dw[3]",
              back(b, in, x, ds::layer_norm_gradients{x, narrow, w}, eps));
  CHECK_ERROR(error_code::shape_mismatch, "dbias[3]",
              back(b, in, x, ds::layer_norm_gradients{x, w, narrow}, eps));
  CHECK_ERROR(error_code::invalid_argument, "dx[2, 4]", "null",
              back(b, in, x, ds::layer_norm_gradients{null, w, w}, eps));
  support::facet("layer_norm", "errors");
}

}  // namespace

TEST_CASE("layer_norm: reference") {
  row_cases::check_on_reference<layer_norm_test>();
}
TEST_CASE("layer_norm: cpu") {
  row_cases::check_on_cpu<layer_norm_test>();
}
TEST_CASE("layer_norm: errors") {
  check_errors(ds::reference{});
  check_errors(ds::cpu{});
}

TEST_CASE("layer_norm: a large mean does not hide a small deviation") {
  ds::tensor<float, ds::host, ds::dyn, 4> x({1, 4}), y({1, 4});
  ds::tensor<float, ds::host, 4> w, bias;
  for (int i = 0; i < 4; ++i) {
    x.data()[i] = 4096.0F + static_cast<float>(i % 2);
    w.data()[i] = 1;
  }
  const auto check = [&](const auto& b) {
    ds::ops::layer_norm(b, x, ds::layer_norm_affine{w, bias}, y, 0.0);
    for (int i = 0; i < 4; ++i) CHECK(y.data()[i] == (i % 2 == 0 ? -1.0F : 1.0F));
  };
  check(ds::reference{});
  check(ds::cpu{});
}

TEST_CASE_TEMPLATE("layer_norm: rows whose squares, or whose sum, overflow", T, float, ds::bf16,
                   double) {
  const auto run = [](const auto& b, auto& r) {
    const ds::layer_norm_affine affine{r.vector(r.w), r.vector(r.more)};
    ds::ops::layer_norm(b, r.of(r.x), affine, r.of(r.y), 1e-20);
    if (r.n == 1) r.y = {T(1), T(1), T(1)};  // what stands alone is its mean
    ds::ops::layer_norm_backward(
        b, ds::layer_norm_inputs{r.of(r.x), r.vector(r.w)}, r.of(r.dy),
        ds::layer_norm_gradients{r.of(r.dx), r.vector(r.dw), r.vector(r.more)}, 1e-20);
  };
  const double largest = sizeof(T) == 8 ? 1e308 : 3e38;
  large_rows::check<T>({sizeof(T) == 8 ? 1e20 : 1e10, std::sqrt(largest), largest / 2}, run);
}
TEST_CASE_TEMPLATE("layer_norm: a row of one large number has no deviation", B, ds::reference,
                   ds::cpu) {
  large_rows::rows<float> r(64, 1);
  r.x.assign(r.x.size(), 0x1.8p127F);
  r.more.assign(r.more.size(), 0.75F);
  ds::ops::layer_norm(B{}, r.of(r.x), ds::layer_norm_affine{r.vector(r.w), r.vector(r.more)},
                      r.of(r.y), 1e-6);
  for (const float y : r.y) CHECK(y == 0.75F);
}
