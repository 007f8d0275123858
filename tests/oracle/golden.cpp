// SPDX-License-Identifier: Apache-2.0
// The oracles against values computed by other means, and their gradients against differences of
// themselves.
#include "oracle/golden.hpp"
#include "oracle/activation.hpp"
#include "oracle/attention.hpp"
#include "oracle/embedding.hpp"
#include "oracle/gemm.hpp"
#include "oracle/loss.hpp"
#include "oracle/moe.hpp"
#include "oracle/norm.hpp"
#include "oracle/optimizer.hpp"
#include "oracle/quantized.hpp"
#include "oracle/rope.hpp"
#include "oracle/schedule.hpp"
#include "support/gradient.hpp"
#include "support/poison.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

namespace golden = oracle::golden;
using golden::reals;
using support::values;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

double farthest(const reals& y, const reals& r) {
  if (y.size() != r.size()) return infinity;
  double worst = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double error = std::fabs(y[i] - r[i]);
    worst = std::isnan(error) ? infinity : std::fmax(worst, error);
  }
  return worst;
}

reals normals(std::size_t n, const char* stream) {
  support::numbers from(stream);
  return support::draw(values::normal, n, from);
}

constexpr double nine_digits = 6e-10;

}  // namespace

TEST_CASE("rms_norm and rope") {
  namespace n = golden::rms_norm;
  CHECK(farthest(oracle::rms_norm(n::x, n::w, 4, n::eps), n::y) < nine_digits);
  namespace r = golden::rope;
  oracle::rope_shape shape;
  shape.dim = 4;
  CHECK(farthest(oracle::rope(r::x, {r::position}, shape), r::interleaved) < nine_digits);
  shape.layout = oracle::pairing::half;
  const reals turned = oracle::rope(r::x, {r::position}, shape);
  CHECK(farthest(turned, r::half) < nine_digits);
  shape.direction = -1;
  CHECK(farthest(oracle::rope(turned, {r::position}, shape), r::x) < 1e-14);
}

TEST_CASE("softmax gate and balance loss") {
  namespace g = golden::gate;
  oracle::gate_shape shape{1, 8, 2, oracle::gate_weights::as_they_are, 1};
  const auto plain = oracle::gate_top_k(g::logits, shape);
  CHECK(farthest(plain.probability, g::softmax) < nine_digits);
  CHECK(plain.ids == g::chosen);
  CHECK(farthest(plain.weights, g::weights) < nine_digits);
  const auto twice = oracle::gate_top_k(plain.probability, shape);
  CHECK(twice.ids == g::chosen);
  CHECK(farthest(twice.weights, g::twice) < nine_digits);
  shape.weights = oracle::gate_weights::divided_by_sum;
  CHECK(farthest(oracle::gate_top_k(g::logits, shape).weights, g::divided) < nine_digits);

  shape = {1, 8, 3, oracle::gate_weights::as_they_are, 16};
  shape.groups = 4, shape.top_groups = 2;
  CHECK(oracle::gate_top_k(g::logits, shape).ids == g::limited);
  CHECK(farthest(oracle::gate_top_k(g::logits, shape).weights, g::limited_weights) < 3e-9);
  shape = {1,       8, 3, oracle::gate_weights::divided_by_sum, 2.5, oracle::gate_scores::sigmoid,
           g::bias, 4, 2, oracle::group_rank::sum_of_two};
  const auto balanced = oracle::gate_top_k(g::logits, shape);
  CHECK(farthest(balanced.group_value, g::balanced_groups) < nine_digits);
  CHECK(balanced.ids == g::balanced);
  CHECK(farthest(balanced.weights, g::balanced_weights) < nine_digits);
  shape = {
      1,      8, 3, oracle::gate_weights::divided_by_sum, 1.5, oracle::gate_scores::sqrt_softplus,
      g::bias};
  CHECK(oracle::gate_top_k(g::logits, shape).ids == g::root);
  CHECK(farthest(oracle::gate_top_k(g::logits, shape).weights, g::root_weights) < nine_digits);

  namespace b = golden::balance;
  reals scores = b::scores;
  for (std::size_t t = 0; t < 3; ++t) {
    double sum = 0;
    for (std::size_t e = 0; e < 4; ++e) sum += b::scores[t * 4 + e];
    for (std::size_t e = 0; e < 4; ++e) scores[t * 4 + e] /= sum;
  }
  CHECK(oracle::top_k(scores, 3, 4, 2).ids == b::chosen);
  oracle::balance_shape divides{3, 4};
  divides.divided = true;
  CHECK(std::fabs(oracle::balance_loss(b::scores, b::chosen, divides).loss - b::loss) <
        nine_digits);
  const auto got = oracle::balance_loss(scores, b::chosen, {3, 4});
  CHECK(farthest(got.fraction, b::fraction) < 1e-14);
  CHECK(farthest(got.probability, b::probability) < nine_digits);
  CHECK(std::fabs(got.loss - b::loss) < nine_digits);
}

