// SPDX-License-Identifier: Apache-2.0
// moe with a capacity: who finds room, what a dropped token gets (nothing: the residual remains)
// and gives (no gradient to the expert), weights over what is kept, rerouting; in training only
// unless said otherwise; the load counts what was asked for.
#include "deepseek/layers/capacity.hpp"
#include "deepseek/layers/moe.hpp"
#include "deepseek/layers/residual.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/routing_case.hpp"
#include "oracle/gemm.hpp"
#include "oracle/moe.hpp"
#include "oracle/routing.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

constexpr std::size_t dim = 4, experts = 4, active = 2;
template <ds::capacity_config C>
struct layer : ds::moe<ds::moe_config{.dim = 4, .routed = 4, .active = 2, .capacity = C},
                       ds::softmax_top_k<ds::renormalize::yes>, ds::linear<4, 4>> {};

inline constexpr ds::capacity_config by_position{.factor = 0.75};
inline constexpr ds::capacity_config by_score{.rows = 3, .order = ds::drop_order::by_score};
inline constexpr ds::capacity_config over_kept{
    .rows = 3, .order = ds::drop_order::at_random, .weights = ds::kept_weights::over_kept};
inline constexpr ds::capacity_config rerouted{.rows = 5, .then = ds::overflow::rerouted};
inline constexpr ds::capacity_config always{.rows = 2, .when = ds::during::always};
inline constexpr ds::capacity_config roomy{.rows = 100};

template <class Tensor>
std::vector<double> values_of(const Tensor& t) {
  return std::vector<double>(t.data(), t.data() + t.size());
}

// The layer by the oracle: choice, places, weights, experts.
template <ds::capacity_config C, class P>
std::vector<double> exact(const P& p, const std::vector<double>& x, std::size_t& lost) {
  const std::size_t n = x.size() / dim;
  const auto logits = oracle::linear(x, values_of(p.gate.weight), {}, {n, dim, experts});
  const auto g =
      oracle::gate_top_k(logits, {n, experts, active, oracle::gate_weights::divided_by_sum});
  std::vector<double> priority;
  const ds::stream_key key{3, 0, 7, 2, ds::random_use::routing};
  for (std::size_t a = 0; a < g.ids.size() && C.order != ds::drop_order::by_position; ++a) {
    const auto e = static_cast<std::size_t>(g.ids[a]);
    priority.push_back(C.order == ds::drop_order::at_random
                           ? static_cast<double>(ds::random_word(key, a))
                           : g.probability[a / active * experts + e]);
  }
  const auto room = static_cast<std::size_t>(C.of(static_cast<ds::index_t>(n), 2, 4));
  const auto sent = oracle::capacity(g.ids, n, experts, room, priority);
  const auto w = values_of(p.experts.weight);
  std::vector<double> y(x.size());
  for (std::size_t a = 0; a < sent.size(); ++a) {
    if (sent[a] < 0) {
      ++lost;
      continue;
    }
    double weight = g.weights[a];
    const std::size_t other = a ^ 1U;  // of two choices
    if (C.weights == ds::kept_weights::over_kept && sent[other] < 0) weight = 1;
    const auto first = w.begin() + static_cast<std::ptrdiff_t>(sent[a]) * 16;
    const std::vector<double> row(x.begin() + static_cast<std::ptrdiff_t>(a / 2 * dim),
                                  x.begin() + static_cast<std::ptrdiff_t>(a / 2 * dim + dim));
    const auto out = oracle::linear(row, {first, first + 16}, {}, {1, dim, dim});
    for (std::size_t d = 0; d < dim; ++d) y[a / 2 * dim + d] += weight * out[d];
  }
  return y;
}

template <ds::capacity_config C>
void check_values(std::size_t tokens) {
  const ds::cpu b{{.threads = 2}};
  rows_of<double, dim> x(static_cast<ds::index_t>(tokens));
  layer_test::trial<layer<C>, double> t;
  std::size_t lost = 0;
  const auto want = exact<C>(t.p, x.values(), lost);
  support::expect("capacity", support::text("rows", C.rows, "order", static_cast<int>(C.order)),
                  support::compare({.type = ds::dtype::f64, .relative = 1e-14},
                                   t.forward(b, x.view(), layer_test::train), want, dim));
  CHECK(lost > 0);
  layer_test::trial<layer<roomy>, double> free;
  const auto y = t.forward(b, x.view());
  CHECK(support::same_bits(y, free.forward(b, x.view())) == (C.when == ds::during::training));
}

