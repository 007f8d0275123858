// SPDX-License-Identifier: Apache-2.0
// The balance losses of moe: what is reported against the oracle, gradients, each sequence by
// itself, the loss of devices and of their traffic.
#include "deepseek/layers/balance.hpp"
#include "deepseek/layers/moe.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"
#include "oracle/gemm.hpp"
#include "oracle/moe.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

constexpr std::size_t dim = 6, experts = 8, active = 3;
inline constexpr ds::gate_config sigmoid{.score = ds::gate_score::sigmoid,
                                         .bias = ds::selection_bias::present,
                                         .groups = 4,
                                         .top_groups = 2,
                                         .group = ds::group_score::best_two};
template <ds::balance_form Form, ds::device_balance Devices = ds::device_balance{}>
struct layer : ds::moe<ds::moe_config{.dim = 6,
                                      .hidden = 3,
                                      .routed = 8,
                                      .active = 3,
                                      .balance = 0.3,
                                      .form = Form,
                                      .devices = Devices},
                       ds::top_k_gate<sigmoid>> {};
inline constexpr ds::device_balance four{.count = 4, .top = 2, .alpha = 0.5, .communication = 0.25};

struct sharp_gate {
  template <class P>
  void operator()(P& p) const {
    for (std::size_t e = 0; e < experts; ++e) {
      for (std::size_t d = 0; d < dim; ++d) {
        p.gate.weight.data()[e * dim + d] = 0.31 * static_cast<double>((3 * e + d) % experts) - 1;
      }
      p.gate.choice.bias.data()[e] = 0.25F * static_cast<float>((5 * e) % 7) - 0.75F;
    }
  }
};
rows_of<double, dim> unit_like(std::size_t tokens) {
  rows_of<double, dim> x(static_cast<ds::index_t>(tokens));
  for (std::size_t i = 0; i < x.values().size(); ++i) {
    x.values()[i] =
        0.05 * std::sin(static_cast<double>(3 * i)) + (i % dim == i / dim % dim ? 1 : 0);
  }
  return x;
}

const std::int32_t starts[] = {0, 2, 2, 5};
const ds::sequence_offsets<ds::host> packed(starts, {4});

oracle::gate_result choose(const std::vector<double>& x, bool by_affinity) {
  layer_test::trial<layer<ds::balance_form::batch>, double> t;
  sharp_gate{}(t.p);
  const std::vector<double> w(t.p.gate.weight.data(), t.p.gate.weight.data() + experts * dim);
  const std::size_t tokens = x.size() / dim;
  oracle::gate_shape s{tokens, experts, active};
  s.score = oracle::gate_scores::sigmoid;
  if (!by_affinity) {
    const auto& bias = t.p.gate.choice.bias;
    s.bias.assign(bias.data(), bias.data() + experts);
    s.groups = 4, s.top_groups = 2;
    s.rank = oracle::group_rank::sum_of_two;
  }
  return oracle::gate_top_k(oracle::linear(x, w, {}, {tokens, dim, experts}), s);
}

template <class Net>
double reported(const std::vector<double>& x) {
  const ds::cpu b;
  layer_test::trial<Net, double> t;
  sharp_gate{}(t.p);
  ds::run_report report;
  auto run = layer_test::train;
  run.report = &report;
  run.sequences = packed;
  const ds::view<const double, ds::host, ds::dyn, dim> rows(x.data(), {5, dim});
  t.forward(b, rows, run);
  return report.auxiliary_loss;
}

template <class Net>
void check_gradient() {
  const ds::cpu b{{.threads = 2}};
  auto x = unit_like(5);
  auto run = layer_test::train;
  run.sequences = packed;
  layer_test::expect_layer_gradient<Net>(b, "balance", x.view(), run, sharp_gate{});
}

}  // namespace

TEST_CASE("balance: what is reported") {
  const auto x = unit_like(5).values();
  const auto by_bias = choose(x, false), by_score = choose(x, true);
  CHECK(by_bias.ids != by_score.ids);
  oracle::balance_shape s{5, experts};
  const auto loss = [&](const oracle::gate_result& g) {
    return oracle::balance_loss(g.probability, g.ids, s).loss;
  };
  const double batch = loss(by_bias);
  CHECK(reported<layer<ds::balance_form::batch>>(x) == doctest::Approx(0.3 * batch).epsilon(1e-12));
  s.starts = {0, 2, 2, 5};
  CHECK(reported<layer<ds::balance_form::sequence>>(x) ==
        doctest::Approx(0.3 * loss(by_bias)).epsilon(1e-12));
  CHECK(std::fabs(loss(by_bias) - batch) > 1e-3);
  s.divided = true;
  CHECK(reported<layer<ds::balance_form::affinity>>(x) ==
        doctest::Approx(0.3 * loss(by_score)).epsilon(1e-12));
  s = {5, experts};
  std::vector<std::int64_t> first;
  for (std::size_t t = 0; t < 5; ++t) first.push_back(by_bias.ids[t * active]);
  const double gshard = oracle::balance_loss(by_bias.probability, first, s).loss;
  CHECK(reported<layer<ds::balance_form::first_choice>>(x) ==
        doctest::Approx(0.3 * gshard).epsilon(1e-12));
  CHECK(std::fabs(gshard - batch) > 1e-3);
  // The mean over experts of (mean score x share of tokens), times E^2 / K.
  double mean = 0;
  for (std::size_t e = 0; e < experts; ++e) {
    double m = 0, c = 0;
    for (std::size_t t = 0; t < 5; ++t) m += by_bias.probability[t * experts + e] / 5;
    for (std::int64_t id : by_bias.ids) c += id == static_cast<std::int64_t>(e) ? 0.2 : 0;
    mean += m * c / experts;
  }
  CHECK(batch == doctest::Approx(mean * experts * experts / active).epsilon(1e-12));
  s = {5, experts, 4};
  const double devices = loss(by_bias);
  s.top_groups = 2;
  const double want = 0.3 * batch + 0.5 * devices + 0.25 * loss(by_bias);
  CHECK(reported<layer<ds::balance_form::batch, four>>(x) == doctest::Approx(want).epsilon(1e-12));
  support::facet("balance", "forward");
}

TEST_CASE("balance: gradients") {
  check_gradient<layer<ds::balance_form::sequence>>();
  check_gradient<layer<ds::balance_form::affinity>>();
  check_gradient<layer<ds::balance_form::first_choice>>();
  check_gradient<layer<ds::balance_form::batch, four>>();
}
