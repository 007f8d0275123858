// SPDX-License-Identifier: Apache-2.0
// cross_entropy, its mean and gradient against the oracle; ignored rows, bad targets, infinities.
#include "deepseek/ops/cross_entropy.hpp"

#include "deepseek/backend/cpu/cross_entropy.hpp"

#include "ops/table.hpp"
#include "oracle/loss.hpp"

#include <algorithm>
#include <limits>

using namespace table;

namespace {

constexpr const char* op = "cross_entropy";

// About a quarter of the targets is ignored.
ints drawn_targets(const shape_case& c) {
  ints out = drawn_ids(c, c.rows, c.columns, " targets");
  const ints coin = drawn_ids(c, c.rows, 4, " coin");
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = coin[i] == 0 ? -100 : out[i];
  return out;
}

// What rounding may cost: the loss counts its distance from the maximum, each share its own. In
// double the oracle itself errs by the rounding of its log-sum-exp.
struct magnitudes {
  reals losses, gradient;
};
magnitudes magnitudes_of(const reals& x, const ints& targets, std::size_t n,
                         const oracle::loss_result& want, ds::dtype type) {
  magnitudes out{reals(targets.size()), reals(x.size())};
  const double terms = 8 + 2 * std::sqrt(static_cast<double>(n));
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (targets[i] < 0) continue;
    const auto row = x.begin() + static_cast<std::ptrdiff_t>(i * n);
    const double most = *std::max_element(row, row + static_cast<std::ptrdiff_t>(n));
    const double oracle_error = type == ds::dtype::f64 ? 2 * std::fabs(most) : 0;
    const auto target = static_cast<std::size_t>(targets[i]);
    out.losses[i] =
        (std::fabs(most - x[i * n + target]) + std::log(static_cast<double>(n)) + 2) * terms +
        oracle_error;
    for (std::size_t v = 0; v < n; ++v) {
      const double hot = v == target ? 1 / static_cast<double>(want.counted) : 0;
      out.gradient[i * n + v] =
          (std::fabs(want.gradient[i * n + v]) + hot) * (most - x[i * n + v] + terms) + 2 * hot;
    }
  }
  return out;
}

support::limits limits(ds::dtype type, double relative) {
  support::limits l = support::gemm_limits(type, 1);
  l.c = 2;
  l.relative *= relative;
  return l;
}

template <class T, class B>
std::vector<T> check(const B& b, const shape_case& c) {
  const reals x = drawn<T>(c, c.size(), " logits");
  const ints targets = drawn_targets(c);
  const auto want = oracle::cross_entropy(x, wide(targets), c.columns);
  const magnitudes size = magnitudes_of(x, targets, c.columns, want, type_of<T>);
  sheet<std::int32_t> at(c.rows, 1, c.how, targets);
  sheet<T> logits(c.rows, c.columns, c.how, x), losses(c.rows, 1, c.how),
      dlogits(c.rows, c.columns, c.how), aliased(c.rows, c.columns, c.how, x);
  const auto got = ds::ops::cross_entropy(b, logits.matrix(), at.vector(), losses.vector());
  // A loss near zero is the difference of two equal logits: judged by size, not by its own norm.
  double sum = 0, norm = 0, slack = 0;
  for (std::size_t i = 0; i < size.losses.size(); ++i) {
    sum += size.losses[i];
    norm += want.per_token[i] * want.per_token[i];
    slack += size.losses[i] * size.losses[i];
  }
  judge(op, where<T>(b, c), limits(type_of<T>, 2 * std::sqrt(slack / std::max(norm, 1e-300))),
        want.per_token, losses.values(), c.rows, size.losses);
  const double unit = ds::unit_roundoff<ds::accumulate_t<T>>;
  support::expect_true(op, "mean " + where<T>(b, c),
                       got.counted == static_cast<ds::index_t>(want.counted) &&
                           std::fabs(got.mean - want.loss) <= 2 * unit * (sum + 1),
                       support::text("mean", got.mean, "expected", want.loss));
  ds::ops::cross_entropy_gradient(b, logits.matrix(), at.vector(), dlogits.matrix());
  judge(op, "gradient " + where<T>(b, c), limits(type_of<T>, 1e4), want.gradient, dlogits.values(),
        c.columns, size.gradient);
  ds::ops::cross_entropy_gradient(b, aliased.matrix(), at.vector(), aliased.matrix());
  support::expect_true(
      op, "alias and memory " + where<T>(b, c),
      support::same_bits(aliased.values(), dlogits.values()) && at.unchanged() &&
          logits.unchanged() && losses.clean() && dlogits.clean() && aliased.clean(),
      "dlogits over logits differs, or an input or memory around an output was written");
  return joined(losses.values(), dlogits.values());
}

