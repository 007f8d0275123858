// SPDX-License-Identifier: Apache-2.0
// sinkhorn against its oracle, the golden matrix, differences through every iteration, strides,
// large logits, errors; the same bits for any number of threads.
#include "deepseek/ops/sinkhorn.hpp"

#include "deepseek/backend/cpu/hyper_maps.hpp"
#include "deepseek/backend/reference/sinkhorn.hpp"
#include "oracle/golden.hpp"
#include "oracle/hyper_connection.hpp"
#include "support/gradient.hpp"
#include "support/poison.hpp"
#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;
using oracle::reals;

namespace {

struct shape {
  ds::index_t count, n;
  ds::sinkhorn_spec spec = {};
  ds::index_t gap = 0;  // between rows of a matrix
};
const shape shapes[] = {{1, 1},       {3, 2}, {17, 4}, {5, 3, {1, 1e-6}}, {9, 4, {3, 0}, 3},
                        {2, 7, {}, 1}};

std::string text(const shape& s, std::string_view backend) {
  return std::string(backend) + support::text(" matrices", s.count, "n", s.n, "iterations",
                                              s.spec.iterations, "gap", s.gap);
}
// Guarded memory with NaN in the gaps between rows.
template <class T>
struct matrices {
  shape s;
  support::guarded<T> memory;
  explicit matrices(const shape& of)
      : s(of), memory(static_cast<std::size_t>(of.count * of.n * (of.n + of.gap))) {}
  ds::view<T, ds::host, ds::dyn, ds::dyn, ds::dyn> view() {
    const ds::index_t row = s.n + s.gap;
    return {memory.data(), {s.count, s.n, s.n}, {s.n * row, row, 1}};
  }
  void set(const reals& from) {
    for (std::size_t i = 0; i < from.size(); ++i) element(i) = static_cast<T>(from[i]);
    memory.remember();
  }
  std::vector<T> values() {
    std::vector<T> out;
    for (ds::index_t i = 0; i < s.count * s.n * s.n; ++i) {
      out.push_back(element(static_cast<std::size_t>(i)));
    }
    return out;
  }
  T& element(std::size_t i) {
    const auto at = static_cast<ds::index_t>(i);
    return view()(at / (s.n * s.n), at / s.n % s.n, at % s.n);
  }
};

reals logits_of(const shape& s) {
  reals x = support::loss_weights(static_cast<std::size_t>(s.count * s.n * s.n), 11);
  for (double& e : x) e *= 1.5;
  return x;
}

template <class T, class B>
void forward(const B& b, const shape& s) {
  matrices<T> x(s), y(s);
  x.set(support::rounded_to<T>(logits_of(s)));
  ds::ops::sinkhorn(b, x.view(), y.view(), s.spec);
  const reals want = oracle::sinkhorn(support::to_double(x.values()), static_cast<std::size_t>(s.n),
                                      static_cast<int>(s.spec.iterations), s.spec.eps);
  // Each of 2 t divisions multiplies by 1 + 2 u and more; sums of n numbers.
  auto limits = support::gemm_limits(ds::dtype_of<T>, 64);
  limits.trust_equal = s.n == 1;
  support::expect("sinkhorn", text(s, b.name()),
                  support::compare(limits, y.values(), want, static_cast<std::size_t>(s.n)));
  CHECK((x.memory.unchanged() && y.memory.intact()));
}

template <class B>
void gradient(const B& b, const shape& s) {
  matrices<double> x(s), y(s), dy(s), dx(s);
  const reals at = logits_of(s), w = support::loss_weights(at.size());
  x.set(at), dy.set(w);
  ds::ops::sinkhorn_backward(b, x.view(), dy.view(), dx.view(), s.spec);
  const auto loss = [&](const reals& values) {
    x.set(values);
    ds::ops::sinkhorn(b, x.view(), y.view(), s.spec);
    return support::weighted_sum(w, support::to_double(y.values()));
  };
  support::expect_gradient("sinkhorn", text(s, b.name()),
                           support::check_gradient(loss, at, dx.values()));
  CHECK((dx.memory.intact() && dy.memory.unchanged()));
  // dx over dy
  x.set(at);
  ds::ops::sinkhorn_backward(b, x.view(), dy.view(), dy.view(), s.spec);
  CHECK(support::same_bits(dy.values(), dx.values()));
}

template <class B>
void errors(const B& b) {
  using ds::error_code;
  double data[32] = {};
  using view = ds::view<double, ds::host, ds::dyn, ds::dyn, ds::dyn>;
  const view x(data, {2, 3, 3}), oblong(data, {2, 3, 4}), null(nullptr, {2, 3, 3});
  const auto& op = ds::ops::sinkhorn;
  CHECK_ERROR(error_code::shape_mismatch, "sinkhorn: x[2, 3, 4]", op(b, oblong, oblong, {}));
  CHECK_ERROR(error_code::shape_mismatch, "sinkhorn: y[2, 3, 4]", op(b, x, oblong, {}));
  CHECK_ERROR(error_code::invalid_argument, "sinkhorn: y[2, 3, 3]", op(b, x, null, {}));
  CHECK_ERROR(error_code::invalid_argument, "iterations is 0", op(b, x, x, {.iterations = 0}));
  CHECK_ERROR(error_code::invalid_argument, "eps is -1", op(b, x, x, {.eps = -1}));
  CHECK_ERROR(error_code::shape_mismatch, "dy[2, 3, 4]",
              ds::ops::sinkhorn_backward(b, x, oblong, x, {}));
  CHECK_ERROR(error_code::invalid_argument, "sinkhorn_backward: dx",
              ds::ops::sinkhorn_backward(b, x, x, null, {}));
  op(b, view(data, {0, 3, 3}), view(data, {0, 3, 3}), {});
  op(b, view(data, {3, 0, 0}), view(data, {3, 0, 0}), {});
  ds::ops::sinkhorn_backward(b, view(data, {0, 3, 3}), view(data, {0, 3, 3}), view(data, {0, 3, 3}),
                             {});
  for (double e : data) CHECK(e == 0);
  support::facet("sinkhorn", "errors");
  support::facet("sinkhorn", "zero");
}

}  // namespace