TEST_CASE_TEMPLATE("int8 linear", Real, float, double) {
  namespace g = golden::int8;
  const std::vector<Real> w(g::w.begin(), g::w.end()), x(g::x.begin(), g::x.end());
  const auto weights = oracle::quantize_weights(w, 4);
  CHECK(std::vector<int>(weights.codes.begin(), weights.codes.end()) == g::weight_codes);
  CHECK(std::fabs(static_cast<double>(weights.scales[0]) - g::weight_scale) < 1e-9);
  const auto range = oracle::range_of(x);
  CHECK(range.zero == g::zero);
  CHECK(std::fabs(static_cast<double>(range.scale) - g::activation_scale) < 1e-9);
  const auto codes = oracle::quantize_activations(x, range);
  CHECK(std::vector<int>(codes.begin(), codes.end()) == g::codes);
  CHECK(oracle::integer_products(codes, weights.codes, {1, 4, 1})[0] == g::product);
  const reals y = oracle::int8_linear(codes, range, weights, {}, {1, 4, 1});
  CHECK(std::fabs(y[0] - g::y) < 1e-7);
  CHECK(std::fabs(oracle::linear(g::x, g::w, {}, {1, 4, 1})[0] - g::exact) < 1e-12);
}

TEST_CASE("optimizers and schedule") {
  namespace g = golden::optimizer;
  oracle::optimizer_state a{1, 0, 0, 0}, l = a, m = a, s = a, n = a, c = a;
  const oracle::optimizer_rule adam{1e-3, .9, .999, 1e-8, .01, 0};
  const oracle::optimizer_rule lion{3e-5, .9, .99, 0, .01, 0};
  const oracle::optimizer_rule amf{1e-4, .9, .999, 1e-8, 0, .9};
  const oracle::optimizer_rule sgd{.1, 0, 0, 0, 0, .9};
  for (int t = 1; t <= 2; ++t) {
    const auto step = static_cast<std::size_t>(t - 1);
    const double gradient = g::gradients[step];
    oracle::adamw(a, gradient, t, adam);
    CHECK(std::fabs(a.p - g::adamw[step]) < 1e-12);
    oracle::lion(l, gradient, lion);
    CHECK(std::fabs(l.p - g::lion[step]) < 1e-12);
    oracle::amf(m, gradient, t, amf, oracle::amf_form::printed);
    CHECK(std::fabs(m.p - g::amf[step]) < 1e-12);
    oracle::amf(c, gradient, t, amf, oracle::amf_form::corrected);
    oracle::sgd(s, gradient, sgd);
    oracle::sgd(n, gradient, sgd, oracle::momentum_form::nesterov);
    if (t == 1) CHECK(std::fabs(c.p - (1 - 1e-4)) < 1e-11);  // corrected: a first step of lr
  }
  CHECK(std::fabs(l.m - g::lion_m) < 1e-15);
  // By hand: m = .5, .25; p = 1 - .05 - .025. Nesterov: .5 + .45, then -.2 + .9 * .25.
  CHECK(std::fabs(s.p - .925) < 1e-15);
  CHECK(std::fabs(n.p - (1 - .095 - .0025)) < 1e-15);
  for (std::size_t i = 0; i < golden::schedule::t.size(); ++i) {
    CHECK(std::fabs(oracle::learning_rate(golden::schedule::t[i], {}) - golden::schedule::lr[i]) <
          1e-19);
  }
}

TEST_CASE("softmax merge, alone and through attention") {
  namespace g = golden::merge;
  const double lse_of_two = std::log(std::exp(1.0) + std::exp(2.0));
  const double of_two = (std::exp(1.0) + 2 * std::exp(2.0)) / std::exp(lse_of_two);
  const auto merged = oracle::merge({of_two, lse_of_two}, {4, 3});
  CHECK(std::fabs(merged.out - g::out) < nine_digits);
  CHECK(std::fabs(merged.lse - g::lse) < nine_digits);
  CHECK(std::fabs(oracle::merge(merged, {0, g::sink}).out - g::with_sink) < nine_digits);
  CHECK(oracle::merge({}, {4, 3}).out == 4);
  CHECK(oracle::merge({}, {}).lse == -infinity);
  const oracle::attention_shape shape{1, 3, 1, 1, 1, 1, 1};
  const auto attended = oracle::attention({{1}, g::scores, g::values}, shape, oracle::everything());
  CHECK(std::fabs(attended.out[0] - g::out) < nine_digits);
  CHECK(std::fabs(attended.lse[0] - g::lse) < nine_digits);
}

