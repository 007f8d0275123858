// SPDX-License-Identifier: Apache-2.0
// Training of sparse attention: the main path against 4-point differences with the selection held;
// the indexer's loss, over the selected keys and over all, against its definition, and its gradient
// against differences of it; nothing of that loss reaches the rest of the layer.
#include "layers/sparse_case.hpp"

#include "deepseek/backend/reference/reference.hpp"

using namespace sparse_test;
using layer_test::rows_of;
using training = ds::indexer_training;

namespace {

template <training How>
using layer = ds::deepseek_sparse_attention<with(How, ds::latent_form::by_cost, 4)>;

// The loss that a forward run reports.
template <class Net, class B, class X>
double reported(const B& b, const layer_test::trial<Net, double>& t, const X& x) {
  ds::run_report report;
  auto run = layer_test::train;
  run.report = &report;
  t.forward(b, x, run);
  return report.auxiliary_loss;
}

template <class P, class F>
void each_of_indexer(P& p, const F& f) {
  ds::visit(
      [&](const ds::tensor_name& at, auto& t) {
        if (at.path.starts_with("indexer.")) f(t);
      },
      p);
}

template <training How>
void check_loss() {
  const ds::reference b;
  layer_test::trial<layer<How>, double> t;
  unsettle(t.p);
  rows_of<double, 10> x(11);
  const auto w = weights_of(t.p);
  const auto s = shape_of<with(How, ds::latent_form::by_cost, 4)>();
  const auto sees = How == training::dense
                        ? oracle::causal(11, 11)
                        : oracle::selected(oracle::dsa_scores(x.values(), w, s), 11, 4);
  const double want = 0.7 * oracle::dsa_loss(x.values(), w, s, sees);
  CHECK(want > 0.01);
  CHECK(std::fabs(reported(b, t, x.view()) - want) < 1e-12 * (1 + want));

  std::vector<double> at, g;
  each_of_indexer(t.p, [&](auto& v) { at.insert(at.end(), v.data(), v.data() + v.size()); });
  t.backward(b, x.view());
  each_of_indexer(t.g, [&](auto& v) { g.insert(g.end(), v.data(), v.data() + v.size()); });
  const auto loss = [&](const std::vector<double>& moved) {
    std::size_t i = 0;
    each_of_indexer(t.p, [&](auto& v) {
      for (ds::index_t j = 0; j < v.size(); ++j) v.data()[j] = moved[i++];
    });
    return reported(b, t, x.view());
  };
  support::expect_gradient("sparse attention", "indexer", support::check_gradient(loss, at, g));
}

}  // namespace

TEST_CASE("sparse attention: gradient of the main path, one and several sequences") {
  const ds::reference b;
  rows_of<double, 10> x(9);
  auto run = layer_test::train;
  layer_test::expect_layer_gradient<layer<training::none>>(b, "sparse attention", x.view(), run);
  const std::int32_t offsets[] = {0, 2, 2, 9};
  run.sequences = {offsets, {4}};
  layer_test::expect_layer_gradient<layer<training::none>>(b, "sparse attention", x.view(), run);
}

TEST_CASE("sparse attention: the indexer's loss over the selected keys") {
  check_loss<training::sparse>();
}
TEST_CASE("sparse attention: the indexer's loss over all keys (warm-up)") {
  check_loss<training::dense>();
}

TEST_CASE("sparse attention: the indexer's loss reaches the indexer alone") {
  const ds::reference b;
  rows_of<double, 10> x(11);
  layer_test::trial<layer<training::none>, double> without;
  layer_test::trial<layer<training::sparse>, double> with_loss;
  CHECK(support::same_bits(without.backward(b, x.view()), with_loss.backward(b, x.view())));
  ds::visit(
      [](const ds::tensor_name& at, auto& a, auto& c) {
        const bool same = all_of(a) == all_of(c);
        CHECK(same != at.path.starts_with("indexer."));
      },
      without.g, with_loss.g);
  each_of_indexer(without.g, [](auto& t) {
    for (double e : all_of(t)) CHECK(e == 0);
  });
  // Injected times gradient_scale; a second backward adds.
  auto run = layer_test::train;
  layer_test::trial<layer<training::sparse>, double> twice;
  run.gradient_scale = 2;
  twice.backward(b, x.view(), run);
  std::vector<double> one, two;
  each_of_indexer(with_loss.g,
                  [&](auto& t) { one.insert(one.end(), t.data(), t.data() + t.size()); });
  each_of_indexer(twice.g, [&](auto& t) { two.insert(two.end(), t.data(), t.data() + t.size()); });
  for (std::size_t i = 0; i < one.size(); ++i) CHECK(two[i] == doctest::Approx(2 * one[i]));
}
