// SPDX-License-Identifier: Apache-2.0
// multi_head_attention and latent_attention with the sparse patterns and the score modifiers as
// their types: gradients; patterns of a run, lent by the composite around the layer.
#include "deepseek/layers/attention.hpp"
#include "deepseek/layers/latent_attention.hpp"

#include "deepseek/pattern/alibi.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/bigbird.hpp"
#include "deepseek/pattern/block.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/dilated.hpp"
#include "deepseek/pattern/documents.hpp"
#include "deepseek/pattern/fixed.hpp"
#include "deepseek/pattern/global_tokens.hpp"
#include "deepseek/pattern/soft_cap.hpp"
#include "deepseek/pattern/streaming.hpp"

#include "deepseek/backend/reference/reference.hpp"

#include "layers/layer_trial.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

inline constexpr ds::attention_config c{
    .dim = 6, .heads = 2, .kv_heads = 1, .rope = ds::rotary::none};
template <class P>
using layer = ds::multi_head_attention<c, P>;

using longformer = ds::either<ds::dilated<1, 2>, ds::global_tokens<1>>;
using sparse_transformer = ds::both<ds::causal, ds::either<ds::fixed<3, 1, 2>, ds::strided<4>>>;
using bounded = ds::scored<ds::scored<ds::causal, ds::alibi<2>>, ds::soft_cap<2>>;
using bounded_window = ds::scored<ds::both<ds::causal, ds::windowed<4>>, ds::soft_cap<1, 2>>;

// Two texts in one sequence of seven rows; whoever lends has the offsets.
template <class Pattern>
struct two_texts {
  static constexpr ds::index_t out = c.dim;
  static constexpr const char* label = "texts";
  template <class Of>
  struct parts {
    using layer = two_texts;
    ds::each<Of, ds::multi_head_attention<c, ds::lent_pattern>> attn;
    static constexpr auto fields() { return std::tuple{ds::named("attn", &parts::attn)}; }
  };
  template <class Call, class F>
  static void lend(const Call& call, F f) {
    static constexpr std::int32_t offsets[] = {0, 3, 7};
    const ds::documents texts(ds::view<const std::int32_t, ds::host, ds::dyn>(offsets, {3}));
    f(call.in(0).template with<ds::lent_pattern>(Pattern(ds::causal{}, texts)));
  }
  template <class Call, class P, class X, class Y, class K>
  static void forward(const Call& call, const P& p, const X& x, const Y& y, K& k) {
    lend(call, [&](const auto& in) { ds::run_forward(in, p.attn, x, y, k.attn); });
  }
  template <class Call, class P, class X, class DY, class DX, class K, class G>
  static void backward(const Call& call, const P& p, const X& x, const DY& dy, const DX& dx, K& k,
                       G& g) {
    lend(call, [&](const auto& in) { ds::run_backward(in, p.attn, x, dy, dx, k.attn, g.attn); });
  }
};

using modified = ds::scored<ds::scored<ds::both<ds::causal, ds::bigbird<1, 1>>, ds::alibi<2>>,
                            ds::soft_cap<3, 2>>;
template <ds::latent_form Form>
inline constexpr ds::mla_config latent{
    .dim = c.dim, .heads = 2, .kv_rank = 4, .nope_dim = 3, .rope_dim = 2, .v_dim = 2, .form = Form};
template <ds::latent_form Form>
using latent_layer = ds::latent_attention<latent<Form>, modified>;

template <class L>
void check_gradient(const char* text) {
  rows_of<double, c.dim> x(7);
  layer_test::expect_layer_gradient<L>(ds::reference(), text, x.view(), layer_test::train);
}

}  // namespace

TEST_CASE_TEMPLATE("attention layer: gradients under sparse patterns", P, longformer,
                   sparse_transformer, ds::streaming<1, 2>, ds::bigbird<1, 1>) {
  check_gradient<layer<P>>("attention layer pattern");
}
TEST_CASE_TEMPLATE("attention layer: gradients with score modifiers", P, bounded, bounded_window) {
  check_gradient<layer<P>>("attention layer modifier");
}

TEST_CASE("latent attention: sparse patterns and modifiers, the same in both forms") {
  using naive = latent_layer<ds::latent_form::naive>;
  using absorbed = latent_layer<ds::latent_form::absorbed>;
  check_gradient<naive>("latent_attention layer modifier");
  rows_of<double, c.dim> x(9);
  const layer_test::trial<naive, double> one;
  const layer_test::trial<absorbed, double> two;
  const auto want = one.forward(ds::reference(), x.view());
  const auto got = two.forward(ds::reference(), x.view());
  for (std::size_t i = 0; i < want.size(); ++i) CHECK(std::fabs(got[i] - want[i]) < 1e-13);
}

TEST_CASE("attention layer: documents of a run, lent by the composite") {
  using lent = two_texts<ds::both<ds::causal, ds::documents>>;
  check_gradient<lent>("attention layer documents");
  // The same as two sequences: nothing here depends on the position.
  const ds::reference b;
  rows_of<double, c.dim> x(7);
  layer_test::trial<lent, double> one;
  layer_test::trial<layer<ds::causal>, double> two;
  const auto weights = layer_test::flat(two.p);
  std::size_t at = 0;
  ds::visit(
      [&](const ds::tensor_name&, auto& t) {
        for (ds::index_t i = 0; i < t.size(); ++i) t.data()[i] = weights[at++];
      },
      one.p);
  const std::int32_t offsets[] = {0, 3, 7};
  auto apart = layer_test::train;
  apart.sequences = {offsets, {3}};
  CHECK(support::same_bits(one.forward(b, x.view()), two.forward(b, x.view(), apart)));
}

TEST_CASE("attention layer: what a pattern or a modifier cannot serve is an error") {
  const ds::reference b;
  rows_of<double, c.dim> x(7);
  const layer_test::trial<layer<ds::bigbird<1, 1>>, double> short_of_blocks;
  CHECK_ERROR(ds::error_code::invalid_argument, "bigbird: 4 keys",
              short_of_blocks.forward(b, x.rows(0, 4)));
}
