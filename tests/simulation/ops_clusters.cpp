// SPDX-License-Identifier: Apache-2.0
// Rows that the blocks of a cluster share (held_rows.hpp): softmax, cross-entropy, divergences of
// 16385 to 131072 elements against the oracle, in every type; rows of one element more and devices
// without clusters read them again. A row has the same bits at any address, in any batch and run.
// On a GPU the device decides.
#include "deepseek/ops/cross_entropy.hpp"
#include "deepseek/ops/distillation.hpp"
#include "deepseek/ops/kl_divergence.hpp"
#include "deepseek/ops/softmax.hpp"

#include "simulation/cluster_rows.hpp"

#include "oracle/loss.hpp"

#include <limits>

using namespace cluster_rows;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();

// Of the largest cluster, of the others; odd lengths; a row that no cluster holds.
const std::vector<std::size_t> lengths = {16385, 16391, 32768, 32769, 65537, 102400, 131072};

// Logits with whole stretches of -inf, the maximum in the last stretch.
reals logits_of(std::size_t n) {
  reals x(rows * n);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = 3 * std::sin(7.0 * static_cast<double>(i)) + (i % n == n - 2 ? 9.0 : 0.0);
    if (i % n / 512 % 5 == 3) x[i] = -inf;
  }
  return x;
}
support::limits sparse(support::limits l) {  // -inf gives zeros
  l.zeros = 0.5;
  return l;
}

template <class T>
std::vector<T> softmax_of(const clusters& b, std::size_t n, layout how, const reals& x) {
  sheet<T> in(rows, n, how, x), out(rows, n, how);
  ds::ops::softmax(b, in.matrix(), out.matrix());
  CHECK(in.unchanged());
  CHECK(out.clean());
  ds::ops::softmax(b, in.matrix(), in.matrix());
  CHECK(support::same_bits(in.values(), out.values()));
  return out.values();
}
template <class T>
std::vector<T> softmax_gradient_of(const clusters& b, std::size_t n, layout how, const reals& p,
                                   const reals& g) {
  sheet<T> y(rows, n, how, p), dy(rows, n, how, g), dx(rows, n, how);
  ds::ops::softmax_backward(b, y.matrix(), dy.matrix(), dx.matrix());
  CHECK(y.unchanged());
  CHECK(dx.clean());
  ds::ops::softmax_backward(b, y.matrix(), dy.matrix(), dy.matrix());
  CHECK(support::same_bits(dy.values(), dx.values()));
  return dx.values();
}

template <class T>
void check_softmax(const clusters& b, std::size_t n, layout how) {
  const reals x = rounded<T>(logits_of(n));
  const std::string where = named<T>(n);
  const reals p = oracle::softmax(x, rows, n).p;
  std::vector<T> y;
  expect_clusters(b, 2, [&] { y = softmax_of<T>(b, n, how, x); });
  const auto limits = sparse(support::softmax_limits(type_of<T>, n));
  support::expect("softmax", where,
                  support::compare(limits, y, p, n, support::softmax_magnitude(x, p, n)));

  // Probabilities of size 1 and gradients beside them, so that 16 bits hold both.
  const reals weights = rounded<T>(support::loss_weights(rows * n));
  reals share(rows * n, 0.25);
  for (std::size_t i = 0; i < share.size(); i += 3) share[i] = 0.0625;
  const reals dx = oracle::softmax_backward(share, weights, n);
  std::vector<T> got;
  expect_clusters(b, 2, [&] { got = softmax_gradient_of<T>(b, n, how, share, weights); });
  support::expect(
      "softmax", "backward " + where,
      support::compare(support::doubled(support::gemm_limits(type_of<T>, n)), got, dx, n));
  if (how != layout::contiguous) {  // the same bits where rows move 16 bytes at a time
    CHECK(support::same_bits(softmax_of<T>(b, n, layout::contiguous, x), y));
    CHECK(
        support::same_bits(softmax_gradient_of<T>(b, n, layout::contiguous, share, weights), got));
  }
}

template <class T>
std::vector<T> loss_gradient_of(const clusters& b, std::size_t n, layout how, const reals& x,
                                ints targets) {
  sheet<std::int32_t> at(rows, 1, layout::contiguous, targets);
  sheet<T> logits(rows, n, how, x), dx(rows, n, how);
  const ds::cross_entropy_gradient_spec spec{.scale = 1024};
  ds::ops::cross_entropy_gradient(b, logits.matrix(), at.vector(), dx.matrix(), spec);
  CHECK(logits.unchanged());
  CHECK(dx.clean());
  ds::ops::cross_entropy_gradient(b, logits.matrix(), at.vector(), logits.matrix(), spec);
  CHECK(support::same_bits(logits.values(), dx.values()));
  return dx.values();
}

