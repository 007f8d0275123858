// SPDX-License-Identifier: Apache-2.0
// Experts that are any layer: norms inside a stack, attention expert by expert on the sequences of
// the rows that each got, lists of different layers, a mixture inside a mixture. Against the same
// layers run apart on gathered rows; gradients; bits.
#include "deepseek/layers/attention.hpp"
#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/checkpointed.hpp"
#include "deepseek/layers/moe.hpp"
#include "deepseek/layers/norm.hpp"
#include "deepseek/layers/residual.hpp"
#include "deepseek/models/counts.hpp"

#include "deepseek/pattern/band.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/routing_case.hpp"
#include "oracle/gemm.hpp"
#include "oracle/moe.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

constexpr std::size_t dim = 4;
inline constexpr ds::attention_config heads{.dim = 4, .heads = 2, .rope = ds::rotary::none};
using attention = ds::multi_head_attention<heads, ds::causal>;
using normed = ds::residual<
    ds::chain<ds::rms_norm<4>, ds::called<"other", ds::layer_norm<4>>, ds::linear<4, 4>>>;
inline constexpr ds::moe_config three{.dim = 4, .routed = 3, .active = 2};
inline constexpr ds::moe_config all_three{.dim = 4, .routed = 3, .active = 3};
template <class Expert>  // of no config: nvcc 13 writes out what stands for one wrongly
using layer = ds::moe<three, ds::softmax_top_k<>, Expert>;
using stacked = layer<normed>;
using different = ds::expert_list<attention, ds::swiglu<4, 3>, normed>;
using all_different = ds::moe<all_three, ds::softmax_top_k<>, different>;

const std::int32_t starts[] = {0, 5, 5, 12};
layer_test::options packed(const layer_test::options& from) {
  auto run = from;
  run.sequences = {starts, {4}};
  return run;
}

template <class From, class To>
void take(const From& from, std::size_t e, To& to) {
  ds::visit(
      [&](const ds::tensor_name&, const auto& many, auto& one) {
        std::copy_n(many.data() + static_cast<ds::index_t>(e) * one.size(), one.size(), one.data());
      },
      from, to);
}

// y of a moe from what each expert does with the rows it got; run(e, rows, options) -> y rows.
template <class P, class Run>
std::vector<double> apart(const P& gate, const std::vector<double>& x, const Run& run) {
  const std::size_t n = x.size() / dim;
  const std::vector<double> w(gate.weight.data(), gate.weight.data() + 3 * dim);
  const auto g = oracle::gate_top_k(oracle::linear(x, w, {}, {n, dim, 3}), {n, 3, 2});
  std::vector<double> y(x.size());
  for (std::size_t e = 0; e < 3; ++e) {
    std::vector<double> rows;
    std::vector<std::size_t> from;
    std::vector<std::int32_t> at{0};
    for (std::size_t q = 0; q < 3; ++q) {
      for (auto t = static_cast<std::size_t>(starts[q]);
           t < static_cast<std::size_t>(starts[q + 1]); ++t) {
        for (std::size_t k = 0; k < 2; ++k) {
          if (g.ids[t * 2 + k] != static_cast<std::int64_t>(e)) continue;
          rows.insert(rows.end(), x.begin() + static_cast<std::ptrdiff_t>(t * dim),
                      x.begin() + static_cast<std::ptrdiff_t>(t * dim + dim));
          from.push_back(t * 2 + k);
        }
      }
      at.push_back(static_cast<std::int32_t>(from.size()));
    }
    const ds::view<double, ds::host, ds::dyn, 4> seen(
        rows.data(), {static_cast<ds::index_t>(from.size()), ds::index_t{4}});
    layer_test::options own;
    own.sequences = {at.data(), {static_cast<ds::index_t>(at.size())}};
    const auto out = run(e, seen, own);
    for (std::size_t i = 0; i < from.size(); ++i) {
      for (std::size_t d = 0; d < dim; ++d) {
        y[from[i] / 2 * dim + d] += g.weights[from[i]] * out[i * dim + d];
      }
    }
  }
  return y;
}
void judge(const char* name, const std::vector<double>& got, const std::vector<double>& want) {
  support::expect(name, name,
                  support::compare({.type = ds::dtype::f64, .relative = 1e-13}, got, want, dim));
}

}  // namespace

