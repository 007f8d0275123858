// SPDX-License-Identifier: Apache-2.0
// Exactness of the rule: whatever distribution the drafts have, the tokens have the model's.
#include "deepseek/serve/speculative_sampler.hpp"

#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;

namespace {

using row = ds::view<const float, ds::host, ds::dyn>;
row of(const std::vector<float>& v) {
  return {v.data(), {static_cast<ds::index_t>(v.size())}};
}
std::vector<float> logs(const std::vector<double>& p) {
  std::vector<float> x;
  for (double v : p) x.push_back(static_cast<float>(std::log(v)));
  return x;
}

struct outcome {
  double z = 0;         // the largest |z| of a token's count
  double accepted = 0;  // share
};
outcome draw(const ds::sampler_config& config, const std::vector<double>& q,
             const std::vector<double>& p, const std::vector<double>& expected) {
  constexpr int draws = 300000;
  const auto draft_logits = logs(q), model_logits = logs(p);
  ds::speculative_sampler s(config);
  std::vector<int> counts(p.size());
  int accepted = 0;
  for (std::uint64_t i = 0; i < draws; ++i) {
    const std::int32_t draft = s.draft(of(draft_logits), 0, i);
    const auto verdict = s.verify(of(model_logits), 0, i);
    ++counts[static_cast<std::size_t>(verdict.token)];
    accepted += verdict.accepted ? 1 : 0;
    if (verdict.accepted) REQUIRE(verdict.token == draft);
  }
  outcome r{0, accepted / static_cast<double>(draws)};
  for (std::size_t t = 0; t < p.size(); ++t) {
    const double e = expected[t];
    if (e == 0) {
      CHECK(counts[t] == 0);
    } else {
      r.z = std::max(r.z, std::fabs(counts[t] - draws * e) / std::sqrt(draws * e * (1 - e) + 1e-9));
    }
  }
  return r;
}

}  // namespace

TEST_CASE("speculative_sampler: tokens have the model's distribution, drafts whatever one") {
  const std::vector<double> p = {.4, .3, .2, .1};
  // Accepted: the sum of min(p, q).
  auto r = draw({.seed = 1}, {.1, .2, .3, .4}, p, p);
  CHECK(r.z < 5);
  CHECK(r.accepted == doctest::Approx(.6).epsilon(.01));
  r = draw({.seed = 2}, {.4, .3, .2, .1}, p, p);
  CHECK(r.z < 5);
  CHECK(r.accepted == 1);
  r = draw({.seed = 3}, {0, 0, .5, .5}, p, p);
  CHECK(r.z < 5);
  CHECK(r.accepted == doctest::Approx(.3).epsilon(.01));
  r = draw({.seed = 4}, {0, 0, 0, 1}, {.5, .25, .25, 0}, {.5, .25, .25, 0});
  CHECK(r.z < 5);
  CHECK(r.accepted == 0);
  // The same restriction on both sides, as sampler has it.
  r = draw({.top_k = 2, .seed = 5}, {.1, .2, .3, .4}, p, {4. / 7, 3. / 7, 0, 0});
  CHECK(r.z < 5);
  CHECK(r.accepted == 0);
  r = draw({.temperature = .5, .seed = 6}, {.1, .2, .3, .4}, p,
           {.16 / .3, .09 / .3, .04 / .3, .01 / .3});
  CHECK(r.z < 5);
}

TEST_CASE("speculative_sampler: temperature 0 keeps the most likely token only") {
  ds::speculative_sampler s({.temperature = 0});
  const std::vector<float> right = {0, 5, 1}, wrong = {4, 3, 1}, model = {1, 2, 2};
  CHECK(s.draft(of(right), 0, 0) == 1);
  CHECK(s.verify(of(model), 0, 0).accepted);
  CHECK(s.draft(of(wrong), 1, 1) == 0);
  const auto v = s.verify(of(model), 1, 1);
  CHECK(!v.accepted);
  CHECK(v.token == 1);
}

TEST_CASE("speculative_sampler: without a draft it is sampler; a seed repeats everything") {
  const std::vector<float> x = {0.5f, -1, 2, 0, 1.5f}, y = {0, 0, 1, 0, 0};
  const ds::sampler_config config{.top_p = .9, .seed = 11};
  ds::sampler plain(config);
  ds::speculative_sampler a(config), b(config), other({.top_p = .9, .seed = 12});
  int differ = 0;
  for (std::uint64_t i = 0; i < 200; ++i) {
    CHECK(a.next(of(x), i) == plain.next(of(x)));
    const std::int32_t one = a.draft(of(y), 0, i);
    CHECK(one == b.draft(of(y), 0, i));
    differ += one != other.draft(of(y), 0, i) ? 1 : 0;
    const auto va = a.verify(of(x), 0, i), vb = b.verify(of(x), 0, i);
    CHECK((va.token == vb.token && va.accepted == vb.accepted));
  }
  CHECK(differ > 20);
}

TEST_CASE("speculative_sampler: errors") {
  ds::speculative_sampler s({.seed = 1});
  const std::vector<float> x = {1, 2, 3}, longer = {1, 2, 3, 4},
                           bad = {1, std::numeric_limits<float>::quiet_NaN()};
  CHECK_ERROR(ds::error_code::nonfinite, "logit 1", s.draft(of(bad), 0, 0));
  CHECK_ERROR(ds::error_code::index_range, "draft 3 of 1 was not drawn", s.verify(of(x), 3, 0));
  s.draft(of(x), 0, 0);
  CHECK_ERROR(ds::error_code::shape_mismatch, "4 logits of the model and 3 of the draft",
              s.verify(of(longer), 0, 0));
  CHECK_ERROR(ds::error_code::invalid_argument, "temperature is -1",
              ds::speculative_sampler({.temperature = -1}));
}