TEST_CASE_TEMPLATE("sinkhorn: against the oracle; gradients", B, ds::reference, ds::cpu) {
  const B b;
  b.workspace().fill_with(0xff);
  for (const shape& s : shapes) {
    forward<double>(b, s);
    forward<float>(b, s);
    if (s.n > 1 && s.count * s.n * s.n <= 200) gradient(b, s);
  }
  forward<ds::bf16>(b, shapes[2]);
  forward<ds::f16>(b, shapes[2]);
  support::facet("sinkhorn", "forward");
  support::facet("sinkhorn", "strides");
  errors(b);
}

TEST_CASE("sinkhorn: golden matrix; large logits; the sums of rows and columns") {
  const ds::reference b;
  const shape two{1, 2};
  matrices<double> x(two), y(two);
  x.set(oracle::golden::sinkhorn::logits);
  ds::ops::sinkhorn(b, x.view(), y.view(), {});
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(std::fabs(y.values()[i] - oracle::golden::sinkhorn::y[i]) < 1e-9);
  }
  const shape four{8, 4};
  matrices<double> large(four), sums(four);
  reals far = logits_of(four);
  for (double& e : far) e = e * 3 + 5000;
  large.set(far);
  ds::ops::sinkhorn(b, large.view(), sums.view(), {.iterations = 200});
  const auto v = sums.view();
  for (ds::index_t t = 0; t < 8; ++t) {
    for (ds::index_t i = 0; i < 4; ++i) {
      double row = 0, column = 0;
      for (ds::index_t j = 0; j < 4; ++j) row += v(t, i, j), column += v(t, j, i);
      CHECK(std::fabs(row - 1) < 1e-3);
      CHECK(std::fabs(column - 1) < 1e-3);
    }
  }
}

TEST_CASE("sinkhorn: the bits do not depend on threads or on the other matrices") {
  const shape s{41, 4};
  matrices<float> x(s), y(s), dx(s);
  x.set(logits_of(s));
  std::vector<float> first;
  for (const int threads : {1, 2, 3}) {
    const ds::cpu b({.threads = threads});
    ds::ops::sinkhorn(b, x.view(), y.view(), {});
    ds::ops::sinkhorn_backward(b, x.view(), x.view(), dx.view(), {});
    auto now = y.values(), back = dx.values();
    now.insert(now.end(), back.begin(), back.end());
    if (first.empty()) first = now;
    CHECK(support::same_bits(first, now));
    const auto last = ds::rows(y.view(), 40, 1);
    ds::ops::sinkhorn(b, ds::rows(x.view(), 40, 1), last, {});
    CHECK(
        support::same_bits(std::vector<float>(first.begin(), first.begin() + 41 * 16), y.values()));
  }
}
