// SPDX-License-Identifier: Apache-2.0
// noisy_top_k and jittered gates inside moe, with the losses of importance, load and logits: what
// is chosen, reported and differentiated; the same noise when it is run again.
#include "deepseek/layers/noisy_gate.hpp"
#include "deepseek/layers/checkpointed.hpp"
#include "deepseek/layers/jittered_gate.hpp"
#include "deepseek/layers/moe.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/routing_case.hpp"
#include "oracle/gemm.hpp"
#include "oracle/moe.hpp"
#include "oracle/routing.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

constexpr std::size_t dim = 5, experts = 6;
inline constexpr ds::moe_config config{
    .dim = 5, .hidden = 3, .routed = 6, .active = 2, .importance = 0.2, .z_loss = 0.05};
using gate = ds::jittered<ds::noisy_top_k<ds::noisy_config{.load = 0.3}>>;
using layer = ds::moe<config, gate>;
using calm = ds::moe<config, ds::softmax_top_k<ds::renormalize::yes>>;

// Noisy logits of a trial's router, by the formula.
struct logits {
  std::vector<double> clean, raw, noisy;
};
template <class P>
logits logits_of(const P& p, const std::vector<double>& x, std::uint32_t site) {
  const std::size_t tokens = x.size() / dim;
  const ds::stream_key jitter{3, 0, site, 1, ds::random_use::routing};
  const ds::stream_key noise{3, 0, site, 0, ds::random_use::routing};
  std::vector<double> moved;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double u = static_cast<double>(ds::uniform01(ds::random_word(jitter, i)));
    moved.push_back(x[i] * (1 + 1e-2 * (2 * u - 1)));
  }
  const auto product = [&](const auto& w) {
    const std::vector<double> weights(w.data(), w.data() + experts * dim);
    return oracle::linear(moved, weights, {}, {tokens, dim, experts});
  };
  logits out{product(p.gate.weight), product(p.gate.noise), {}};
  for (std::size_t i = 0; i < out.clean.size(); ++i) {
    const double eps = static_cast<double>(ds::normal(noise, i));
    out.noisy.push_back(out.clean[i] + eps * std::log1p(std::exp(out.raw[i])));
  }
  return out;
}

}  // namespace

TEST_CASE("noisy_top_k: choice and losses in training") {
  const ds::cpu b{{.threads = 2}};
  auto x = layer_test::unit_like<double, dim>(9);
  layer_test::trial<layer, double> t;
  layer_test::sharp_router{}(t.p);
  const logits l = logits_of(t.p, x.values(), ds::mix_site(7, 2));
  oracle::gate_shape s{9, experts, 2, oracle::gate_weights::divided_by_sum};
  const auto want = oracle::gate_top_k(l.noisy, s);
  t.backward(b, x.view());
  std::vector<double> counts(experts);
  for (std::int64_t id : want.ids) counts[static_cast<std::size_t>(id)] += 1;
  for (std::size_t e = 0; e < experts; ++e) {
    CHECK(static_cast<double>(t.g.gate.load.data()[e]) == counts[e]);
  }
  const double losses = 0.2 * oracle::cv2(oracle::importance(want.weights, want.ids, experts)) +
                        0.3 * oracle::cv2(oracle::smooth_load(l.clean, l.raw, l.noisy, 9, 2)) +
                        0.05 * oracle::z_loss(l.noisy, 9);
  CHECK(layer_test::reported<layer>(b, x.view(), layer_test::train, layer_test::sharp_router{}) ==
        doctest::Approx(losses).epsilon(1e-11));
  support::facet("noisy_top_k", "forward");
}

TEST_CASE("noisy_top_k: gradient") {
  const ds::cpu b{{.threads = 2}};
  auto x = layer_test::unit_like<double, dim>(4);
  layer_test::expect_layer_gradient<layer>(b, "noisy_top_k", x.view(), layer_test::train,
                                           layer_test::sharp_router{});
}

TEST_CASE("noisy_top_k: without training no noise; another step, other noise; threads") {
  const ds::cpu b{{.threads = 2}};
  rows_of<float, dim> x(40);
  layer_test::trial<layer, float> t, again;
  layer_test::trial<calm, float> plain;
  plain.p.gate.weight = t.p.gate.weight;
  CHECK(support::same_bits(t.forward(b, x.view()), plain.forward(b, x.view())));
  const auto noisy = t.forward(b, x.view(), layer_test::train);
  CHECK(!support::same_bits(noisy, plain.forward(b, x.view(), layer_test::train)));
  CHECK(support::same_bits(noisy, again.forward(ds::cpu{}, x.view(), layer_test::train)));
  auto later = layer_test::train;
  later.step = 1;
  CHECK(!support::same_bits(noisy, t.forward(b, x.view(), later)));
}

TEST_CASE("noisy_top_k: losses are injected times gradient_scale") {
  const ds::cpu b;
  rows_of<double, dim> x(12);
  const auto gradient = [&](double scale) {
    layer_test::trial<layer, double> t;
    auto run = layer_test::train;
    run.gradient_scale = scale;
    t.backward(b, x.view(), run);
    return layer_test::flat(t.g);
  };
  const auto none = gradient(0), once = gradient(1), thrice = gradient(3);
  double moved = 0;
  for (std::size_t i = 0; i < none.size(); ++i) {
    CHECK(thrice[i] - none[i] == doctest::Approx(3 * (once[i] - none[i])).epsilon(1e-9));
    moved = std::max(moved, std::fabs(once[i] - none[i]));
  }
  CHECK(moved > 1e-3);
}

TEST_CASE("noisy_top_k: in a bf16 model the router stays fp32") {
  const ds::cpu b;
  rows_of<ds::bf16, dim> x(20);
  layer_test::trial<layer, ds::bf16> t;
  static_assert(std::is_same_v<decltype(t.p.gate.noise)::value_type, float>);
  static_assert(std::is_same_v<decltype(t.p.experts.w1.weight)::value_type, ds::bf16>);
  double size = 0;
  for (ds::bf16 d : t.backward(b, x.view())) size += std::fabs(static_cast<double>(d));
  CHECK((std::isfinite(size) && size > 0));
  for (double g : layer_test::flat(t.g)) CHECK(std::isfinite(g));
}

TEST_CASE("noisy_top_k: checkpointed gives the same bits and reports its losses once") {
  const ds::cpu b{{.threads = 2}};
  rows_of<float, dim> x(40);
  layer_test::trial<layer, float> t;
  layer_test::trial<ds::checkpointed<layer>, float> s;
  ds::run_report once, again;
  auto run = layer_test::train;
  run.report = &once;
  const auto dx = t.backward(b, x.view(), run);
  run.report = &again;
  CHECK(support::same_bits(s.backward(b, x.view(), run), dx));
  CHECK(support::same_bits(layer_test::flat(s.g), layer_test::flat(t.g)));
  CHECK(once.auxiliary_loss > 0);
  CHECK(again.auxiliary_loss == once.auxiliary_loss);
}
