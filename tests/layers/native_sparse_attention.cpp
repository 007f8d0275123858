// SPDX-License-Identifier: Apache-2.0
// native_sparse_attention against a slow reference in double, with and without overlap; gradients;
// with everything selected the branch is dense attention.
#include "deepseek/layers/native_sparse_attention.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"
#include "oracle/native_sparse_attention.hpp"

namespace ds = deepseek;
using layer_test::rows_of;
using layer_test::trial;

namespace {

constexpr ds::nsa_config with(ds::overlap how, ds::pooling entries, ds::rotary rope) {
  return {.attention = {.dim = 6, .heads = 4, .kv_heads = 2, .head_dim = 4, .rope = rope},
          .stride = 2,
          .windows = how,
          .entries = entries,
          .blocks = {.block = 4, .count = 3, .initial = 1, .recent = 1},
          .window = 3};
}
constexpr auto adjacent = with(ds::overlap::absent, ds::pooling::learned, ds::rotary::none);
constexpr auto overlapped = with(ds::overlap::present, ds::pooling::learned, ds::rotary::none);
constexpr auto turned = with(ds::overlap::present, ds::pooling::learned, ds::rotary::half);
constexpr auto means = with(ds::overlap::absent, ds::pooling::mean, ds::rotary::half);

template <ds::nsa_config C>
oracle::nsa_shape shape_of() {
  const auto u = [](ds::index_t i) { return static_cast<std::size_t>(i); };
  return {u(C.attention.dim),
          u(C.attention.heads),
          u(C.attention.kv()),
          u(C.attention.width()),
          u(C.stride),
          u(C.blocks.block),
          u(C.blocks.count),
          u(C.blocks.initial),
          u(C.blocks.recent),
          u(C.window),
          C.windows == ds::overlap::present};
}
template <class Tensor>
std::vector<double> all_of(const Tensor& t) {
  return support::to_double(t.data(), static_cast<std::size_t>(t.size()));
}
template <class P>
oracle::nsa_weights weights_of(const P& p) {
  const auto& c = p.template get<0>();
  const auto& s = p.template get<1>();
  const auto& w = p.template get<2>();
  return {all_of(p.wq.weight),
          all_of(p.wo.weight),
          all_of(p.mix.gate.weight),
          all_of(p.mix.gate.bias),
          {all_of(c.rows.wk.weight), all_of(c.rows.wv.weight)},
          {all_of(s.rows.wk.weight), all_of(s.rows.wv.weight)},
          {all_of(w.rows.wk.weight), all_of(w.rows.wv.weight)},
          {all_of(c.body.pool_k.gate.weight), all_of(c.body.pool_k.ape.weight)},
          {all_of(c.body.pool_v.gate.weight), all_of(c.body.pool_v.ape.weight)}};
}
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::fmax(most, std::fabs(a[i] - b[i]));
  return most;
}

template <ds::nsa_config C, class B>
void check_values(const B& b) {
  trial<ds::native_sparse_attention<C>, double> t;
  for (int i = 0; i < 12; ++i) t.p.mix.gate.bias.data()[i] = 0.3 * std::sin(i + 1.0);
  rows_of<double, 6> x(27);
  const auto want = oracle::native_sparse_attention(x.values(), weights_of(t.p), shape_of<C>());
  CHECK(distance(t.forward(b, x.view()), want) < 1e-12);
  auto fewer = shape_of<C>();
  fewer.count = 2;  // one chosen block less is something else
  CHECK(distance(oracle::native_sparse_attention(x.values(), weights_of(t.p), fewer), want) > 1e-4);
}

}  // namespace

TEST_CASE_TEMPLATE("native sparse attention: the definition", B, ds::reference, ds::cpu) {
  const B b{};
  check_values<adjacent>(b);
  check_values<overlapped>(b);
}

TEST_CASE_TEMPLATE("native sparse attention: gradients", L, ds::native_sparse_attention<turned>,
                   ds::native_sparse_attention<means>) {
  const ds::cpu b({.threads = 2});
  rows_of<double, 6> x(18, "tokens");
  auto run = layer_test::train;
  layer_test::expect_layer_gradient<L>(b, "native sparse attention", x.view(), run);
  const std::int32_t offsets[] = {0, 5, 5, 18};
  run.sequences = {offsets, {4}};
  layer_test::expect_layer_gradient<L>(b, "native sparse attention", x.view(), run);
}

TEST_CASE("native sparse attention: all blocks selected is dense causal attention") {
  const ds::reference b;
  rows_of<double, 6> x(21);
  constexpr ds::attention_config c = turned.attention;
  constexpr ds::selected_blocks_config all{.block = 4, .count = 6, .initial = 0, .recent = 0};
  trial<ds::fused_attention<c, ds::fixed_weights<ds::branch_weights{{0, 1}}>, ds::plain,
                            ds::pooled<2>, ds::selected_blocks<all>>,
        double>
      sparse;
  trial<ds::multi_head_attention<c, ds::causal>, double> dense;
  sparse.p.wq = dense.p.wq, sparse.p.wo = dense.p.wo;
  sparse.p.rows.wk = dense.p.wk, sparse.p.rows.wv = dense.p.wv;
  CHECK(distance(sparse.forward(b, x.view()), dense.forward(b, x.view())) < 1e-14);
}

TEST_CASE("native sparse attention: sequences side by side, threads, names") {
  using layer = ds::native_sparse_attention<turned>;
  const ds::cpu b({.threads = 2});
  rows_of<float, 6> x(45);
  layer_test::expect_sequences_alone<layer>(b, "native sparse attention", x, {0, 1, 1, 20, 45});
  trial<layer, float> one, more;
  const auto dx = one.backward(ds::cpu{}, x.view());
  CHECK(support::same_bits(dx, more.backward(ds::cpu{{.threads = 2}}, x.view())));
  CHECK(layer_test::flat(one.g) == layer_test::flat(more.g));
  std::string names;
  ds::visit([&](const ds::tensor_name& at, const auto&) { names += at.path + "\n"; }, one.p);
  CHECK(names ==
        "wq.weight\nwo.weight\nmix.weight\nmix.bias\nbranches.0.wk.weight\nbranches.0.wv.weight\n"
        "branches.0.pool_k.gate.weight\nbranches.0.pool_k.ape\nbranches.0.pool_v.gate.weight\n"
        "branches.0.pool_v.ape\nbranches.1.wk.weight\nbranches.1.wv.weight\n"
        "branches.2.wk.weight\nbranches.2.wv.weight\n");
}
