// SPDX-License-Identifier: Apache-2.0
// Gates inside moe: sigmoid with selection bias and groups, square root of softplus; values against
// the oracle, gradients, the bias that moves after a step and is neither trained nor decayed.
#include "deepseek/layers/gate.hpp"
#include "deepseek/layers/moe.hpp"
#include "deepseek/train/optimizer.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"
#include "oracle/gemm.hpp"
#include "oracle/moe.hpp"

#include <set>

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

constexpr std::size_t dim = 6, experts = 8;
inline constexpr ds::moe_config config{
    .dim = 6, .hidden = 3, .routed = 8, .shared = 1, .active = 3};
inline constexpr ds::gate_config v3{.score = ds::gate_score::sigmoid,
                                    .bias = ds::selection_bias::present,
                                    .groups = 4,
                                    .top_groups = 2,
                                    .group = ds::group_score::best_two,
                                    .norm = ds::renormalize::yes,
                                    .scale = 2.5,
                                    .bias_step = 0.01};
inline constexpr ds::gate_config v2{.groups = 4, .top_groups = 2, .scale = 16};
inline constexpr ds::gate_config v4{.score = ds::gate_score::sqrt_softplus,
                                    .bias = ds::selection_bias::present,
                                    .norm = ds::renormalize::yes,
                                    .scale = 1.5};
using balanced = ds::moe<config, ds::top_k_gate<v3>>;

// Logits of a token are far from each other, so that no step of a difference changes the choice.
struct sharp_gate {
  template <class P>
  void operator()(P& p) const {
    using Real = typename decltype(p.gate.weight)::value_type;
    for (std::size_t e = 0; e < experts; ++e) {
      for (std::size_t d = 0; d < dim; ++d) {
        p.gate.weight.data()[e * dim + d] =
            static_cast<Real>(0.31 * static_cast<double>((3 * e + d) % experts) - 1);
      }
      if constexpr (requires { p.gate.choice.bias; }) {
        p.gate.choice.bias.data()[e] = 0.25F * static_cast<float>((5 * e) % 7) - 0.75F;
      }
    }
  }
};
std::vector<double> unit_like(std::size_t tokens) {
  std::vector<double> x(tokens * dim);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = 0.05 * std::sin(static_cast<double>(3 * i)) + (i % dim == i / dim % dim ? 1 : 0);
  }
  return x;
}

template <class P>
std::vector<double> bias_of(const P& p) {
  const auto& bias = p.gate.choice.bias;
  return std::vector<double>(bias.data(), bias.data() + experts);
}

// What the gate of these parameters chooses for rows of x.
template <class P, class X>
oracle::gate_result route(const P& p, const X& x, const ds::gate_config& c) {
  const std::vector<double> w(p.gate.weight.data(), p.gate.weight.data() + experts * dim);
  const std::size_t tokens = x.size() / dim;
  oracle::gate_shape s{tokens, experts, 3, oracle::gate_weights::divided_by_sum, c.scale};
  s.score = oracle::gate_scores::sigmoid;
  s.bias = bias_of(p);
  s.groups = static_cast<std::size_t>(c.groups);
  s.top_groups = static_cast<std::size_t>(c.top_groups);
  s.rank = oracle::group_rank::sum_of_two;
  return oracle::gate_top_k(oracle::linear(x, w, {}, {tokens, dim, experts}), s);
}

template <class Gate>
void check_gradient() {
  const ds::cpu b{{.threads = 2}};
  rows_of<double, dim> x(4);
  x.values() = unit_like(4);
  layer_test::expect_layer_gradient<ds::moe<config, Gate>>(b, "gate", x.view(), layer_test::train,
                                                           sharp_gate{});
}

}  // namespace

TEST_CASE("gate: gradients of a small moe") {
  check_gradient<ds::top_k_gate<v3>>();
  check_gradient<ds::top_k_gate<v2>>();
  check_gradient<ds::top_k_gate<v4>>();
}

TEST_CASE("gate: the load counts the choice of s + bias; the bias moves against it") {
  const ds::cpu b;
  layer_test::trial<balanced, double> t;
  sharp_gate{}(t.p);
  rows_of<double, dim> x(12);
  const auto want = route(t.p, x.values(), v3);
  const auto before = bias_of(t.p);
  t.backward(b, x.view());
  std::vector<double> counts(experts);
  for (std::int64_t id : want.ids) counts[static_cast<std::size_t>(id)] += 1;
  for (std::size_t e = 0; e < experts; ++e) {
    CHECK(static_cast<double>(t.g.gate.load.data()[e]) == counts[e]);
    CHECK(t.g.gate.choice.bias.data()[e] == 0);  // no gradient
  }
  ds::update_buffers(b, t.p, t.g);
  const double mean = 12 * 3 / 8.0;
  bool moved = false;
  for (std::size_t e = 0; e < experts; ++e) {
    const double step = counts[e] < mean ? 0.01 : counts[e] > mean ? -0.01 : 0.0;
    CHECK(bias_of(t.p)[e] == doctest::Approx(before[e] + step).epsilon(1e-6));
    moved = moved || step != 0;
  }
  CHECK(moved);
}

