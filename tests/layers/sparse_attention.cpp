// SPDX-License-Identifier: Apache-2.0
// deepseek_sparse_attention against its definition in double: both forms, with YaRN; T <= top_k is
// latent attention bit for bit; queries read the normed latent, keys a LayerNorm with bias.
#include "layers/sparse_case.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

using namespace sparse_test;
using form = ds::latent_form;
using layer_test::rows_of;

namespace {

inline constexpr auto none = ds::indexer_training::none;
constexpr ds::dsa_config few = with(none, form::by_cost, 4);
constexpr ds::dsa_config scaled = with_yarn(few);
constexpr ds::dsa_config many = with(none, form::naive, 9);
constexpr ds::dsa_config without_rope = [] {
  auto c = few;
  c.attention.rope_dim = 0;
  return c;
}();

template <ds::dsa_config C>
layer_test::trial<ds::deepseek_sparse_attention<C>, double> unsettled() {
  layer_test::trial<ds::deepseek_sparse_attention<C>, double> t;
  unsettle(t.p);
  return t;
}

template <ds::dsa_config C, class B>
void check(const B& b) {
  const auto t = unsettled<C>();
  rows_of<double, 10> x(23);
  const auto want = oracle::dsa(x.values(), weights_of(t.p), shape_of<C>());
  for (const form how : {form::naive, form::absorbed}) {
    CHECK(distance(t.forward(b, x.view(), {.latent = how}), want) < 1e-12);
  }
  // Attention over all keys is something else.
  auto all = shape_of<C>();
  all.top_k = 23;
  CHECK(distance(oracle::dsa(x.values(), weights_of(t.p), all), want) > 1e-3);
}

}  // namespace

TEST_CASE_TEMPLATE("sparse attention: the definition, both forms", B, ds::reference, ds::cpu) {
  const B b{};
  check<few>(b);
  check<scaled>(b);
  check<without_rope>(b);
}

TEST_CASE("sparse attention: no more tokens than top_k is latent attention, bit for bit") {
  const ds::cpu b({.threads = 2});
  rows_of<double, 10> x(12);
  const auto sparse = unsettled<many>();
  layer_test::trial<ds::latent_attention<many.attention, ds::causal>, double> dense;
  dense.p.wq_a = sparse.p.wq_a, dense.p.q_norm = sparse.p.q_norm, dense.p.wq_b = sparse.p.wq_b;
  dense.p.wkv_a.weight = sparse.p.wkv_a.weight, dense.p.kv_norm = sparse.p.kv_norm;
  dense.p.wkv_b.weight = sparse.p.wkv_b.weight, dense.p.wo.weight = sparse.p.wo.weight;
  for (const form how : {form::naive, form::absorbed}) {
    for (const ds::index_t n : {1, 8, 9}) {
      CHECK(support::same_bits(sparse.forward(b, x.rows(0, n), {.latent = how}),
                               dense.forward(b, x.rows(0, n), {.latent = how})));
    }
    // With more, the first top_k rows still see all before them.
    const auto more = sparse.forward(b, x.view(), {.latent = how});
    const auto all = dense.forward(b, x.view(), {.latent = how});
    const std::vector<double> head(more.begin(), more.begin() + 90);
    CHECK(support::same_bits(head, {all.begin(), all.begin() + 90}));
    CHECK(distance(more, all) > 1e-3);
  }
}

TEST_CASE("sparse attention: packed sequences have the bits of each alone; threads") {
  using layer = ds::deepseek_sparse_attention<with(none, form::naive, 4)>;
  const ds::cpu b{{.threads = 2}};
  rows_of<float, 10> x(60);
  layer_test::expect_sequences_alone<layer>(b, "sparse attention", x, {0, 1, 1, 25, 28, 60});
  layer_test::trial<layer, float> one, more;
  const auto dx = one.backward(ds::cpu{}, x.view());
  CHECK(support::same_bits(dx, more.backward(ds::cpu{{.threads = 3}}, x.view())));
  CHECK(layer_test::flat(one.g) == layer_test::flat(more.g));
}

TEST_CASE("sparse attention: which form is cheaper counts the selected keys") {
  constexpr ds::dsa_config v3_2{.attention = {.dim = 7168,
                                              .heads = 128,
                                              .q_rank = 1536,
                                              .kv_rank = 512,
                                              .nope_dim = 128,
                                              .rope_dim = 64,
                                              .v_dim = 128}};
  static_assert(ds::chosen_sparse_form(v3_2, form::by_cost, 1, 131072) == form::absorbed);
  static_assert(ds::chosen_sparse_form(v3_2, form::by_cost, 4096, 4096) == form::naive);
  static_assert(ds::chosen_sparse_form(v3_2, form::by_cost, 131072, 131072) == form::absorbed);
  static_assert(ds::cheaper_form(v3_2.attention, 131072, 131072) == form::naive);
  static_assert(ds::chosen_sparse_form(v3_2, form::naive, 1, 131072) == form::naive);
  static_assert(ds::rows_are_independent<ds::deepseek_sparse_attention<many>>);
  static_assert(!ds::rows_are_independent<ds::deepseek_sparse_attention<few>>);
  CHECK(ds::chosen_sparse_form(many, form::by_cost, 1, 20) == form::naive);
}