// One target in the last block's part, one row ignored.
template <class T>
void check_loss(const clusters& b, std::size_t n, layout how) {
  const reals x = rounded<T>(logits_of(n));
  std::size_t last = n - 1;
  while (x[n + last] == -inf) --last;
  const std::vector<ints> all = {{7, static_cast<std::int32_t>(last)},
                                 {-100, static_cast<std::int32_t>((n - 1) / 2560 * 2560)}};
  for (const ints& targets : all) {
    const auto want = oracle::cross_entropy(x, wide(targets), n);
    reals scaled = want.gradient;
    for (double& e : scaled) e *= 1024;
    std::vector<T> got;
    expect_clusters(b, 2, [&] { got = loss_gradient_of<T>(b, n, how, x, targets); });
    auto allowed = trusting(support::softmax_limits(type_of<T>, n));
    support::expect("cross_entropy_gradient", named<T>(n) + support::text(" target", targets[0]),
                    support::compare(allowed, got, scaled, rows * n));
    bool zeros = true;
    for (std::size_t i = 0; i < n; ++i) zeros = zeros && support::to_double(got[i]) == 0;
    CHECK(zeros == (targets[0] < 0));
    if (how != layout::contiguous) {
      CHECK(support::same_bits(loss_gradient_of<T>(b, n, layout::contiguous, x, targets), got));
    }
  }
}

// Of kl_divergence and distillation: p of rows that add up to 1, -inf in both rows alike.
template <class T>
struct pair_of_rows {
  sheet<T> p, x, y, dx;
  ints targets{5, -100};
  pair_of_rows(std::size_t n, layout how, const reals& shares, const reals& scores)
      : p(rows, n, how, shares),
        x(rows, n, how, scores),
        y(rows, n, how, logits_of(n)),
        dx(rows, n, how) {}

  // The losses, and the gradient of both ops one after the other.
  template <class B>
  std::pair<reals, reals> results(const B& b) {
    reals losses{ds::ops::kl_divergence(b, p.matrix(), x.matrix())}, gradients;
    const auto keep = [&] {
      CHECK((p.unchanged() && x.unchanged() && y.unchanged() && dx.clean()));
      for (const T& e : dx.values()) gradients.push_back(support::to_double(e));
    };
    ds::ops::kl_divergence_gradient(b, p.matrix(), x.matrix(), dx.matrix(), 1024);
    keep();
    sheet<std::int32_t> at(rows, 1, layout::contiguous, targets);
    const ds::distillation_inputs in{x.matrix(), y.matrix(), at.vector()};
    const ds::distillation_spec spec{.temperature = 3, .hard = 0.25};
    const auto of = ds::ops::distillation(b, in, spec);
    losses.insert(losses.end(), {of.mean, of.hard, of.soft});
    ds::ops::distillation_gradient(b, in, dx.matrix(), {.of = spec, .scale = 1024});
    keep();
    return {losses, gradients};
  }
};

// Beside the reference in double over the same values.
template <class T>
void check_divergences(const clusters& b, std::size_t n, layout how) {
  reals x = logits_of(n), p(rows * n);
  for (std::size_t i = 0; i < x.size(); ++i) {
    p[i] = x[i] == -inf || i % 7 == 0 ? 0 : (2 + std::sin(5.0 * static_cast<double>(i))) / 1024;
    if (x[i] != -inf) x[i] = std::cos(static_cast<double>(i));
  }
  x = rounded<T>(x);
  p = rounded<T>(p);
  pair_of_rows<T> mine(n, how, p, x);
  pair_of_rows<double> exact(n, layout::contiguous, p, x);
  exact.y = sheet<double>(rows, n, layout::contiguous, rounded<T>(logits_of(n)));
  std::pair<reals, reals> got;
  expect_clusters(b, 4, [&] { got = mine.results(b); });
  const auto expected = exact.results(ds::reference{});
  const auto &losses = expected.first, &gradients = expected.second;
  support::limits l = trusting(support::softmax_limits(type_of<T>, n));
  l.c = -1;
  support::expect("kl_divergence", named<T>(n),
                  support::compare(l, got.second, gradients, gradients.size() / 2));
  for (std::size_t i = 0; i < losses.size(); ++i) {
    const bool near = std::fabs(got.first[i] - losses[i]) <= 1e-4 * std::fabs(losses[i]);
    CHECK_MESSAGE(
        near, support::text(named<T>(n) + " loss", i, "is", got.first[i], "expected", losses[i]));
  }
}

}  // namespace

