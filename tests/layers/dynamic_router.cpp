// SPDX-License-Identifier: Apache-2.0
// dynamic_router (two softmaxes, learned offset) and its sound form, and the dense soft mixture:
// values against the oracle, golden weights, the bounds of a double softmax, gradients.
#include "deepseek/layers/dynamic_router.hpp"
#include "deepseek/layers/dense_gate.hpp"
#include "deepseek/layers/moe.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/routing_case.hpp"
#include "oracle/activation.hpp"
#include "oracle/gemm.hpp"
#include "oracle/golden.hpp"
#include "oracle/moe.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

constexpr std::size_t dim = 5, experts = 4, hidden = 6;
inline constexpr ds::moe_config two{.dim = 5, .hidden = 3, .routed = 4, .active = 2};
inline constexpr ds::moe_config all_four{.dim = 5, .hidden = 3, .routed = 4, .active = 4};
inline constexpr ds::dynamic_config narrow{.hidden = 6};
// Not one alias template: nvcc 13 writes out what stands for its argument wrongly.
using faithful_two = ds::moe<two, ds::dynamic_router<narrow>>;
using faithful_all_four = ds::moe<all_four, ds::dynamic_router<narrow>>;
using sound_two = ds::moe<two, ds::sound_dynamic_router<narrow>>;
using sound_all_four = ds::moe<all_four, ds::sound_dynamic_router<narrow>>;

template <class Tensor>
std::vector<double> values_of(const Tensor& t) {
  return std::vector<double>(t.data(), t.data() + t.size());
}
template <class P>
void raise(P& p) {
  for (ds::index_t i = 0; i < p.gate.b1.size(); ++i)
    p.gate.b1.data()[i] = std::sin(1.0 + double(i));
  for (ds::index_t i = 0; i < p.gate.b2.size(); ++i) p.gate.b2.data()[i] = 2 * std::cos(double(i));
  if constexpr (requires { p.gate.offset; }) ds::draw_offset(p.gate.offset, 5);
}

// The logits l of rows x.
template <class P>
std::vector<double> deep_logits(const P& p, const std::vector<double>& x) {
  const std::size_t n = x.size() / dim;
  auto h = oracle::linear(x, values_of(p.gate.w1), values_of(p.gate.b1), {n, dim, hidden});
  for (double& v : h) v = oracle::gelu(v);
  return oracle::linear(h, values_of(p.gate.w2), values_of(p.gate.b2), {n, hidden, experts});
}

// What the gate of these parameters makes of the logits handed on, in inference.
template <class Net, class P>
oracle::gate_result chosen(const P& p, const std::vector<double>& x) {
  auto l = deep_logits(p, x);
  const std::size_t n = x.size() / dim;
  if constexpr (requires { p.gate.offset; }) {
    l = oracle::softmax(l, n, experts).p;
    for (std::size_t i = 0; i < l.size(); ++i) l[i] += values_of(p.gate.offset)[i % experts];
  }
  return oracle::gate_top_k(l, {n, experts, 2});
}

template <class Net>
void check_choice() {
  const ds::cpu b{{.threads = 2}};
  rows_of<double, dim> x(30);
  layer_test::trial<Net, double> t;
  raise(t.p);
  const auto want = chosen<Net>(t.p, x.values());
  auto quiet = layer_test::train;
  quiet.how = ds::mode::inference;
  t.backward(b, x.view(), quiet);
  std::vector<double> counts(experts);
  for (std::int64_t id : want.ids) counts[static_cast<std::size_t>(id)] += 1;
  for (std::size_t i = 0; i < experts; ++i) {
    CHECK(static_cast<double>(t.g.gate.load.data()[i]) == counts[i]);
  }
}

}  // namespace

TEST_CASE("dynamic_router: the choice of both forms") {
  check_choice<faithful_two>();
  check_choice<sound_two>();
}

TEST_CASE("dynamic_router: gradients") {
  const ds::cpu b{{.threads = 2}};
  rows_of<double, dim> x(3);
  const auto prepare = [](auto& p) { raise(p); };
  // All experts active: no choice can flip.
  layer_test::expect_layer_gradient<faithful_all_four>(b, "dynamic_router", x.view(),
                                                       layer_test::train, prepare);
  layer_test::expect_layer_gradient<sound_all_four>(b, "dynamic_router", x.view(),
                                                    layer_test::train, prepare);
}

