// SPDX-License-Identifier: Apache-2.0
// moe: values, balance loss and load against the oracle, with and without renormalization; more
// experts than tokens; no tokens; gradients with gates whose choice does not flip.
#include "deepseek/layers/moe.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"
#include "oracle/activation.hpp"
#include "oracle/gemm.hpp"
#include "oracle/moe.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

constexpr std::size_t dim = 5, experts = 6, hidden = 3;
inline constexpr ds::moe_config config{
    .dim = 5, .hidden = 3, .routed = 6, .shared = 1, .active = 2, .balance = 0.3};
inline constexpr ds::moe_config bare{.dim = 5, .hidden = 3, .routed = 6, .active = 3};
template <ds::moe_config C, ds::renormalize N>
using layer = ds::moe<C, ds::softmax_top_k<N>>;

// Token t is mostly unit vector t mod dim; the gate's rows are a Latin square: logits of one token
// are half a unit apart, and no difference step exchanges two.
void sharpen(std::vector<double>& x) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = 0.05 * std::sin(static_cast<double>(3 * i)) + (i % dim == i / dim % dim ? 1 : 0);
  }
}
struct sharp_gate {
  template <class P>
  void operator()(P& p) const {
    for (std::size_t e = 0; e < experts; ++e) {
      for (std::size_t d = 0; d < dim; ++d) {
        p.gate.weight.data()[e * dim + d] = 0.5 * static_cast<double>((e + d) % experts);
      }
    }
  }
};

template <class Tensor>
std::vector<double> part(const Tensor& t, std::size_t i, std::size_t n) {
  return std::vector<double>(t.data() + i * n, t.data() + (i + 1) * n);
}
// One expert of the stack (or, with i = 0, the shared one) on rows of x.
template <class P>
std::vector<double> swiglu(const P& p, std::size_t i, const std::vector<double>& x) {
  const std::size_t n = x.size() / dim, size = dim * hidden;
  const auto gate = oracle::linear(x, part(p.w1.weight, i, size), {}, {n, dim, hidden});
  auto h = oracle::linear(x, part(p.w3.weight, i, size), {}, {n, dim, hidden});
  for (std::size_t j = 0; j < h.size(); ++j) h[j] *= oracle::silu(gate[j]);
  return oracle::linear(h, part(p.w2.weight, i, size), {}, {n, hidden, dim});
}

oracle::gate_result route(const std::vector<double>& x, const std::vector<double>& gate,
                          std::size_t active, ds::renormalize norm) {
  const auto logits = oracle::linear(x, gate, {}, {x.size() / dim, dim, experts});
  return oracle::gate_top_k(logits,
                            {x.size() / dim, experts, active,
                             norm == ds::renormalize::yes ? oracle::gate_weights::divided_by_sum
                                                          : oracle::gate_weights::as_they_are});
}

template <ds::moe_config C, ds::renormalize N, class B>
void check_values(const B& b, ds::index_t tokens) {
  layer_test::trial<layer<C, N>, double> t;
  rows_of<double, dim> x(tokens);
  const auto gate = part(t.p.gate.weight, 0, experts * dim);
  const auto routed = route(x.values(), gate, C.active, N);
  const auto n = static_cast<std::size_t>(tokens);
  std::vector<double> want(n * dim);
  for (std::size_t token = 0; token < n; ++token) {
    const auto row = part(x.values(), token, dim);
    const auto add = [&](const std::vector<double>& y, double w) {
      for (std::size_t d = 0; d < dim; ++d) want[token * dim + d] += w * y[d];
    };
    for (std::size_t k = 0; k < C.active; ++k) {
      const std::size_t slot = token * C.active + k;
      add(swiglu(t.p.experts, static_cast<std::size_t>(routed.ids[slot]), row),
          routed.weights[slot]);
    }
    if constexpr (C.shared > 0) add(swiglu(t.p.shared_experts, 0, row), 1);
  }
  ds::run_report report;
  auto run = layer_test::train;
  run.report = &report;
  const auto y = t.forward(b, x.view(), run);
  support::expect("moe", support::text("tokens", tokens),
                  support::compare({.type = ds::dtype::f64, .relative = 1e-14}, y, want, dim));
  const auto loss = oracle::balance_loss(routed.probability, routed.ids, {n, experts}).loss;
  CHECK(report.auxiliary_loss == doctest::Approx(C.balance * loss).epsilon(1e-12));
  // The load is counted by backward, into the gradients, as often as it runs.
  std::vector<double> load(experts);
  for (std::int64_t id : routed.ids) load[static_cast<std::size_t>(id)] += 1;
  for (int times = 1; times <= 2; ++times) {
    t.backward(b, x.view(), run);
    for (std::size_t e = 0; e < experts; ++e) {
      CHECK(static_cast<double>(t.g.gate.load.data()[e]) == times * load[e]);
    }
  }
}

