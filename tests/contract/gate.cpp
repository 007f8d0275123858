// SPDX-License-Identifier: Apache-2.0
// What every gate promises inside a moe, asked of each: K different experts of a token, finite
// weights, the gradient of the whole layer by differences, distinct paths, a state that is not
// trained, the same bits for any number of threads and when it is run again, a token alone without
// training, no tokens. A new gate is one more line.
#include "deepseek/layers/gate.hpp"
#include "deepseek/layers/dense_gate.hpp"
#include "deepseek/layers/dynamic_router.hpp"
#include "deepseek/layers/jittered_gate.hpp"
#include "deepseek/layers/noisy_gate.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"

#include <set>

namespace ds = deepseek;

namespace {

constexpr ds::index_t dim = 3, experts = 4;
inline constexpr ds::gate_config grouped{.score = ds::gate_score::sigmoid,
                                         .bias = ds::selection_bias::present,
                                         .groups = 2,
                                         .top_groups = 1,
                                         .group = ds::group_score::best_two,
                                         .scale = 2.5};

#define EVERY_GATE                                                                     \
  ds::softmax_top_k<>, ds::softmax_top_k<ds::renormalize::yes>, ds::sigmoid_top_k,     \
      ds::top_k_gate<ds::sqrt_softplus_gate>, ds::top_k_gate<grouped>, ds::dense_gate, \
      ds::noisy_top_k<ds::noisy_config{.load = 0.1}>, ds::jittered<>,                  \
      ds::dynamic_router<ds::dynamic_config{.hidden = 5}>,                             \
      ds::sound_dynamic_router<ds::dynamic_config{.hidden = 5}>

template <class Gate>
inline constexpr ds::index_t active_of = std::is_same_v<Gate, ds::dense_gate> ? experts : 2;

// A layer of one router alone: y = the weights, spread over the experts (0 where not chosen).
template <class Gate>
struct spread {
  static constexpr ds::index_t out = experts, K = active_of<Gate>;
  static constexpr const char* label = "spread";
  using router = ds::router<dim, experts, K, Gate>;
  template <class Of>
  struct parts {
    using layer = spread;
    ds::each<Of, router> gate;
    static constexpr auto fields() { return std::tuple{ds::named("gate", &parts::gate)}; }
  };
  template <class T, class S>
  struct saved {
    ds::view<T, S, ds::dyn, experts> scores;
    ds::view<T, S, ds::dyn, K> weights;
    ds::view<std::int32_t, S, ds::dyn, K> ids;
  };
  template <class C, class P, class X, class Y, class Kept>
  static void forward(const C& c, const P& p, const X& x, const Y& y, Kept& k) {
    using T = typename Y::value_type;
    const ds::scope freed(c.scratch);
    auto& memory = c.template arena_for<Kept>();
    const ds::index_t n = x.extent(0);
    auto scores = memory.template make<T, ds::dyn, experts>(n);
    auto weights = memory.template make<T, ds::dyn, K>(n);
    auto ids = memory.template make<std::int32_t, ds::dyn, K>(n);
    ds::run_forward(c.in(0), p.gate, x, scores, k.gate);
    Gate::forward(c, p.gate.choice, scores, ds::gate_outputs{weights, ids});
    ds::ops::fill(c.backend, 0.0, y);
    for (ds::index_t t = 0; t < n; ++t) {
      for (ds::index_t i = 0; i < K; ++i) y(t, ids(t, i)) += 1 + weights(t, i);
    }
    if constexpr (ds::keeps_tape<Kept>) k.own = {scores, weights, ids};
  }
  template <class C, class P, class X, class DY, class DX, class Kept, class G>
  static void backward(const C& c, const P& p, const X& x, const DY& dy, const DX& dx, Kept& k,
                       G& g) {
    using T = typename DY::value_type;
    const ds::scope freed(c.scratch);
    auto dweights = c.scratch.template make<T, ds::dyn, K>(x.extent(0));
    auto dscores = c.scratch.template make<T, ds::dyn, experts>(x.extent(0));
    ds::ops::fill(c.backend, 0.0, dscores);
    ds::ops::fill(c.backend, 0.0, dx);
    for (ds::index_t t = 0; t < x.extent(0); ++t) {
      for (ds::index_t i = 0; i < K; ++i) dweights(t, i) = dy(t, k.own.ids(t, i));
    }
    const auto& own = k.own;
    Gate::backward(c, ds::gate_saved{own.scores, own.weights, own.ids}, dweights, dscores);
    ds::run_backward(c.in(0), p.gate, x, ds::as_const(dscores), dx, k.gate, g.gate);
  }
};

// First values far enough from each other that no difference changes a choice.
struct apart {
  template <class P>
  void operator()(P& p) const {
    ds::visit(
        [](const ds::tensor_name& at, auto& t) {
          const bool noise = at.path.find("noise") != std::string::npos;
          for (ds::index_t i = 0; i < t.size() && at.role == ds::field_role::trained; ++i) {
            const auto k = static_cast<double>(i);
            using T = typename std::remove_cvref_t<decltype(t)>::value_type;
            t.data()[i] = static_cast<T>(noise ? -3 + 0.1 * k : 1.7 * std::sin(2.3 * k + 0.4));
          }
        },
        p);
  }
};

}  // namespace

TEST_CASE_TEMPLATE("every gate keeps the contract", Gate, EVERY_GATE) {
  using layer = spread<Gate>;
  const ds::cpu b{{.threads = 2}};
  layer_test::trial<layer, double> t, again;
  apart{}(t.p), apart{}(again.p);
  std::set<std::string> paths;
  int tensors = 0;
  ds::visit(
      [&](const ds::tensor_name& at, const auto&) {
        ++tensors;
        paths.insert(at.path);
        if (at.path.find("load") != std::string::npos || at.path == "gate.bias") {
          CHECK(at.role == ds::field_role::state);
        }
      },
      t.p);
  CHECK(static_cast<int>(paths.size()) == tensors);

  // K different experts, each 1 + its weight: none twice, none without a finite weight >= 0.
  layer_test::rows_of<double, dim> x(100);
  for (const auto& run : {layer_test::options{}, layer_test::train}) {
    const auto y = t.forward(b, x.view(), run);
    for (std::size_t row = 0; row < 100; ++row) {
      ds::index_t chosen = 0;
      for (std::size_t e = 0; e < 4; ++e) {
        const double v = y[row * 4 + e];
        CHECK(std::isfinite(v));
        CHECK((v == 0 || v >= 1));
        chosen += v > 0 ? 1 : 0;
      }
      CHECK(chosen == layer::K);
    }
    CHECK(support::same_bits(again.forward(ds::cpu{{.threads = 3}}, x.view(), run), y));
    CHECK(support::same_bits(again.forward(ds::reference{}, x.rows(0, 0), run),
                             std::vector<double>{}));
  }
  // Without training a token alone has the bits that it has among others.
  const auto y = t.forward(b, x.view());
  const auto last = t.forward(b, x.rows(99, 1));
  CHECK(support::same_bits(last, std::vector<double>(y.end() - 4, y.end())));

  layer_test::expect_layer_gradient<layer>(b, "every gate", x.rows(0, 3), layer_test::train,
                                           apart{});
  const auto dx = t.backward(b, x.view());
  CHECK(support::same_bits(again.backward(ds::cpu{{.threads = 3}}, x.view()), dx));
  CHECK(support::same_bits(layer_test::flat(again.g), layer_test::flat(t.g)));
}
