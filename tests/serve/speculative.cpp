// SPDX-License-Identifier: Apache-2.0
// Speculative decoding: the greedy text of generate, token for token, whoever drafts and however
// many; the distribution of generate when it samples; its counts, its ends, what it refuses.
#include "deepseek/deepseek.hpp"

#include "deepseek/serve/speculative.hpp"
#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <map>

namespace ds = deepseek;

namespace {

constexpr ds::index_t V = 5;
inline constexpr ds::attention_config heads{.dim = 8, .heads = 2};
using block = ds::transformer_block<ds::multi_head_attention<heads, ds::causal>, ds::swiglu<8, 12>>;
struct net : ds::with_mtp<ds::embedding<V, 8>, block, ds::mtp_layer<block>,
                          ds::called<"head", ds::linear<8, V>>> {};
struct small_net : ds::chain<ds::embedding<V, 8>, ds::swiglu<8, 12>, ds::rms_norm<8>,
                             ds::called<"head", ds::linear<8, V>>> {};
using model = ds::model<net, float, ds::cpu>;
using small_model = ds::model<small_net, float, ds::cpu>;
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;

const std::int32_t start[] = {3, 1, 4};
const ids prompt(start, {3});

model make(const ds::cpu& b) {
  return model(b, ds::scaled_init{.gain = 2, .seed = 3});
}
using text = std::vector<std::int32_t>;
template <class M>
text plain(const ds::cpu& b, const M& m, const ds::generate_options& options) {
  text got;
  ds::generate(b, m, prompt, options, [&](std::int32_t token) { got.push_back(token); });
  return got;
}
template <class M>
std::pair<text, ds::speculation> drafted(const ds::cpu& b, const M& m,
                                         const ds::speculative_options& options) {
  text got;
  const auto done = ds::generate_speculative(b, m, prompt, options,
                                             [&](std::int32_t token) { got.push_back(token); });
  return {got, done};
}

// Chi-square of observed pairs of tokens against exact probabilities, as a normal number.
template <class M>
double distribution_z(const ds::cpu& b, const M& m, const model& exact, ds::index_t drafts) {
  constexpr int runs = 20000;
  const double temperature = 1.3;
  std::map<std::pair<int, int>, int> counts;
  for (std::uint64_t seed = 0; seed < runs; ++seed) {
    const auto [got, done] = drafted(
        b, m,
        {.tokens = 4, .drafts = drafts, .sampling = {.temperature = temperature, .seed = seed}});
    ++counts[{got[1], got[2]}];  // a drafted token and the one after it
  }
  // p(b, c) = sum over the first token a of p(a) p(b | a) p(c | a, b).
  std::vector<double> p1, p2, p3;
  ds::sampler odds({.temperature = temperature});
  const auto at = [&](text more, std::vector<double>& p) {
    text all(start, start + 3);
    all.insert(all.end(), more.begin(), more.end());
    const auto y = exact(b, ids{all.data(), {static_cast<ds::index_t>(all.size())}});
    odds.distribution(ds::slice(y.view(), y.extent(0) - 1), p);
  };
  std::map<std::pair<int, int>, double> want;
  at({}, p1);
  for (std::int32_t i = 0; i < V; ++i) {
    at({i}, p2);
    for (std::int32_t j = 0; j < V; ++j) {
      at({i, j}, p3);
      for (std::int32_t k = 0; k < V; ++k) {
        want[{j, k}] += p1[static_cast<std::size_t>(i)] * p2[static_cast<std::size_t>(j)] *
                        p3[static_cast<std::size_t>(k)];
      }
    }
  }
  double chi = 0, degrees = -1;
  for (const auto& [pair, p] : want) {
    const double expected = p * runs;
    if (expected < 5) continue;
    chi += std::pow(counts[pair] - expected, 2) / expected;
    ++degrees;
  }
  CHECK(degrees > 10);
  return (chi - degrees) / std::sqrt(2 * degrees);
}

}  // namespace