TEST_CASE("clusters: softmax of rows that blocks share, and its backward") {
  const clusters b;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    every_type(i,
               [&](auto type, layout how) { check_softmax<decltype(type)>(b, lengths[i], how); });
  }
  facets("softmax", {"forward"});
}

TEST_CASE("clusters: the gradient of cross-entropy") {
  const clusters b;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    every_type(i, [&](auto type, layout how) { check_loss<decltype(type)>(b, lengths[i], how); });
  }
  facets("cross_entropy", {"gradient"});
}

TEST_CASE("clusters: divergences and distillation") {
  const clusters b;
  for (const std::size_t n : {16386U, 40001U, 131072U}) {
    every_type(n % 4, [&](auto type, layout how) { check_divergences<decltype(type)>(b, n, how); });
  }
  facets("kl_divergence", {"gradient"});
}

TEST_CASE("clusters: rows without any finite element, with NaN and +inf") {
  const clusters b;
  constexpr std::size_t n = 40000;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  reals x(4 * n, -inf);
  x[n + 39999] = -7;
  x[2 * n + 20001] = nan;
  x[3 * n + 39998] = inf;
  sheet<float> in(4, n, layout::contiguous, x), p(4, n, layout::contiguous),
      dx(4, n, layout::contiguous);
  sheet<std::int32_t> at(4, 1, layout::contiguous, ints{1, 39999, 3, 4});
  expect_clusters(b, 2, [&] {
    ds::ops::softmax(b, in.matrix(), p.matrix());
    ds::ops::cross_entropy_gradient(b, in.matrix(), at.vector(), dx.matrix());
  });
  const auto y = p.values(), g = dx.values();
  bool right = true;
  for (std::size_t i = 0; i < n; ++i) {
    right = right && y[i] == 0 && y[n + i] == (i == 39999 ? 1.0F : 0.0F) &&
            std::isnan(y[2 * n + i]) && std::isnan(y[3 * n + i]);
    right = right && std::isnan(g[i]) && g[n + i] == 0 && std::isnan(g[2 * n + i]) &&
            std::isnan(g[3 * n + i]);
  }
  support::expect_true("softmax", "clusters, infinities", right, "a row is wrong");
}

TEST_CASE("clusters: the same bits alone, again and in any batch") {
  const clusters b;
  for (const std::size_t n : {20000U, 129280U}) {
    const reals x = logits_of(n);
    const reals second(x.begin() + static_cast<std::ptrdiff_t>(n), x.end());
    sheet<float> in(rows, n, layout::contiguous, x), out(rows, n, layout::contiguous),
        again(rows, n, layout::contiguous), alone(1, n, layout::contiguous, second);
    ds::ops::softmax(b, in.matrix(), out.matrix());
    ds::ops::softmax(b, in.matrix(), again.matrix());
    ds::ops::softmax(b, alone.matrix(), alone.matrix());
    const auto all = out.values(), one = alone.values();
    CHECK(support::same_bits(all, again.values()));
    CHECK(support::same_bits(
        std::vector<float>(all.begin() + static_cast<std::ptrdiff_t>(n), all.end()), one));
  }
}

#if !defined(__CUDACC__)
namespace {
struct small_clusters : ds::cpu {
  static int largest_cluster() { return 2; }
};
}  // namespace

TEST_CASE("clusters: rows that no cluster of the device holds are read again") {
  const clusters most;
  const small_clusters two;
  const ds::cpu none;
  const auto launches = [](const auto& b, std::size_t n) {
    sheet<float> in(1, n, layout::contiguous, plain_rows<float>(n, 0.1));
    const ds::index_t before = b.launches_of_clusters();
    ds::ops::softmax(b, in.matrix(), in.matrix());
    CHECK(in.clean());
    return b.launches_of_clusters() - before;
  };
  CHECK(launches(most, 16384) == 0);
  CHECK(launches(most, 131072) == 1);
  CHECK(launches(most, 131073) == 0);
  CHECK(launches(two, 32768) == 1);
  CHECK(launches(two, 32769) == 0);
  CHECK(launches(none, 20000) == 0);
}
#endif
