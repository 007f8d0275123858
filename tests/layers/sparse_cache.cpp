// SPDX-License-Identifier: Apache-2.0
// Sparse attention with its cache: prefill, chunks and single tokens give the bits of the full run
// in a fixed form, before and beyond top_k keys, few heads and many; by cost they agree within
// rounding; what the cache holds; capacity, rewinding, memory.
#include "layers/sparse_case.hpp"

#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/embedding.hpp"
#include "deepseek/layers/repeat.hpp"
#include "deepseek/layers/residual.hpp"

#include "deepseek/backend/cpu/cpu.hpp"
#include "support/throws.hpp"

using namespace sparse_test;
using form = ds::latent_form;

namespace {

// `heads` of 8 or more gather the selected rows.
constexpr ds::dsa_config sized(form f, ds::index_t heads) {
  auto c = with(ds::indexer_training::none, f, 6);
  c.attention.heads = heads;
  return c;
}
// Latents of 12 numbers, cached in 8 bits or not.
constexpr ds::dsa_config coded(ds::row_precision latents, ds::row_precision index_rows) {
  auto c = sized(form::absorbed, 8);
  c.attention.kv_rank = 12;
  c.latents = latents;
  c.index_rows = index_rows;
  return c;
}
template <ds::dsa_config C>
struct net_of : ds::chain<ds::embedding<29, 10>,
                          ds::repeat<2, ds::residual<ds::deepseek_sparse_attention<C>>>,
                          ds::called<"head", ds::linear<10, 29>>> {};
template <form F, class T, ds::index_t Heads = 3>
using model = ds::model<net_of<sized(F, Heads)>, T, ds::cpu>;
template <ds::row_precision Latents, ds::row_precision Index>
using coded_model = ds::model<net_of<coded(Latents, Index)>, float, ds::cpu>;

const std::int32_t text[] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4};
ds::view<const std::int32_t, ds::host, ds::dyn> tokens(ds::index_t first, ds::index_t n) {
  return {text + first, {n}};
}

template <class M>
auto decoded(const ds::cpu& b, const M& m, const std::vector<ds::index_t>& pieces) {
  auto d = m.decoder(b, 20);
  std::vector<typename M::value_type> all;
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
    {20}, {4, 3, 13}, {13, 1, 1, 1, 1, 1, 1, 1}, std::vector<ds::index_t>(20, 1)};

}  // namespace

TEST_CASE_TEMPLATE("sparse cache: a fixed form decodes the bits of the full run", M,
                   model<form::naive, float>, model<form::absorbed, float>,
                   model<form::absorbed, double>, model<form::absorbed, float, 8>) {
  const ds::cpu b{{.threads = 2}};
  b.workspace().fill_with(0xff);
  const M m(b, ds::normal_init{.stddev = 0.4, .seed = 7});
  const auto all = full(b, m);
  for (const auto& pieces : ways) CHECK(support::same_bits(decoded(b, m, pieces), all));
}

TEST_CASE("sparse cache: rows in 8 bits decode the bits of the full run, near the exact one") {
  constexpr auto exact = ds::row_precision::exact, fp8 = ds::row_precision::fp8;
  const ds::cpu b{{.threads = 2}};
  const ds::normal_init init{.stddev = 0.4, .seed = 7};
  const auto close = full(b, coded_model<exact, exact>(b, init));
  const auto check = [&](const auto& m) {
    const auto all = full(b, m);
    for (const auto& pieces : ways) CHECK(support::same_bits(decoded(b, m, pieces), all));
    const double apart = distance(support::to_double(all), support::to_double(close));
    CHECK(apart > 1e-6);
    CHECK(apart < 0.3);
    // Training computes with rows as they are.
    const auto trained = full(b, m, {.how = ds::mode::training});
    CHECK(distance(support::to_double(trained), support::to_double(close)) < 1e-6);
  };
  check(coded_model<fp8, exact>(b, init));
  check(coded_model<fp8, fp8>(b, init));
  constexpr ds::dsa_config v3_2{.attention = {.dim = 7168,
                                              .heads = 128,
                                              .q_rank = 1536,
                                              .kv_rank = 512,
                                              .nope_dim = 128,
                                              .rope_dim = 64,
                                              .v_dim = 128},
                                .latents = fp8,
                                .index_rows = fp8};
  static_assert(ds::sparse_cache<float, ds::host, v3_2>::bytes_per_token() == 656 + 132);
}

TEST_CASE("sparse cache: by cost, within rounding") {
  const ds::cpu b{{.threads = 2}};
  const model<form::by_cost, double> m(b, ds::normal_init{.stddev = 0.4, .seed = 7});
  const auto naive = full(b, m, {.latent = form::naive});
  const auto absorbed = full(b, m, {.latent = form::absorbed});
  CHECK(!support::same_bits(naive, absorbed));
  CHECK(distance(absorbed, naive) < 1e-12);
  for (const auto& pieces : ways) CHECK(distance(decoded(b, m, pieces), naive) < 1e-12);
}

TEST_CASE("sparse cache: a latent row and an index key a token; capacity, rewinding, memory") {
  const ds::cpu b;
  constexpr ds::dsa_config c = sized(form::absorbed, 3);
  using cache = ds::sparse_cache<float, ds::host, c>;
  static_assert(cache::bytes_per_token() == (6 + 4 + 8) * 4);
  const model<form::absorbed, float> m(b, ds::normal_init{.stddev = 0.4, .seed = 7});
  auto d = m.decoder(b, 12);
  m.decode(b, tokens(0, 10), d);
  CHECK_ERROR(ds::error_code::index_range, "10 + 3", "12", m.decode(b, tokens(10, 3), d));
  const auto y = m.decode(b, tokens(10, 2), d);
  const std::vector<float> first(y.data(), y.data() + y.size());
  d.rewind(10);
  const auto z = m.decode(b, tokens(10, 2), d);
  CHECK(support::same_bits(std::vector<float>(z.data(), z.data() + z.size()), first));
  auto again = m.decoder(b, 20);
  m.decode(b, tokens(0, 10), again);
  const auto blocks = b.workspace().blocks();
  for (ds::index_t i = 10; i < 20; ++i) m.decode(b, tokens(i, 1), again);
  CHECK(b.workspace().blocks() == blocks);
  CHECK(b.workspace().bytes_used() == 0);
}