TEST_CASE("speculative: greedy text is that of generate, bit for bit") {
  const ds::cpu b{{.threads = 2}};
  const auto m = make(b);
  const small_model small(b, ds::scaled_init{.gain = 2, .seed = 4});
  auto seen = m.calibration();
  m.observe(b, prompt, seen);
  const auto int8 = ds::quantize<ds::w8a8>(b, m, seen);
  const auto want = plain(b, m, {.tokens = 40, .sampling = {.temperature = 0}});
  for (ds::index_t drafts : {0, 1, 2, 4}) {
    const ds::speculative_options options{
        .tokens = 40, .drafts = drafts, .sampling = {.temperature = 0}};
    const auto [own, done] = drafted(b, m, options);
    CHECK(own == want);
    CHECK(done.new_tokens == 40);
    CHECK(done.prompt_tokens == 3);
    CHECK(done.accepted <= done.drafted);
    CHECK(done.model_calls + done.accepted + 1 >= 40);
    CHECK(drafted(b, ds::drafted_by{m, small}, options).first == want);
    // A model that drafts for itself is always right.
    const auto [same, always] = drafted(b, ds::drafted_by{m, m}, options);
    CHECK(same == want);
    CHECK(always.accepted == always.drafted);
    CHECK(always.model_calls == (39 + drafts) / (drafts + 1));
    if (drafts > 0) CHECK(always.acceptance() == 1);
    CHECK(drafted(b, int8, options).first ==
          plain(b, int8, {.tokens = 40, .sampling = {.temperature = 0}}));
  }
}

TEST_CASE("speculative: sampled text has the distribution of generate") {
  const ds::cpu b;
  const auto m = make(b);
  const small_model small(b, ds::scaled_init{.gain = 2, .seed = 4});
  CHECK(std::fabs(distribution_z(b, m, m, 1)) < 5);
  CHECK(std::fabs(distribution_z(b, m, m, 3)) < 5);
  CHECK(std::fabs(distribution_z(b, ds::drafted_by{m, small}, m, 2)) < 5);
}

TEST_CASE("speculative: a seed repeats the text, for every number of threads") {
  const ds::cpu one, three{{.threads = 3}};
  const auto m = make(one);
  const ds::speculative_options options{.tokens = 60, .drafts = 2, .sampling = {.seed = 5}};
  const auto [want, done] = drafted(one, m, options);
  CHECK(done.accepted > 0);
  CHECK(done.accepted < done.drafted);
  CHECK(drafted(three, m, options).first == want);
  CHECK(drafted(one, m, {.tokens = 60, .drafts = 2, .sampling = {.seed = 6}}).first != want);
  // Without drafts it is generate.
  CHECK(drafted(one, m, {.tokens = 30, .drafts = 0, .sampling = {.seed = 5}}).first ==
        plain(one, m, {.tokens = 30, .sampling = {.seed = 5}}));
}

TEST_CASE("speculative: how it ends") {
  const ds::cpu b;
  const auto m = make(b);
  const auto want = plain(b, m, {.tokens = 50, .capacity = 9, .sampling = {.temperature = 0}});
  for (ds::index_t drafts : {1, 3, 7}) {
    const ds::sampler_config greedy{.temperature = 0};
    const auto [got, done] =
        drafted(b, m, {.tokens = 50, .capacity = 9, .drafts = drafts, .sampling = greedy});
    CHECK(got == want);
    CHECK(done.ended == ds::generation_end::capacity);
    int calls = 0;
    const auto stopped =
        ds::generate_speculative(b, m, prompt, {.tokens = 50, .drafts = drafts, .sampling = greedy},
                                 [&](std::int32_t) { return ++calls < 5; });
    CHECK(stopped.ended == ds::generation_end::sink);
    CHECK(stopped.new_tokens == 5);
    CHECK(calls == 5);
    CHECK(drafted(b, m, {.tokens = 0, .drafts = drafts}).second.new_tokens == 0);
    const auto [single, once] = drafted(b, m, {.tokens = 1, .drafts = drafts});
    CHECK(single.size() == 1);
    CHECK(once.model_calls == 0);
  }
}

TEST_CASE("speculative: what is refused") {
  const ds::cpu b;
  const auto m = make(b);
  using code = ds::error_code;
  CHECK_ERROR(code::invalid_argument, "prompt is empty",
              ds::generate_speculative(b, m, ids{start, {0}}, {}, [](std::int32_t) {}));
  CHECK_ERROR(code::invalid_argument, "drafts -1", drafted(b, m, {.drafts = -1}));
  CHECK_ERROR(code::index_range, "0 + 3 positions", "capacity of 2",
              drafted(b, m, {.tokens = 4, .capacity = 2}));
  CHECK_ERROR(code::invalid_argument, "top_p is 2", drafted(b, m, {.sampling = {.top_p = 2}}));
}