TEST_CASE("gate: nothing counted, nothing moved; balance is reached") {
  const ds::cpu b;
  layer_test::trial<balanced, double> t;
  sharp_gate{}(t.p);
  const auto before = bias_of(t.p);
  ds::update_buffers(b, t.p, t.g);
  CHECK(bias_of(t.p) == before);
  // Step after step the busiest expert of a fixed batch comes near to the mean.
  rows_of<double, dim> x(64);
  const auto busiest = [&] {
    ds::visit([](const ds::tensor_name&, auto& g) { g.zero(); }, t.g);
    t.backward(b, x.view());
    return *std::max_element(t.g.gate.load.data(), t.g.gate.load.data() + experts);
  };
  const float first = busiest();
  for (int step = 0; step < 150; ++step) {
    ds::update_buffers(b, t.p, t.g);
    busiest();
  }
  CHECK(first > 1.6F * 24);
  CHECK(busiest() < 1.4F * 24);
}

TEST_CASE("gate: the bias is saved, stays in fp32 with the router and is not optimized") {
  using bf16_parameters = ds::parameters<balanced, ds::bf16, ds::host>;
  bf16_parameters p;
  static_assert(std::is_same_v<decltype(p.gate.weight)::value_type, float>);
  static_assert(std::is_same_v<decltype(p.gate.choice.bias)::value_type, float>);
  std::set<std::string> names;
  ds::visit(
      [&](const ds::tensor_name& at, auto&) {
        if (at.path.starts_with("gate.")) {
          names.insert(at.path);
          CHECK((at.role == ds::field_role::state) == (at.path != "gate.weight"));
        }
      },
      p);
  CHECK(names == std::set<std::string>{"gate.weight", "gate.load", "gate.bias"});
  names.clear();
  ds::parameters<ds::moe<config, ds::top_k_gate<v2>>, float, ds::host> none;
  ds::visit([&](const ds::tensor_name& at, auto&) { names.insert(at.path); }, none);
  CHECK(!names.contains("gate.bias"));

  const ds::cpu b;
  layer_test::trial<balanced, float> t;
  sharp_gate{}(t.p);
  const auto before = bias_of(t.p);
  ds::optimizer<ds::adamw, ds::parameters<balanced, float, ds::host>> o(
      ds::adamw{.weight_decay = 0.5}, t.p, ds::decays::everything);
  rows_of<float, dim> x(5);
  t.backward(b, x.view());
  o.step(b, t.p, t.g, 0.1);
  CHECK(bias_of(t.p) == before);
}

// Logits of bf16 inputs differ by less than bf16 can tell: the product is not rounded to bf16.
TEST_CASE("gate: logits of a bf16 layer are fp32") {
  const ds::cpu b;
  layer_test::trial<ds::moe<config, ds::sigmoid_top_k>, ds::bf16> t;
  ds::visit([](const ds::tensor_name&, auto& p) { p.zero(); }, t.p);
  for (std::size_t e = 0; e < experts; ++e) {
    t.p.gate.weight.data()[e * dim] = 1 + 1e-4F * static_cast<float>((e * 3) % experts);
  }
  rows_of<ds::bf16, dim> x(1);
  for (std::size_t d = 0; d < dim; ++d) x.values()[d] = ds::bf16(d == 0 ? 1.0F : 0.0F);
  t.backward(b, x.view());
  for (std::size_t e = 0; e < experts; ++e) {
    CHECK(t.g.gate.load.data()[e] == ((e * 3) % experts >= 5 ? 1.0F : 0.0F));
  }
  support::facet("gate", "forward");
}

TEST_CASE("gate: released rules") {
  static_assert(ds::gate_suits<ds::top_k_gate<ds::greedy_gate>, 64, 6>);
  static_assert(ds::gate_suits<ds::top_k_gate<ds::group_limited_gate>, 160, 6>);
  static_assert(ds::gate_suits<ds::top_k_gate<ds::bias_balanced_gate>, 256, 8>);
  static_assert(ds::gate_suits<ds::top_k_gate<ds::sqrt_softplus_gate>, 384, 6>);
  const ds::gate_rule r = ds::bias_balanced_gate.rule();
  CHECK((r.groups == 8 && r.top_groups == 4 && r.scale == 2.5));
  CHECK(ds::group_limited_gate.norm == ds::renormalize::no);
}