TEST_CASE("attention: alignment, invisible keys, empty rows") {
  const oracle::attention_shape shape{2, 4, 4, 2, 3, 2, 0.5};
  oracle::attention_inputs x{normals(24, "q"), normals(24, "k"), normals(16, "v")};
  const auto causal = oracle::causal(2, 4);
  CHECK(causal(0, 2));
  CHECK_FALSE(causal(0, 3));
  CHECK(causal(1, 3));
  const auto before =
      oracle::attention(x, shape, [](std::size_t i, std::size_t j) { return i == 1 && j != 2; });
  for (std::size_t c = 0; c < 6; ++c) x.k[2 * 6 + c] = std::nan("");
  for (std::size_t c = 0; c < 4; ++c) x.v[2 * 4 + c] = std::nan("");
  const auto after =
      oracle::attention(x, shape, [](std::size_t i, std::size_t j) { return i == 1 && j != 2; });
  CHECK(support::same_bits(before.out, after.out));
  for (std::size_t i = 0; i < 8; ++i) CHECK(after.out[i] == 0);
  for (std::size_t h = 0; h < 4; ++h) CHECK(after.lse[h] == -infinity);
  CHECK(std::isnan(oracle::attention(x, shape, oracle::everything()).out[0]));
}

TEST_CASE("gradients of the oracles agree with differences") {
  const reals x = normals(12, "x"), w = normals(4, "w"), b = normals(4, "b");
  const reals g = support::loss_weights(12);
  const auto loss = [&](const reals& y) { return support::weighted_sum(g, y); };
  const auto agrees = [](const support::loss_function& f, const reals& at, const reals& gradient) {
    const auto result = support::check_gradient(f, at, gradient);
    CHECK_MESSAGE(result.pass, result.message);
  };
  agrees([&](const reals& at) { return loss(oracle::rms_norm(at, w, 4, 1e-6)); }, x,
         oracle::rms_norm_backward(x, w, g, 1e-6).dx);
  agrees([&](const reals& at) { return loss(oracle::rms_norm(x, at, 4, 1e-6)); }, w,
         oracle::rms_norm_backward(x, w, g, 1e-6).dw);
  const auto layer = oracle::layer_norm_backward(x, w, g, 1e-5);
  agrees([&](const reals& at) { return loss(oracle::layer_norm(at, w, b, 1e-5)); }, x, layer.dx);
  agrees([&](const reals& at) { return loss(oracle::layer_norm(x, at, b, 1e-5)); }, w, layer.dw);
  agrees([&](const reals& at) { return loss(oracle::layer_norm(x, w, at, 1e-5)); }, b, layer.db);
  agrees([&](const reals& at) { return loss(oracle::softmax(at, 3, 4).p); }, x,
         oracle::softmax_backward(oracle::softmax(x, 3, 4).p, g, 4));
  const reals up = normals(12, "up");
  const auto swiglu = oracle::swiglu_backward(x, up, g);
  agrees([&](const reals& at) { return loss(oracle::swiglu(at, up)); }, x, swiglu.dgate);
  agrees([&](const reals& at) { return loss(oracle::swiglu(x, at)); }, up, swiglu.dup);
  reals slopes = oracle::each(oracle::gelu_slope, x);
  for (std::size_t i = 0; i < 12; ++i) slopes[i] *= g[i];
  agrees([&](const reals& at) { return loss(oracle::each(oracle::gelu, at)); }, x, slopes);
  const auto entropy = [&](const reals& at) {
    return oracle::cross_entropy(at, {2, -100, 0}, 4).loss;
  };
  agrees(entropy, x, oracle::cross_entropy(x, {2, -100, 0}, 4).gradient);
}

TEST_CASE("gradient of attention agrees with differences") {
  const oracle::attention_shape shape{3, 5, 4, 2, 3, 2, 0.7};
  const oracle::attention_inputs x{normals(36, "q"), normals(30, "k"), normals(20, "v")};
  const reals g = support::loss_weights(24);
  const auto visible = oracle::causal(3, 5);
  const auto got = oracle::attention_backward(x, shape, visible, g);
  const auto loss = [&](const oracle::attention_inputs& at) {
    return support::weighted_sum(g, oracle::attention(at, shape, visible).out);
  };
  const auto with = [&](reals oracle::attention_inputs::*part) {
    return [&loss, &x, part](const reals& at) {
      oracle::attention_inputs moved = x;
      moved.*part = at;
      return loss(moved);
    };
  };
  CHECK(support::check_gradient(with(&oracle::attention_inputs::q), x.q, got.dq).pass);
  CHECK(support::check_gradient(with(&oracle::attention_inputs::k), x.k, got.dk).pass);
  CHECK(support::check_gradient(with(&oracle::attention_inputs::v), x.v, got.dv).pass);
}

