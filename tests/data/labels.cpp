// SPDX-License-Identifier: Apache-2.0
// BIO labels there and back, their score, targets of classification; synonyms; mixing of sources.
#include "deepseek/data/labels.hpp"
#include "deepseek/data/augmentation.hpp"
#include "deepseek/data/mixing.hpp"

#include "support/report.hpp"
#include "support/seed.hpp"
#include "support/throws.hpp"

#include <cmath>

#include <doctest/doctest.h>

namespace ds = deepseek;
using ids = std::vector<std::int32_t>;
using entities = std::vector<ds::entity>;
using code = ds::error_code;

TEST_CASE("bio: entities to labels and back") {
  const entities some = {{5, 6, 1}, {1, 4, 0}, {4, 5, 0}};
  const auto labels = ds::bio_labels(some, 8);
  CHECK(labels == ids{0, 1, 2, 2, 1, 3, 0, 0});
  CHECK(ds::bio_entities(labels, ds::bio_reading::strict) ==
        entities{{1, 4, 0}, {4, 5, 0}, {5, 6, 1}});
  CHECK(ds::bio_label_count(4) == 9);
  CHECK(ds::bio_labels({}, 2) == ids{0, 0});
  CHECK(ds::bio_entities(ids{}).empty());
  // Drawn ones, with neighbours of one kind.
  for (std::uint64_t round = 0; round < 200; ++round) {
    support::numbers from(round);
    entities drawn;
    for (std::size_t t = from.below(3); t < 40;) {
      const std::size_t last = std::min<std::size_t>(40, t + 1 + from.below(4));
      drawn.push_back({t, last, static_cast<std::int32_t>(from.below(3))});
      t = last + from.below(3);
    }
    CHECK(ds::bio_entities(ds::bio_labels(drawn, 40), ds::bio_reading::strict) == drawn);
  }
  // An I without its B: begins an entity, also after one of another kind.
  CHECK(ds::bio_entities(ids{2, 2, 0, 1, 4, 4}) == entities{{0, 2, 0}, {3, 4, 0}, {4, 6, 1}});
  CHECK_ERROR(code::invalid_argument, "label 1 is inside kind 0", "begin it with 1",
              ds::bio_entities(ids{0, 2}, ds::bio_reading::strict));
  CHECK_ERROR(code::index_range, "label 0 is -100", ds::bio_entities(ids{-100}));
  CHECK_ERROR(code::invalid_argument, "entity 1 meets another at token 2",
              ds::bio_labels(entities{{0, 3, 0}, {2, 4, 0}}, 8));
  CHECK_ERROR(code::index_range, "entity 0 is tokens 2 .. 2",
              ds::bio_labels(entities{{2, 2, 0}}, 8));
  CHECK_ERROR(code::index_range, "among 3 tokens", ds::bio_labels(entities{{2, 4, 0}}, 3));
  const auto score = ds::score_entities({{0, 2, 0}, {3, 4, 1}, {5, 6, 0}}, {{0, 2, 0}, {3, 4, 0}});
  CHECK(score.precision == doctest::Approx(1.0 / 3));
  CHECK(score.recall == doctest::Approx(0.5));
  CHECK(score.f1 == doctest::Approx(0.4));
  CHECK(ds::score_entities({}, {}).f1 == 0);
}

TEST_CASE("bio: a kind whose label is no int32 is refused") {
  const std::int32_t last = 1073741822;
  const ds::entity fits{0, 2, last}, beyond{0, 2, last + 1};
  CHECK(ds::bio_labels(std::span(&fits, 1), 2) ==
        std::vector<std::int32_t>{2 * last + 1, 2 * last + 2});
  CHECK_ERROR(code::index_range, "kind 1073741823", "0 .. 1073741822",
              ds::bio_labels(std::span(&beyond, 1), 2));
}

TEST_CASE("last_row_targets: one class a sequence") {
  CHECK(ds::last_row_targets(ids{3, 1}, ids{0, 2, 5}) == ids{-100, 3, -100, -100, 1});
  CHECK(ds::last_row_targets(ids{}, ids{0}).empty());
  CHECK_ERROR(code::index_range, "2 classes for 2 offsets",
              ds::last_row_targets(ids{3, 1}, ids{0, 2}));
  CHECK_ERROR(code::index_range, "sequence 1 is empty",
              ds::last_row_targets(ids{3, 1}, ids{0, 2, 2}));
}