TEST_CASE("experts with norms run as one stack") {
  static_assert(ds::runs_as_stack<normed>);
  static_assert(!ds::runs_as_stack<attention>);
  // Only experts that keep nothing can decode.
  const auto decodes = []<class L>(std::type_identity<L>) {
    return ds::keeps_nothing<ds::keep<ds::for_decode, L, float, ds::host>>();
  };
  static_assert(decodes(std::type_identity<stacked>{}));
  static_assert(!decodes(std::type_identity<attention>{}));
  static_assert(!decodes(std::type_identity<ds::checkpointed<ds::residual<attention>>>{}));
  static_assert(!ds::runs_as_stack<layer<ds::swiglu<4, 3>>>);
  const ds::cpu b{{.threads = 2}};
  rows_of<double, dim> x(12);
  layer_test::trial<stacked, double> t;
  ds::visit(
      [](const ds::tensor_name&, auto& p) {
        for (ds::index_t i = 0; i < p.size(); ++i) p.data()[i] += 0.1 * std::sin(double(i));
      },
      t.p.experts);
  const auto want = apart(t.p.gate, x.values(), [&](std::size_t e, const auto& rows, auto run) {
    layer_test::trial<normed, double> one;
    take(t.p.experts, e, one.p);
    return one.forward(b, rows, run);
  });
  judge("norm experts", t.forward(b, x.view()), want);
  layer_test::expect_layer_gradient<layer<normed>>(b, "norm experts", x.rows(0, 4),
                                                   layer_test::train, layer_test::sharp_router{});
}

TEST_CASE("attention experts see the tokens of their sequence that chose them") {
  const ds::cpu b{{.threads = 2}};
  rows_of<double, dim> x(12);
  layer_test::trial<layer<attention>, double> t;
  const auto want = apart(t.p.gate, x.values(), [&](std::size_t e, const auto& rows, auto run) {
    layer_test::trial<attention, double> one;
    one.p = t.p.experts.all[static_cast<ds::index_t>(e)];
    return one.forward(b, rows, run);
  });
  judge("attention experts", t.forward(b, x.view(), packed({})), want);
  const auto whole = t.forward(b, x.view());
  CHECK(!support::same_bits(whole, t.forward(b, x.view(), packed({}))));
  auto gradient = layer_test::unit_like<double, dim>(12);
  layer_test::expect_layer_gradient<layer<attention>>(b, "attention experts", gradient.view(),
                                                      packed(layer_test::train),
                                                      layer_test::sharp_router{});
  rows_of<float, dim> many(40);
  layer_test::expect_sequences_alone<layer<attention>>(b, "attention experts", many,
                                                       {0, 1, 17, 40});
}

TEST_CASE("a list of different experts") {
  const ds::cpu b{{.threads = 2}};
  rows_of<double, dim> x(12);
  using net = layer<different>;
  layer_test::trial<net, double> t;
  std::string paths;
  ds::visit([&](const ds::tensor_name& at, auto&) { paths += at.path + " "; }, t.p);
  CHECK(paths ==
        "gate.weight gate.load experts.0.wq.weight experts.0.wk.weight experts.0.wv.weight "
        "experts.0.wo.weight experts.1.w1.weight experts.1.w2.weight experts.1.w3.weight "
        "experts.2.norm.weight experts.2.other.weight experts.2.other.bias "
        "experts.2.linear.weight ");
  // Two of the three meet a token: attention 4 x 16, swiglu 3 x 12, norms 12 and linear 16.
  static_assert(ds::parameter_count<net>() == 12 + 64 + 36 + 28);
  static_assert(ds::active_parameter_count<net>() == 12 + (64 + 36 + 28) * 2 / 3);
  static_assert(ds::active_parameter_count<layer<attention>>() == 12 + 2 * 64);
  static_assert(ds::active_parameter_count<layer<normed>>() == 12 + 2 * 28);
  const auto want = apart(t.p.gate, x.values(), [&](std::size_t e, const auto& rows, auto run) {
    const auto with = [&](auto layer_type, const auto& p) {
      layer_test::trial<typename decltype(layer_type)::type, double> one;
      one.p = p;
      return one.forward(b, rows, run);
    };
    if (e == 0) return with(std::type_identity<attention>{}, ds::field_of<0>(t.p.experts));
    if (e == 1) return with(std::type_identity<ds::swiglu<4, 3>>{}, ds::field_of<1>(t.p.experts));
    return with(std::type_identity<normed>{}, ds::field_of<2>(t.p.experts));
  });
  judge("expert_list", t.forward(b, x.view(), packed({})), want);
  layer_test::expect_layer_gradient<all_different>(b, "expert_list", x.rows(0, 5));
  rows_of<float, dim> many(60);
  layer_test::trial<net, float> one, again;
  const auto dx = one.backward(ds::cpu{}, many.view());
  CHECK(support::same_bits(again.backward(ds::cpu{{.threads = 3}}, many.view()), dx));
  CHECK(support::same_bits(layer_test::flat(again.g), layer_test::flat(one.g)));
  CHECK(one.backward(b, many.rows(0, 0)).empty());  // no tokens: no expert is run
}