template <ds::moe_config C, ds::renormalize N, class B>
void check_gradient(const B& b, ds::index_t tokens, const char* text) {
  rows_of<double, dim> x(tokens);
  sharpen(x.values());
  layer_test::trial<layer<C, N>, double> t;
  sharp_gate{}(t.p);
  const auto logits = oracle::linear(x.values(), part(t.p.gate.weight, 0, experts * dim), {},
                                     {static_cast<std::size_t>(tokens), dim, experts});
  double nearest = 1;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    for (std::size_t j = i / experts * experts; j < i; ++j) {
      nearest = std::min(nearest, std::fabs(logits[i] - logits[j]));
    }
  }
  CHECK(nearest > 0.05);
  layer_test::expect_layer_gradient<layer<C, N>>(b, text, x.view(), layer_test::train,
                                                 sharp_gate{});
}

// A template, because nvcc 13 writes the type out wrongly elsewhere.
template <ds::moe_config C>
void check_alone(const ds::cpu& b) {
  rows_of<float, dim> x(33);
  using one = layer<C, ds::renormalize::no>;
  layer_test::trial<one, float> t;
  CHECK(t.forward(b, x.rows(0, 0)).empty());
  CHECK(t.backward(b, x.rows(0, 0)).empty());
  for (double g : layer_test::flat(t.g)) CHECK(g == 0);
  layer_test::expect_sequences_alone<one>(b, "moe", x, {0, 1, 2, 33});
  t.backward(b, x.view());
  ds::update_buffers(b, t.p, t.g);
  double sum = 0;
  for (std::size_t e = 0; e < experts; ++e) {
    const double share = static_cast<double>(t.g.gate.load.data()[e]) / 99;
    CHECK(t.p.gate.load.data()[e] == static_cast<float>(share));  // the first step sets it
    sum += static_cast<double>(t.g.gate.load.data()[e]);
  }
  CHECK(sum == 99);
}

}  // namespace

TEST_CASE_TEMPLATE("moe: values, balance loss and load", B, ds::reference, ds::cpu) {
  const B b;
  for (ds::index_t tokens : {1, 2, 13, 40}) {  // 1 and 2: fewer assignments than experts
    check_values<config, ds::renormalize::no>(b, tokens);
    check_values<config, ds::renormalize::yes>(b, tokens);
    check_values<bare, ds::renormalize::no>(b, tokens);
  }
  support::facet("moe", "forward");
}

TEST_CASE("moe: gradients") {
  const ds::cpu b{{.threads = 2}};
  check_gradient<config, ds::renormalize::no>(b, 4, "moe");
  check_gradient<config, ds::renormalize::yes>(b, 4, "moe");
  check_gradient<bare, ds::renormalize::yes>(b, 2, "moe");
}

TEST_CASE("moe: no tokens; a token has the bits of itself alone; the load moves after a step") {
  const ds::cpu b{{.threads = 2}};
  check_alone<bare>(b);
}