TEST_CASE("replace_synonyms: n words, everything else as it was, the same bits each time") {
  const ds::synonym_table table = {{"quick", {"fast", "rapid"}},
                                   {"fox", {"vixen"}},
                                   {"lazy", {"idle"}},
                                   {"dog", {"hound"}},
                                   {"empty", {}}};
  const std::string text = "The Quick brown fox, (empty) jumps over\n the lazy  dog.";
  const auto with = [&](std::size_t n, std::uint64_t seed) {
    return ds::replace_synonyms(text, table, {.replacements = n, .seed = seed});
  };
  const std::string all = with(9, 1);
  CHECK((all == "The Fast brown vixen, (empty) jumps over\n the idle  hound." ||
         all == "The Rapid brown vixen, (empty) jumps over\n the idle  hound."));
  CHECK(with(0, 1) == text);
  CHECK(with(3, 7) == with(3, 7));
  int differ = 0, places[4] = {}, fast = 0;
  constexpr int rounds = 2000;
  for (int seed = 0; seed < rounds; ++seed) {
    const std::string out = with(3, static_cast<std::uint64_t>(seed));
    differ += out != with(3, 0) ? 1 : 0;
    const bool kept[] = {
        out.find("Quick") != std::string::npos, out.find("fox") != std::string::npos,
        out.find("lazy") != std::string::npos, out.find("dog") != std::string::npos};
    int left = 0;
    for (int i = 0; i < 4; ++i) left += kept[i], places[i] += kept[i];
    CHECK(left == 1);  // three of four
    fast += out.find("Fast") != std::string::npos ? 1 : 0;
  }
  for (const int n : places) CHECK(std::abs(n - rounds / 4) < 5 * 19.4);
  CHECK(std::abs(fast - 750) < 5 * 22);
  CHECK(differ > rounds / 2);
  CHECK(ds::replace_synonyms("", table, {}).empty());
  CHECK(ds::replace_synonyms("Foxes", table, {}) == "Foxes");  // another word
}

TEST_CASE("data_mix: shares of a million, one example alone; exact counts") {
  const std::vector<double> weights = {60, 25, 10, 5};
  const ds::data_mix mix(weights, 7);
  constexpr std::size_t n = 1'000'000;
  std::vector<double> counts(4);
  for (std::size_t i = 0; i < n; ++i) ++counts[mix.source(i)];
  for (std::size_t s = 0; s < 4; ++s) {
    const double w = weights[s] / 100;
    CHECK(std::fabs(counts[s] / n - w) < 5 * std::sqrt(w * (1 - w) / n));
  }
  const ds::data_mix again(weights, 7), other(weights, 8);
  int same = 0;
  for (std::size_t i = 0; i < 1000; ++i) {
    CHECK(again.source(i) == mix.source(i));
    same += other.source(i) == mix.source(i) ? 1 : 0;
  }
  CHECK(same < 600);
  const ds::data_mix sparse(std::vector<double>{0, 1, 0}, 1);
  for (std::size_t i = 0; i < 1000; ++i) CHECK(sparse.source(i) == 1);
  CHECK(ds::largest_remainder(weights, 1000) == std::vector<std::size_t>{600, 250, 100, 50});
  CHECK(ds::largest_remainder(weights, 7) == std::vector<std::size_t>{4, 2, 1, 0});
  CHECK(ds::largest_remainder(weights, 0) == std::vector<std::size_t>{0, 0, 0, 0});
  const auto thirds = ds::largest_remainder(std::vector<double>{1, 1, 1}, std::size_t{1} << 50);
  CHECK(thirds[0] + thirds[1] + thirds[2] == std::size_t{1} << 50);
  CHECK_ERROR(code::limit, "1152921504606846976 examples",
              ds::largest_remainder(std::vector<double>{1, 1, 1}, std::size_t{1} << 60));
  CHECK_ERROR(code::invalid_argument, "no weights", ds::data_mix(std::vector<double>{}));
  CHECK_ERROR(code::invalid_argument, "weight 1 is -1", ds::data_mix(std::vector<double>{1, -1}));
  CHECK_ERROR(code::invalid_argument, "sum to 0", ds::largest_remainder(std::vector<double>{0}, 3));
}
