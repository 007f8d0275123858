// SPDX-License-Identifier: Apache-2.0
// Targets of the two pre-training tasks: ends of sequences, shares of a million, independence.
#include "deepseek/data/masking.hpp"

#include "support/report.hpp"
#include "support/throws.hpp"

#include <cmath>

#include <doctest/doctest.h>

namespace ds = deepseek;
using ids = std::vector<std::int32_t>;

TEST_CASE("next_token_targets: shifted inside each sequence") {
  const ids tokens = {5, 6, 7, 8, 9, 10};
  CHECK(ds::next_token_targets(tokens) == ids{6, 7, 8, 9, 10, -100});
  CHECK(ds::next_token_targets(tokens, ids{0, 2, 2, 3, 6}) == ids{6, -100, -100, 9, 10, -100});
  CHECK(ds::next_token_targets(tokens, ids{0, 0, 6}, -1) == ids{6, 7, 8, 9, 10, -1});
  CHECK(ds::next_token_targets(ids{}).empty());
  CHECK(ds::next_token_targets(ids{}, ids{0}).empty());
  CHECK(ds::next_token_targets(ids{3}) == ids{-100});
  CHECK_ERROR(ds::error_code::index_range, "offsets run from 0 to 5", "6",
              ds::next_token_targets(tokens, ids{0, 5}));
  CHECK_ERROR(ds::error_code::index_range, "offsets run from 1",
              ds::next_token_targets(tokens, ids{1, 6}));
  CHECK_ERROR(ds::error_code::index_range, "offsets[2] is 3 after 4",
              ds::next_token_targets(tokens, ids{0, 4, 3, 6}));
  CHECK_ERROR(ds::error_code::index_range, "offsets run from 0 to -1",
              ds::next_token_targets(ids{}, ids{0, -1}));
}

TEST_CASE("masked_language_model: shares of a million tokens") {
  constexpr std::size_t n = 1000000;
  constexpr std::int32_t vocabulary = 1000, mask = 999;
  ids tokens(n);
  for (std::size_t i = 0; i < n; ++i) tokens[i] = static_cast<std::int32_t>(i * 7919 % 990);
  const auto out =
      ds::masked_language_model(tokens, {.mask = mask, .vocabulary = vocabulary, .seed = 11});
  double chosen = 0, masked = 0, kept = 0, random_sum = 0, random_count = 0;
  bool right = true;
  for (std::size_t i = 0; i < n; ++i) {
    if (out.targets[i] == -100) {
      right = right && out.inputs[i] == tokens[i];
      continue;
    }
    ++chosen;
    right = right && out.targets[i] == tokens[i];
    if (out.inputs[i] == mask) {
      ++masked;
    } else if (out.inputs[i] == tokens[i]) {
      ++kept;
    } else {
      right = right && out.inputs[i] >= 0 && out.inputs[i] < vocabulary;
      ++random_count;
      random_sum += out.inputs[i];
    }
  }
  const auto z = [](double count, double of, double p) {
    return std::fabs(count - of * p) / std::sqrt(of * p * (1 - p));
  };
  CHECK(right);
  CHECK(z(chosen, n, 0.15) < 5);
  CHECK(z(masked, chosen, 0.8 + 0.1 / vocabulary) < 5);
  CHECK(z(kept, chosen, 0.1 + 0.1 / vocabulary) < 5);
  CHECK(z(random_count, chosen, 0.1 - 0.2 / vocabulary) < 5);
  CHECK(std::fabs(random_sum / random_count - 499.5) < 5 * 288.7 / std::sqrt(random_count));
}

TEST_CASE("masked_language_model: depends on seed, step and position alone") {
  ids tokens(5000, 3);
  const ds::masking_config config{.mask = 1, .vocabulary = 50, .seed = 4, .step = 2};
  const auto all = ds::masked_language_model(tokens, config);
  const auto part = ds::masked_language_model(ids(100, 3), config);
  CHECK(std::equal(part.inputs.begin(), part.inputs.end(), all.inputs.begin()));
  CHECK(std::equal(part.targets.begin(), part.targets.end(), all.targets.begin()));
  auto other = config;
  other.step = 3;
  CHECK(ds::masked_language_model(tokens, other).targets != all.targets);
  other = config;
  other.seed = 5;
  CHECK(ds::masked_language_model(tokens, other).targets != all.targets);
}

TEST_CASE("masked_language_model: never, extreme rates, errors") {
  ids tokens(1000);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(i % 10);
  const ids never = {0, 9};
  const auto out = ds::masked_language_model(
      tokens, {.mask = 5, .vocabulary = 10, .rate = 1, .seed = 1, .ignore = -7, .never = never});
  bool right = true;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const bool kept = tokens[i] == 0 || tokens[i] == 9;
    right = right && out.targets[i] == (kept ? -7 : tokens[i]);
    right = right && (!kept || out.inputs[i] == tokens[i]);
  }
  CHECK(right);
  const auto none = ds::masked_language_model(tokens, {.mask = 5, .vocabulary = 10, .rate = 0});
  CHECK(none.inputs == tokens);
  CHECK(none.targets == ids(1000, -100));
  CHECK(ds::masked_language_model(ids{}, {.mask = 0, .vocabulary = 1}).inputs.empty());
  CHECK_ERROR(ds::error_code::invalid_argument, "rate is 1.5",
              ds::masked_language_model(tokens, {.mask = 5, .vocabulary = 10, .rate = 1.5}));
  CHECK_ERROR(ds::error_code::index_range, "mask is 10", "vocabulary of 10",
              ds::masked_language_model(tokens, {.mask = 10, .vocabulary = 10}));
  CHECK_ERROR(ds::error_code::index_range, "tokens[7] is 7", "vocabulary of 7",
              ds::masked_language_model(tokens, {.mask = 1, .vocabulary = 7}));
}
