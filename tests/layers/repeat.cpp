// SPDX-License-Identifier: Apache-2.0
// repeat<3, L> is a chain of three; residual adds what comes in; a chain in a chain is flat.
#include "deepseek/layers/repeat.hpp"
#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/dropout.hpp"
#include "deepseek/layers/mlp.hpp"
#include "deepseek/layers/residual.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

using drop = ds::dropout<6, ds::dropout_config{.rate = 0.1}>;
using layer = ds::residual<ds::chain<ds::mlp<6, 9, ds::activation::silu>, drop>>;
using three = ds::repeat<3, layer>;
using linked = ds::chain<ds::called<"a", ds::chain<layer>>, ds::called<"b", ds::chain<layer>>,
                         ds::called<"c", ds::chain<layer>>>;

template <class P>
void set(P& p, const std::vector<double>& values) {
  std::size_t at = 0;
  ds::visit(
      [&](const ds::tensor_name&, auto& t) {
        for (ds::index_t i = 0; i < t.size(); ++i)
          t.data()[i] = static_cast<float>(values.at(at++));
      },
      p);
  CHECK(at == values.size());
}

}  // namespace

TEST_CASE("repeat: three layers are a chain of three with the same weights") {
  const ds::cpu b{{.threads = 2}};
  rows_of<float, 6> x(11);
  layer_test::trial<three, float> r;
  layer_test::trial<linked, float> c;
  set(c.p, layer_test::flat(r.p));
  CHECK(support::same_bits(c.forward(b, x.view()), r.forward(b, x.view())));
  CHECK(support::same_bits(c.backward(b, x.view(), {}), r.backward(b, x.view(), {})));
  CHECK(support::same_bits(layer_test::flat(c.g), layer_test::flat(r.g)));
}

TEST_CASE("repeat: the layers differ in weights, names and dropped elements") {
  const ds::cpu b;
  layer_test::trial<ds::repeat<2, layer, 5>, float> t;
  std::string names;
  ds::visit([&](const ds::tensor_name& at, const auto&) { names += at.path + " "; }, t.p);
  CHECK(names.find("5.ffn.w1.weight") == 0);
  CHECK(names.find(" 6.ffn.w2.bias ") != std::string::npos);
  CHECK(t.p.all[0].body.get<0>().w1.weight.data()[0] !=
        t.p.all[1].body.get<0>().w1.weight.data()[0]);
  rows_of<float, 6> x(40);
  const layer_test::trial<ds::repeat<2, drop>, float> d;
  const auto y = d.forward(b, x.view(), layer_test::train);
  const auto zeros = std::count(y.begin(), y.end(), 0.0f);
  CHECK(std::abs(zeros - 46) < 5 * 7);  // 240 of 0.19; the same elements twice would be 24
  CHECK(zeros > 28);
}

TEST_CASE("repeat and residual: gradients") {
  const ds::cpu b;
  rows_of<double, 6> x(4);
  layer_test::expect_layer_gradient<three>(b, "repeat", x.view());
  layer_test::expect_layer_gradient<ds::residual<ds::linear<6, 6>>>(b, "residual", x.view());
  layer_test::trial<ds::residual<ds::linear<6, 6>>, double> with;
  layer_test::trial<ds::linear<6, 6>, double> without;
  ds::visit([](const ds::tensor_name&, auto& to, const auto& from) { to = from; }, without.p,
            with.p.body);
  auto y = without.forward(b, x.view());
  for (std::size_t i = 0; i < y.size(); ++i) y[i] += x.values()[i];
  CHECK(support::same_bits(with.forward(b, x.view()), y));
}
