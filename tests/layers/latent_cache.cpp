// SPDX-License-Identifier: Apache-2.0
// Latent attention with its cache: which form is chosen; prefill, chunks and single tokens give the
// bits of the full run in a fixed form and agree within rounding where the forms differ; what the
// cache holds; capacity and rewinding.
#include "deepseek/layers/latent_attention.hpp"

#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/embedding.hpp"
#include "deepseek/layers/norm.hpp"
#include "deepseek/layers/repeat.hpp"
#include "deepseek/layers/residual.hpp"
#include "deepseek/pattern/band.hpp"

#include "deepseek/backend/cpu/cpu.hpp"
#include "layers/layer_trial.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;
using form = ds::latent_form;

namespace {

constexpr ds::mla_config with(form f) {
  return {.dim = 12,
          .heads = 4,
          .q_rank = 8,
          .kv_rank = 10,
          .nope_dim = 6,
          .rope_dim = 4,
          .v_dim = 5,
          .form = f};
}
template <form F>
struct net : ds::chain<ds::embedding<29, 12>,
                       ds::repeat<2, ds::residual<ds::latent_attention<with(F), ds::causal>>>,
                       ds::called<"head", ds::linear<12, 29>>> {};
template <form F, class T>
using model = ds::model<net<F>, T, ds::cpu>;

const std::int32_t text[] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4};
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;
ids tokens(ds::index_t first, ds::index_t n) {
  return {text + first, {n}};
}

template <class M>
auto decoded(const ds::cpu& b, const M& m, const std::vector<ds::index_t>& pieces) {
  using T = typename M::value_type;
  auto d = m.decoder(b, 20);
  std::vector<T> all;
  for (const ds::index_t n : pieces) {
    const auto y = m.decode(b, tokens(d.length(), n), d);
    all.insert(all.end(), y.data(), y.data() + y.size());
  }
  return all;
}
template <class M>
auto full(const ds::cpu& b, const M& m, const ds::run_options<ds::host>& run = {}) {
  const auto y = m(b, tokens(0, 20), run);
  return std::vector<typename M::value_type>(y.data(), y.data() + y.size());
}

const std::vector<ds::index_t> ways[] = {
    {20}, {7, 6, 7}, {13, 1, 1, 1, 1, 1, 1, 1}, std::vector<ds::index_t>(20, 1)};

template <class V>
double farthest(const V& a, const V& b) {
  double d = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    d = std::max(d, std::fabs(double(a[i]) - double(b[i])) / (1 + std::fabs(double(b[i]))));
  }
  return d;
}

}  // namespace

TEST_CASE_TEMPLATE("latent_cache: a fixed form decodes the bits of the full run", M,
                   model<form::naive, float>, model<form::absorbed, float>,
                   model<form::naive, double>, model<form::absorbed, double>) {
  const ds::cpu b{{.threads = 2}};
  b.workspace().fill_with(0xff);
  const M m(b, ds::normal_init{.stddev = 0.4, .seed = 7});
  const auto all = full(b, m);
  for (const auto& pieces : ways) CHECK(support::same_bits(decoded(b, m, pieces), all));
}

TEST_CASE("latent_cache: by cost, within rounding; the call has the last word") {
  const ds::cpu b{{.threads = 2}};
  const model<form::by_cost, double> m(b, ds::normal_init{.stddev = 0.4, .seed = 7});
  const auto naive = full(b, m, {.latent = form::naive});
  const auto absorbed = full(b, m, {.latent = form::absorbed});
  CHECK(!support::same_bits(naive, absorbed));
  CHECK(farthest(absorbed, naive) < 1e-12);
  CHECK(support::same_bits(full(b, m), naive));  // 20 queries of 20 keys
  for (const auto& pieces : ways) CHECK(farthest(decoded(b, m, pieces), naive) < 1e-12);
  const model<form::absorbed, double> fixed(b, ds::normal_init{.stddev = 0.4, .seed = 7});
  CHECK(support::same_bits(full(b, fixed, {.latent = form::naive}), naive));
  CHECK(support::same_bits(full(b, fixed), absorbed));
}

