// SPDX-License-Identifier: Apache-2.0
// linear: values against the oracle, gradients, and stacked weights that meet the rows of segments.
#include "deepseek/layers/linear.hpp"

#include "deepseek/backend/cpu/gemm.hpp"
#include "deepseek/backend/reference/gemm.hpp"

#include "layers/layer_trial.hpp"
#include "oracle/gemm.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {
using with_bias = ds::linear<5, 7, ds::plain, ds::bias::present>;

template <class Tensor>
std::vector<double> values(const Tensor& t) {
  return support::to_double(std::vector<double>(t.data(), t.data() + t.size()));
}
}  // namespace

TEST_CASE_TEMPLATE("linear: values and gradients", B, ds::reference, ds::cpu) {
  const B b;
  rows_of<double, 5> x(6);
  layer_test::trial<with_bias, double> t;
  for (ds::index_t i = 0; i < 7; ++i) t.p.bias.data()[i] = 0.25 * static_cast<double>(i) - 1;
  const auto want = oracle::linear(x.values(), values(t.p.weight), values(t.p.bias), {6, 5, 7});
  support::expect(
      "linear", "with bias",
      support::compare(support::gemm_limits(ds::dtype::f64, 16), t.forward(b, x.view()), want, 7));
  layer_test::expect_layer_gradient<with_bias>(b, "linear", x.view());
  layer_test::expect_layer_gradient<ds::linear<5, 3>>(b, "linear", x.view());
  support::facet("linear", "forward");
}

TEST_CASE_TEMPLATE("linear: stacked weights meet the rows of their segments", B, ds::reference,
                   ds::cpu) {
  const B b;
  using layer = ds::linear<3, 4>;
  using stacked = ds::stacked<3, ds::host>;
  ds::parameters<layer, double, stacked> p, g;
  ds::initialize(ds::normal_init{.stddev = 1, .seed = 2}, p);
  const std::int32_t starts[] = {0, 2, 2, 5};  // the second expert has no rows
  const ds::view<const std::int32_t, ds::host, ds::dyn> offsets(starts, {4});
  rows_of<double, 3> x(5), dx(5);
  rows_of<double, 4> y(5), dy(5, "dy");
  ds::arena<ds::host> tape;
  const ds::call<B> plain{b, layer_test::train, b.workspace(), tape, 0, {}};
  const auto c = plain.template with<ds::segments>(offsets);
  ds::keep<ds::for_backward, layer, double, ds::host> kept;
  ds::run_forward(c, p, ds::as_const(x.view()), y.view(), kept);
  const auto want = oracle::grouped_linear(x.values(), values(p.weight), {0, 2, 2, 5}, {5, 3, 4});
  support::expect("linear", "stacked",
                  support::compare(support::gemm_limits(ds::dtype::f64, 8), y.values(), want, 4));
  ds::run_backward(c, p, ds::as_const(x.view()), ds::as_const(dy.view()), dx.view(), kept, g);
  // Expert by expert with plain weights: the same values.
  for (ds::index_t e : {0, 2}) {
    layer_test::trial<layer, double> one;
    std::copy_n(p.weight.data() + e * 12, 12, one.p.weight.data());
    const ds::index_t first = starts[e], n = starts[e + 1] - first;
    ds::keep<ds::for_backward, layer, double, ds::host> k;
    rows_of<double, 3> part(n);
    ds::run_backward<layer>(plain, one.p, ds::as_const(x.rows(first, n)),
                            ds::as_const(dy.rows(first, n)), part.view(), k, one.g);
    for (ds::index_t i = 0; i < 12; ++i) {
      CHECK(g.weight.data()[e * 12 + i] == doctest::Approx(one.g.weight.data()[i]).epsilon(1e-12));
    }
    for (std::size_t i = 0; i < part.values().size(); ++i) {
      CHECK(dx.values()[static_cast<std::size_t>(first) * 3 + i] ==
            doctest::Approx(part.values()[i]).epsilon(1e-12));
    }
  }
  for (ds::index_t i = 12; i < 24; ++i) CHECK(g.weight.data()[i] == 0);
}