template <ds::capacity_config C>
void check_gradient(const char* name) {
  const ds::cpu b{{.threads = 2}};
  auto x = layer_test::unit_like<double, dim>(6);
  layer_test::expect_layer_gradient<layer<C>>(b, name, x.view(), layer_test::train,
                                              layer_test::sharp_router{});
}

}  // namespace

TEST_CASE("capacity: values") {
  CHECK(ds::capacity_config{.factor = 1.25}.of(10, 2, 4) == 7);
  check_values<by_position>(40);
  check_values<by_score>(9);
  check_values<over_kept>(9);
  check_values<always>(6);
  support::facet("capacity", "forward");
}

TEST_CASE("capacity: gradients") {
  check_gradient<by_score>("capacity");
  check_gradient<over_kept>("capacity");
  check_gradient<rerouted>("capacity");
}

TEST_CASE("capacity: a dropped token passes by the residual and gives the expert no gradient") {
  // All tokens are one: expert 0 and 1 of every token, room for two.
  struct same : ds::moe<ds::moe_config{.dim = 4, .routed = 4, .active = 2, .capacity = {.rows = 2}},
                        ds::softmax_top_k<>, ds::linear<4, 4>> {};
  const ds::cpu b;
  rows_of<double, dim> x(5);
  for (std::size_t i = dim; i < 20; ++i) x.values()[i] = x.values()[i - dim];
  layer_test::trial<ds::residual<same>, double> t;
  const auto y = t.forward(b, x.view(), layer_test::train);
  for (std::size_t i = 0; i < 20; ++i) CHECK((y[i] == x.values()[i]) == (i >= 8));
  const auto dx = t.backward(b, x.view());
  const auto dy = support::loss_weights(20);
  for (std::size_t i = 8; i < 20; ++i) CHECK(dx[i] == dy[i]);
  CHECK(dx[0] != dy[0]);
  double asked = 0;
  for (ds::index_t e = 0; e < 4; ++e) {
    asked = std::max(asked, static_cast<double>(t.g.body.gate.load.data()[e]));
  }
  CHECK(asked == 5);  // what was asked for, not what found room
}

TEST_CASE("capacity: rerouted choices fill the room that is left") {
  const ds::cpu b;
  rows_of<double, dim> x(10);
  for (std::size_t i = dim; i < 40; ++i) x.values()[i] = x.values()[i - dim];
  layer_test::trial<layer<rerouted>, double> t;  // 4 experts of 5 rows: all 20 find room
  const auto y = t.forward(b, x.view(), layer_test::train);
  // Tokens 0 .. 4 meet their two, the others the next two, weighed by these alone.
  for (std::size_t i = 0; i < 20; ++i) {
    CHECK(y[i] == y[i % dim]);
    CHECK(y[20 + i] == y[20 + i % dim]);
  }
  CHECK(y[0] != y[20]);
}

TEST_CASE("capacity: rows depend on each other where it holds; bits do not depend on threads") {
  using plain = ds::moe<ds::moe_config{.dim = 4, .routed = 4, .active = 2}, ds::softmax_top_k<>,
                        ds::linear<4, 4>>;
  using held = ds::moe<ds::moe_config{.dim = 4, .routed = 4, .active = 2, .capacity = always},
                       ds::softmax_top_k<>, ds::linear<4, 4>>;
  using training = ds::moe<ds::moe_config{.dim = 4, .routed = 4, .active = 2, .capacity = by_score},
                           ds::softmax_top_k<>, ds::linear<4, 4>>;
  static_assert(ds::rows_are_independent<plain>);
  static_assert(!ds::rows_are_independent<held>);
  static_assert(ds::rows_are_independent<training>);  // in inference nothing is dropped
  rows_of<float, dim> x(60);
  layer_test::trial<layer<over_kept>, float> one, three;
  const auto dx = one.backward(ds::cpu{}, x.view());
  CHECK(support::same_bits(three.backward(ds::cpu{{.threads = 3}}, x.view()), dx));
  CHECK(support::same_bits(layer_test::flat(three.g), layer_test::flat(one.g)));
  layer_test::trial<layer<by_score>, float> alone;
  const auto y = alone.forward(ds::cpu{}, x.view());
  const auto last = alone.forward(ds::cpu{}, x.rows(59, 1));
  CHECK(support::same_bits(last, std::vector<float>(y.end() - 4, y.end())));
}