TEST_CASE("dynamic_router: two softmaxes are flat, one is not; noise in training only") {
  namespace golden = oracle::golden::gate;
  // The second softmax of the golden probabilities: known weights of experts 5 and 2.
  const auto again = oracle::gate_top_k(golden::softmax, {1, 8, 2});
  CHECK((again.ids[0] == 5 && again.ids[1] == 2));
  const ds::cpu b;
  std::vector<double> z(golden::softmax), w(2);
  std::vector<std::int32_t> ids(2);
  const ds::view<double, ds::host, ds::dyn, ds::dyn> scores(z.data(), {1, 8}),
      out(w.data(), {1, 2});
  const ds::view<std::int32_t, ds::host, ds::dyn, ds::dyn> chosen_ids(ids.data(), {1, 2});
  ds::ops::gate(b, scores, ds::none{}, ds::gate_outputs{out, chosen_ids},
                ds::dynamic_router<>::config.rule());
  CHECK((ids[0] == 5 && ids[1] == 2));
  CHECK(w[0] == doctest::Approx(golden::twice[0]).epsilon(1e-8));
  CHECK(w[1] == doctest::Approx(golden::twice[1]).epsilon(1e-8));

  // Logits as sharp as they can be: the double softmax caps the weight at e / (e + E - 1).
  rows_of<double, dim> x(1);
  layer_test::trial<faithful_all_four, double> f;
  layer_test::trial<sound_all_four, double> s;
  const auto largest = [&](auto& t) {
    for (ds::index_t i = 0; i < t.p.gate.b2.size(); ++i) t.p.gate.b2.data()[i] = i == 2 ? 300 : 0;
    std::vector<double> l(experts);
    const ds::view<double, ds::host, ds::dyn, 4> logits(l.data(), {1, 4});
    using layer = typename std::remove_cvref_t<decltype(t.p.gate)>::layer;
    ds::keep<ds::nothing, layer, double, ds::host> kept;
    ds::arena<ds::host> tape;
    const ds::call<ds::cpu> c{b, {}, b.workspace(), tape, 0, {}};
    ds::run_forward<layer>(c, t.p.gate, ds::as_const(x.view()), logits, kept);
    return oracle::softmax(l, 1, experts).p[2];
  };
  f.p.gate.offset.zero();
  CHECK(largest(f) == doctest::Approx(std::exp(1.0) / (std::exp(1.0) + 3)).epsilon(1e-9));
  CHECK(largest(s) == doctest::Approx(1).epsilon(1e-9));

  rows_of<float, dim> many(20);
  layer_test::trial<sound_two, float> noisy;
  CHECK(!support::same_bits(noisy.forward(b, many.view(), layer_test::train),
                            noisy.forward(b, many.view())));
  layer_test::trial<faithful_two, float> steady;
  CHECK(support::same_bits(steady.forward(b, many.view(), layer_test::train),
                           steady.forward(b, many.view())));
}

TEST_CASE("soft_mixture: y = sum softmax(W x)_e (W_e x); gradient") {
  using layer = ds::soft_mixture<5, 4>;
  const ds::cpu b{{.threads = 2}};
  rows_of<double, dim> x(17);
  layer_test::trial<layer, double> t;
  const auto p = oracle::softmax(
                     oracle::linear(x.values(), values_of(t.p.gate.weight), {}, {17, dim, experts}),
                     17, experts)
                     .p;
  std::vector<double> want(17 * dim);
  for (std::size_t e = 0; e < experts; ++e) {
    const auto w = values_of(t.p.experts.weight);
    const auto first = w.begin() + static_cast<std::ptrdiff_t>(e * dim * dim);
    const auto y = oracle::linear(x.values(), {first, first + dim * dim}, {}, {17, dim, dim});
    for (std::size_t i = 0; i < want.size(); ++i) want[i] += p[i / dim * experts + e] * y[i];
  }
  support::expect("soft_mixture", "values",
                  support::compare({.type = ds::dtype::f64, .relative = 1e-14},
                                   t.forward(b, x.view()), want, dim));
  layer_test::expect_layer_gradient<layer>(b, "soft_mixture", x.rows(0, 3));
  rows_of<float, dim> many(50);
  layer_test::expect_sequences_alone<layer>(b, "soft_mixture", many, {0, 1, 20, 50});
}