TEST_CASE("latent_cache: the choice is a function of queries and keys") {
  constexpr ds::mla_config v3{.dim = 7168,
                              .heads = 128,
                              .q_rank = 1536,
                              .kv_rank = 512,
                              .nope_dim = 128,
                              .rope_dim = 64,
                              .v_dim = 128};
  static_assert(ds::cheaper_form(v3, 1, 1) == form::naive);
  static_assert(ds::cheaper_form(v3, 1, 2) == form::absorbed);
  static_assert(ds::cheaper_form(v3, 1, 4096) == form::absorbed);
  static_assert(ds::cheaper_form(v3, 100, 4096) == form::absorbed);
  static_assert(ds::cheaper_form(v3, 300, 4096) == form::naive);
  static_assert(ds::cheaper_form(v3, 4096, 4096) == form::naive);
  static_assert(ds::cheaper_form(v3, 128, 1 << 17) == form::absorbed);
  static_assert(ds::chosen_form(v3, form::naive, 1, 4096) == form::naive);
  static_assert(ds::chosen_form(with(form::naive), form::by_cost, 1, 4096) == form::naive);
  static_assert(ds::chosen_form(with(form::naive), form::absorbed, 9, 9) == form::absorbed);
  static_assert(ds::rows_are_independent<ds::latent_attention<with(form::naive), ds::causal>>);
  static_assert(!ds::rows_are_independent<ds::latent_attention<with(form::by_cost), ds::causal>>);
  CHECK(ds::chosen_form(v3, form::by_cost, 1, 4096) == form::absorbed);
}

TEST_CASE("latent_cache: rows are the normed latent and the rotated key part that is not normed") {
  const ds::cpu b;
  using layer = ds::latent_attention<with(form::naive), ds::causal>;
  layer_test::trial<layer, double> t;
  for (ds::index_t i = 0; i < 10; ++i) t.p.kv_norm.weight.data()[i] = 2;
  layer_test::rows_of<double, 12> x(2);
  ds::keep<ds::for_decode, layer, double, ds::host> kept;
  kept.own.reserve(3);
  std::vector<double> y(24);
  const ds::call<ds::cpu> c{b, {.start = 1}, b.workspace(), b.workspace(), 7, {}};
  ds::run_forward<layer>(c, t.p, ds::as_const(x.view()),
                         ds::view<double, ds::host, ds::dyn, 12>(y.data(), {2, 12}), kept);
  static_assert(kept.own.bytes_per_token() == 14 * 8);
  CHECK(kept.own.capacity() == 3);
  const auto rows = kept.own.seen(c.options, 3);
  for (ds::index_t i = 0; i < 2; ++i) {
    double raw[14], squares = 0;
    for (ds::index_t o = 0; o < 14; ++o) {
      raw[o] = 0;
      for (ds::index_t d = 0; d < 12; ++d) {
        raw[o] += t.p.wkv_a.weight.view()(o, d) * x.view()(i, d);
      }
      if (o < 10) squares += raw[o] * raw[o] / 10;
    }
    for (ds::index_t o = 0; o < 10; ++o) {
      CHECK(rows(i + 1, o) == doctest::Approx(2 * raw[o] / std::sqrt(squares + 1e-6)));
    }
    for (ds::index_t pair = 0; pair < 2; ++pair) {
      const double angle = double(i + 1) * std::pow(1e4, -double(pair) / 2);
      const double u = raw[10 + 2 * pair], v = raw[11 + 2 * pair];
      CHECK(rows(i + 1, 10 + 2 * pair) ==
            doctest::Approx(u * std::cos(angle) - v * std::sin(angle)));
      CHECK(rows(i + 1, 11 + 2 * pair) ==
            doctest::Approx(u * std::sin(angle) + v * std::cos(angle)));
    }
  }
  for (ds::index_t o = 0; o < 14; ++o) CHECK(rows(0, o) == 0);
}

TEST_CASE("latent_cache: past the end is an error; rewinding decodes the same bits again") {
  const ds::cpu b;
  const model<form::absorbed, float> m(b, ds::normal_init{.stddev = 0.4, .seed = 7});
  auto d = m.decoder(b, 6);
  m.decode(b, tokens(0, 4), d);
  CHECK_ERROR(ds::error_code::index_range, "4 + 3", "6", m.decode(b, tokens(4, 3), d));
  const auto y = m.decode(b, tokens(4, 2), d);
  const std::vector<float> first(y.data(), y.data() + y.size());
  d.rewind(4);
  const auto z = m.decode(b, tokens(4, 2), d);
  CHECK(support::same_bits(std::vector<float>(z.data(), z.data() + z.size()), first));
  ds::latent_cache<float, ds::host, 3, 2> cache;
  cache.reserve(2);
  ds::tensor<float, ds::host, 2, 5> row;
  CHECK_ERROR(ds::error_code::index_range, "1 .. 2", "capacity of 2",
              cache.append(b, 1, row.view()));
  CHECK(cache.append(b, 0, row.view()).extent(0) == 2);
}

TEST_CASE("latent_cache: a decode step after warm-up allocates nothing in the workspace") {
  const ds::cpu b;
  const model<form::by_cost, float> m(b, ds::normal_init{.stddev = 0.4, .seed = 7});
  auto d = m.decoder(b, 20);
  m.decode(b, tokens(0, 10), d);
  const auto blocks = b.workspace().blocks();
  for (ds::index_t i = 10; i < 20; ++i) m.decode(b, tokens(i, 1), d);
  CHECK(b.workspace().blocks() == blocks);
  CHECK(b.workspace().bytes_used() == 0);
}