TEST_CASE("gemm: the four storages are one product; linear is one of them") {
  const reals a = {1, 2, 3, 4, 5, 6}, b = {1, 0, 2, -1, 1, 3};  // [2, 3] and [3, 2]
  const reals a_t = {1, 4, 2, 5, 3, 6}, b_t = {1, 2, 1, 0, -1, 3};
  const reals y = {8, 7, 20, 13};
  using oracle::stored;
  CHECK(oracle::gemm(a, b, {2, 2, 3}) == y);
  CHECK(oracle::gemm(a_t, b, {2, 2, 3, stored::transposed, stored::plain}) == y);
  CHECK(oracle::gemm(a, b_t, {2, 2, 3, stored::plain, stored::transposed}) == y);
  CHECK(oracle::gemm(a_t, b_t, {2, 2, 3, stored::transposed, stored::transposed}) == y);
  CHECK(oracle::linear(a, b_t, {10, 20}, {2, 3, 2}) == reals{18, 27, 30, 33});
  CHECK(oracle::gemm_magnitude(a, b, {2, 2, 3}) == reals{8, 11, 20, 23});
  reals two = b_t;
  for (double e : b_t) two.push_back(-e);
  CHECK(oracle::grouped_linear(a, two, {0, 1, 2}, {2, 3, 2}) == reals{8, 7, -20, -13});
  CHECK(oracle::gemm({}, {}, {2, 2, 0}) == reals(4, 0.0));
}

TEST_CASE("top_k: ties to the lower number, NaN last, surplus places marked") {
  const double nan = std::nan("");
  CHECK(oracle::top_k({1, 3, 3, nan, 2}, 1, 5, 3).ids == golden::ids{1, 2, 4});
  CHECK(oracle::top_k({nan, -infinity, 1}, 1, 3, 3).ids == golden::ids{2, 1, 0});
  CHECK(oracle::top_k({2, 1}, 1, 2, 3).ids == golden::ids{0, 1, -1});
}

TEST_CASE("permute and combine undo each other") {
  const golden::ids ids = {2, 0, 0, 3, 2, 3};  // 3 tokens, 2 active, 4 experts
  const auto order = oracle::permute(ids, 3, 2, 4);
  CHECK(order.offsets == std::vector<std::size_t>{0, 2, 2, 4, 6});
  CHECK(order.token == std::vector<std::size_t>{0, 1, 0, 2, 1, 2});
  CHECK(order.row_of == std::vector<std::size_t>{2, 0, 1, 4, 3, 5});
  const reals x = {1, 2, 3, 4, 5, 6};
  const reals rows = oracle::gather_rows(x, order, 2);
  CHECK(rows == reals{1, 2, 3, 4, 1, 2, 5, 6, 3, 4, 5, 6});
  CHECK(oracle::combine(rows, {.5, .5, .25, .75, 1, 0}, order, 2, 2) == x);
}

TEST_CASE("embedding, cross entropy and activations by hand") {
  CHECK(oracle::embedding({1, 2, 3, 4}, {1, 0, 1}, 2) == reals{3, 4, 1, 2, 3, 4});
  CHECK(oracle::embedding_backward({1, 2, 3, 4, 5, 6}, {1, 0, 1}, 2, 2) == reals{3, 4, 6, 8});
  const auto none = oracle::cross_entropy({1, 2}, {-100}, 2);
  CHECK(none.loss == 0);
  CHECK(none.gradient == reals{0, 0});
  CHECK(std::fabs(oracle::cross_entropy({0, 0, 0, 0}, {1}, 4).loss - std::log(4.0)) < 1e-15);
  CHECK(oracle::relu(-1) == 0);
  CHECK(oracle::relu_slope(0) == 0);
  CHECK(std::isnan(oracle::relu(std::nan(""))));
  CHECK(std::fabs(oracle::silu(1) - 0.7310585786300049) < 1e-15);
  CHECK(std::fabs(oracle::gelu(1) - 0.8413447460685429) < 1e-15);
  const auto masked = oracle::softmax({-infinity, -infinity}, 1, 2);
  CHECK(masked.p == reals{0, 0});
  CHECK(masked.lse[0] == -infinity);
}