template <class B>
void check_gradient(const B& b, const shape_case& c) {
  const reals x = drawn<double>(c, c.size(), " logits");
  const ints targets = drawn_targets(c);
  sheet<std::int32_t> at(c.rows, 1, c.how, targets);
  const auto loss = [&](const reals& moved) {
    sheet<double> logits(c.rows, c.columns, c.how, moved), losses(c.rows, 1, c.how);
    return 3 * ds::ops::cross_entropy(b, logits.matrix(), at.vector(), losses.vector()).mean;
  };
  sheet<double> dx(c.rows, c.columns, c.how, x);
  ds::ops::cross_entropy_gradient(b, dx.matrix(), at.vector(), dx.matrix(), {.scale = 3});
  support::expect_gradient(op, c.text(), support::check_gradient(loss, x, dx.values()));
}

template <class T, class B>
void check_special(const B& b) {
  constexpr T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  const std::size_t n = 37;
  std::vector<T> x(8 * n, T(1));
  for (std::size_t v = 0; v < n; ++v) {
    x[v] = v == 5 ? nan : T(1);
    x[n + v] = -inf;
    x[2 * n + v] = v == 36 ? inf : T(0);
    x[3 * n + v] = v == 3 ? T(2) : -inf;
    x[4 * n + v] = nan;
    x[5 * n + v] = v == 0 ? nan : T(-1);
    x[6 * n + v] = T(1e4);
  }
  ints targets(8, 3);
  targets[4] = 7;  // the ignored value of this call
  sheet<std::int32_t> at(8, 1, layout::contiguous, targets);
  sheet<T> logits(8, n, layout::padded, x), losses(8, 1, layout::contiguous),
      dx(8, n, layout::padded);
  const auto got =
      ds::ops::cross_entropy(b, logits.matrix(), at.vector(), losses.vector(), {.ignore = 7});
  ds::ops::cross_entropy_gradient(b, logits.matrix(), at.vector(), dx.matrix(), {.ignore = 7});
  const auto l = losses.values(), g = dx.values();
  bool right = std::isnan(l[0]) && std::isnan(l[1]) && std::isnan(l[2]) && l[3] == 0 && l[4] == 0 &&
               std::isnan(l[5]) && std::fabs(l[6] - T(std::log(37.0))) < T(1e-5) &&
               got.counted == 7 && std::isnan(got.mean);
  for (std::size_t v = 0; v < n; ++v) {
    right = right && std::isnan(g[v]) && std::isnan(g[n + v]) && g[3 * n + v] == 0 &&
            g[4 * n + v] == 0 && std::isnan(g[5 * n + v]) && std::isfinite(g[6 * n + v]);
  }
  support::expect_true(op, std::string(b.name()) + " infinities", right,
                       "a NaN or infinity is not where it belongs");
}

}  // namespace

TEST_CASE("cross_entropy: table of cases") {
  for (const shape_case& c :
       shape_cases({1, 3, 17, 63, 64, 65, 130}, {1, 2, 7, 15, 16, 17, 33, 100, 256, 257})) {
    everywhere(op, c.text(), [&](const auto& b, auto type) { return check<decltype(type)>(b, c); });
  }
  facets(op, {"forward", "strides"});
}

