// SPDX-License-Identifier: Apache-2.0
// hyper_connection, hyper_streams, hyper_head: values against the oracle, gradients, names.
#include "deepseek/layers/hyper_connection.hpp"

#include "deepseek/layers/linear.hpp"
#include "deepseek/layers/mlp.hpp"
#include "deepseek/layers/repeat.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"
#include "oracle/hyper_connection.hpp"
#include "oracle/norm.hpp"

namespace ds = deepseek;
using layer_test::rows_of;
using oracle::reals;

namespace {

constexpr std::size_t D = 5, n = 3, rows = 4;
inline constexpr ds::hyper_config three{.streams = 3};
using body = ds::rms_norm<5>;
using layer = ds::hyper_connection<body, three, "hc_ffn">;
using head = ds::hyper_head<5, three>;

reals values(const auto& t) {
  return reals(t.data(), t.data() + t.size());
}

template <class P>
reals projected(const reals& x, const P& p) {
  const reals ones(n * D, 1.0), normed = oracle::rms_norm(x, ones, n * D, 1e-6);
  const std::size_t width = static_cast<std::size_t>(p.base.size());
  reals mu(rows * width);
  for (std::size_t t = 0; t < rows; ++t) {
    for (std::size_t j = 0; j < width; ++j) {
      for (std::size_t i = 0; i < n * D; ++i) {
        mu[t * width + j] += p.fn.data()[j * n * D + i] * normed[t * n * D + i];
      }
    }
  }
  return mu;
}

template <class B>
void check(const B& b) {
  rows_of<double, 15> x(rows);
  const reals& in = x.values();
  const auto limits = support::gemm_limits(ds::dtype::f64, 256);
  layer_test::trial<layer, double> t;
  const auto maps = oracle::hyper_maps(projected(in, t.p.hyper), values(t.p.hyper.base),
                                       values(t.p.hyper.scale), n, 20, 1e-6);
  const reals read = oracle::hyper_read(in, maps.pre, n, D);
  const reals y = oracle::rms_norm(read, values(t.p.body.weight), D, 1e-6);
  support::expect(
      "hyper_connection", std::string(b.name()),
      support::compare(limits, t.forward(b, x.view()), oracle::hyper_write(in, y, maps, n, D), D));

  layer_test::trial<head, double> h;
  const auto last = oracle::hyper_maps(projected(in, h.p.hyper), values(h.p.hyper.base),
                                       values(h.p.hyper.scale), n, 1, 1e-6);
  support::expect(
      "hyper_head", std::string(b.name()),
      support::compare(limits, h.forward(b, x.view()), oracle::hyper_read(in, last.pre, n, D), D));
  layer_test::expect_layer_gradient<layer>(b, "hyper_connection", x.view());
  layer_test::expect_layer_gradient<head>(b, "hyper_head", x.view());
}

}  // namespace

TEST_CASE_TEMPLATE("hyper_connection: values and gradients", B, ds::reference, ds::cpu) {
  check(B{});
  support::facet("hyper_connection", "forward");
}

TEST_CASE("hyper_streams: copies, and the sum of their gradients") {
  const ds::reference b;
  rows_of<double, 5> x(rows);
  layer_test::trial<ds::hyper_streams<5, three>, double> t;
  const auto y = t.forward(b, x.view());
  for (std::size_t i = 0; i < y.size(); ++i) CHECK(y[i] == x.values()[i / 15 * 5 + i % 5]);
  layer_test::expect_layer_gradient<ds::hyper_streams<5, three>>(b, "hyper_streams", x.view());
}

TEST_CASE("hyper_connection: one stream with pre, post and mix of 1 is a residual") {
  // post = 2 sigmoid(0) = 1; mix of one stream is 1 up to eps.
  constexpr ds::hyper_config one{.streams = 1, .eps = 1e-12};
  const ds::reference b;
  rows_of<double, 5> x(rows);
  layer_test::trial<ds::hyper_connection<body, one, "hc">, double> t;
  layer_test::trial<ds::residual<body>, double> plain;
  t.p.hyper.fn.zero();
  t.p.hyper.base.zero();
  t.p.hyper.base.view()(0) = 50;  // pre = 1
  const auto y = t.forward(b, x.view()), want = plain.forward(b, x.view());
  for (std::size_t i = 0; i < y.size(); ++i) CHECK(std::fabs(y[i] - want[i]) < 1e-9);
}

TEST_CASE("hyper_connection: bf16 near double; the maps are kept in float") {
  const ds::reference b;
  rows_of<ds::bf16, 15> x(rows);
  rows_of<double, 15> exact_x(rows);
  layer_test::trial<layer, ds::bf16> t;
  static_assert(std::is_same_v<decltype(t.p.hyper.fn)::value_type, float>);
  const auto want = layer_test::trial<layer, double>().forward(b, exact_x.view());
  support::expect("hyper_connection", "bf16",
                  support::compare({.type = ds::dtype::bf16, .relative = 4 * 0x1p-8},
                                   t.forward(b, x.view()), want, D));
}

TEST_CASE("hyper_block: names as in the files; a block as a whole") {
  using block = ds::hyper_block<ds::called<"attn", ds::linear<5, 5>>, ds::swiglu<5, 4>, three>;
  struct net : ds::chain<ds::linear<3, 5>, ds::hyper_streams<5, three>, ds::repeat<2, block>, head,
                         ds::rms_norm<5>> {};
  std::string names;
  layer_test::trial<net, double> t;
  ds::visit([&](const ds::tensor_name& at, const auto&) { names += at.path + "\n"; }, t.p);
  for (const char* name :
       {"layers.0.hc_attn_fn\n", "layers.0.hc_attn_base\n", "layers.0.hc_attn_scale\n",
        "layers.1.attn_norm.weight\n", "layers.1.attn.weight\n", "layers.1.hc_ffn_fn\n",
        "layers.1.ffn_norm.weight\n", "layers.1.ffn.w1.weight\n", "\nhc_head_fn\n",
        "\nhc_head_base\n", "\nhc_head_scale\n", "\nnorm.weight\n"}) {
    CHECK_MESSAGE(names.find(name) != std::string::npos, name);
  }
  const ds::cpu b({.threads = 2});
  rows_of<double, 3> x(5);
  layer_test::expect_layer_gradient<net>(b, "hyper_block", x.view());
}