TEST_CASE("cross_entropy: gradient by differences") {
  on_both([](const auto& b) {
    for (layout how : {layout::contiguous, layout::padded, layout::transposed}) {
      check_gradient(b, {7, 9, 0, how});
      check_gradient(b, {5, 20, 0, how});
    }
  });
  facets(op, {"gradient"});
}

TEST_CASE("cross_entropy: NaN and infinity, mixed types, counted") {
  on_both([](const auto& b) {
    check_special<float>(b);
    check_special<double>(b);
    const shape_case c{20, 33};
    const reals x = drawn<ds::bf16>(c, c.size(), " logits");
    const ints targets = drawn_targets(c);
    auto want = oracle::cross_entropy(x, wide(targets), c.columns);
    sheet<std::int32_t> at(c.rows, 1, c.how, targets);
    sheet<ds::bf16> logits(c.rows, c.columns, c.how, x);
    sheet<float> losses(c.rows, 1, c.how), dx(c.rows, c.columns, c.how);
    ds::ops::cross_entropy(b, logits.matrix(), at.vector(), losses.vector());
    judge(op, "bf16 logits", limits(ds::dtype::f32, 20), want.per_token, losses.values(), c.rows);
    ds::ops::cross_entropy_gradient(b, logits.matrix(), at.vector(), dx.matrix(),
                                    {.scale = 4, .counted = 200});
    for (double& e : want.gradient) e *= 4 * static_cast<double>(want.counted) / 200;
    judge(op, "counted", limits(ds::dtype::f32, 20), want.gradient, dx.values(), c.columns);
  });
}

TEST_CASE("cross_entropy: zero sizes and errors") {
  on_both([](const auto& b) {
    ds::tensor<float, ds::host, ds::dyn, ds::dyn> x({2, 3}), dx({2, 3}), wrong({2, 4}),
        none({0, 3});
    ds::tensor<float, ds::host, ds::dyn> losses({2}), no_losses({0});
    ds::tensor<std::int32_t, ds::host, ds::dyn> targets({2}), no_targets({0});
    const auto empty = ds::ops::cross_entropy(b, none, no_targets, no_losses);
    ds::ops::cross_entropy_gradient(b, none, no_targets, none);
    targets.data()[0] = targets.data()[1] = -100;
    const auto ignored = ds::ops::cross_entropy(b, x, targets, losses);
    dx.data()[4] = 5;
    ds::ops::cross_entropy_gradient(b, x, targets, dx);
    support::expect_true(op, "zero",
                         empty.mean == 0 && empty.counted == 0 && ignored.mean == 0 &&
                             ignored.counted == 0 && dx.data()[4] == 0,
                         "no counted row does not give zeros");
    targets.data()[1] = 3;
    losses.data()[0] = 7;
    CHECK_ERROR(ds::error_code::index_range, "cross_entropy: targets[1] is 3", "0 .. 2", "-100",
                ds::ops::cross_entropy(b, x, targets, losses));
    CHECK(losses.data()[0] == 7);
    CHECK_ERROR(ds::error_code::index_range, "cross_entropy_gradient: targets[1] is 3",
                ds::ops::cross_entropy_gradient(b, x, targets, dx));
    targets.data()[1] = -1;
    CHECK_ERROR(ds::error_code::index_range, "targets[1] is -1",
                ds::ops::cross_entropy(b, x, targets, losses));
    CHECK_ERROR(ds::error_code::shape_mismatch, "dlogits[2, 4]", "expected 3",
                ds::ops::cross_entropy_gradient(b, x, targets, wrong));
    CHECK_ERROR(ds::error_code::shape_mismatch, "losses[0]", "expected 2",
                ds::ops::cross_entropy(b, x, targets, no_losses));
    CHECK_ERROR(ds::error_code::invalid_argument, "counted is -2",
                ds::ops::cross_entropy_gradient(b, x, targets, dx, {.counted = -2}));
  });
  facets(op, {"zero", "errors"});
}
