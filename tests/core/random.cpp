// SPDX-License-Identifier: Apache-2.0
// Philox against Random123, and the distributions drawn from it against their expectation.
#include <deepseek/core/random.hpp>
#include "support/report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <set>
#include <vector>

#include <doctest/doctest.h>

#if __has_include(<Random123/philox.h>)
#define HAVE_RANDOM123 1
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wpedantic"
#endif
#include <Random123/philox.h>
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
#endif

namespace ds = deepseek;

namespace {

constexpr std::uint32_t draws = 1000000;

// How many standard deviations the sum of n draws is away from n*mean.
double z_of_sum(double sum, double n, double mean, double variance) {
  return (sum - n * mean) / std::sqrt(n * variance);
}

// Chi-square of equally likely cells, as a normal deviate.
double z_of_cells(const std::vector<double>& counts, double total) {
  const double expected = total / static_cast<double>(counts.size());
  double chi = 0;
  for (double count : counts) chi += (count - expected) * (count - expected) / expected;
  const double freedom = static_cast<double>(counts.size()) - 1;
  return (chi - freedom) / std::sqrt(2 * freedom);
}

}  // namespace

TEST_CASE("philox: the three vectors of its authors") {
  using words = ds::philox_words;
  static_assert(ds::philox({0, 0}, {0, 0, 0, 0}) ==
                words{{0x6627e8d5U, 0xe169c58dU, 0xbc57ac4cU, 0x9b00dbd8U}});
  constexpr std::uint32_t ones = 0xffffffffU;
  const words all_ones = ds::philox({ones, ones}, {ones, ones, ones, ones});
  CHECK(all_ones == words{{0x408f276dU, 0x41c83b0eU, 0xa20bc7c6U, 0x6d5451fdU}});
  const words digits_of_pi =
      ds::philox({0xa4093822U, 0x299f31d0U}, {0x243f6a88U, 0x85a308d3U, 0x13198a2eU, 0x03707344U});
  CHECK(digits_of_pi == words{{0xd16cfe09U, 0x94fdccebU, 0x5001e420U, 0x24126ea1U}});
}

TEST_CASE("philox: bit-equal to Random123") {
#if defined(HAVE_RANDOM123)
  r123::Philox4x32 theirs;
  int different = 0;
  std::uint32_t state = 12345;
  const auto next = [&] { return state = state * 1664525U + 1013904223U; };
  for (int i = 0; i < 20000; ++i) {
    const ds::philox_key key{next(), next()};
    const ds::philox_counter at{next(), next(), next(), next()};
    const auto expected = theirs({{at.c0, at.c1, at.c2, at.c3}}, {{key.k0, key.k1}});
    const ds::philox_words got = ds::philox(key, at);
    for (std::uint32_t w = 0; w < 4; ++w) different += got[w] == expected[w] ? 0 : 1;
  }
  CHECK(different == 0);
#else
  support::skip("Random123 is not installed; apt-get install librandom123-dev");
#endif
}

TEST_CASE("a stream read in order, at random places and from the middle is one stream") {
  const ds::stream_key key{0x0123456789abcdefULL, 7, 9, 3, ds::random_use::dropout};
  ds::random_stream stream(key);
  int different = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    ds::random_stream from_here(key, i);
    const std::uint32_t word = stream.word();
    different += word == ds::random_word(key, i) && word == from_here.word() ? 0 : 1;
  }
  CHECK(different == 0);
  CHECK(stream.position() == 1000);
  const ds::philox_words layout =
      ds::philox({0x89abcdefU, 0x01234567U ^ 0x44524F50U}, {5, 3, 9, 7});
  CHECK(ds::random_word(key, 22) == layout[2]);
}

TEST_CASE("streams that differ in one coordinate differ") {
  const ds::stream_key base{1, 2, 3, 4, ds::random_use::general};
  std::vector<ds::stream_key> keys(7, base);
  keys[1].seed = 2;
  keys[2].seed = 1 + (1ULL << 32U);
  keys[3].step = 3;
  keys[4].site = 4;
  keys[5].lane = 5;
  keys[6].use = ds::random_use::data;
  std::set<std::uint32_t> first_words;
  for (const auto& key : keys) first_words.insert(ds::random_word(key, 0));
  CHECK(first_words.size() == keys.size());
}

TEST_CASE("uniform01: range and moments") {
  static_assert(ds::uniform01(0) == 0.0F && ds::uniform01(0xffffffffU) == 1.0F - 0x1p-24F);
  ds::random_stream stream({11, 0, 0, 0});
  double sum = 0, squares = 0;
  bool in_range = true;
  std::vector<double> cells(1024);
  for (std::uint32_t i = 0; i < draws; ++i) {
    const double x = static_cast<double>(stream.uniform());
    in_range = in_range && x >= 0 && x < 1;
    sum += x;
    squares += x * x;
    cells[static_cast<std::size_t>(x * 1024)] += 1;
  }
  CHECK(in_range);
  CHECK(std::fabs(z_of_sum(sum, draws, 0.5, 1.0 / 12)) < 5);
  CHECK(std::fabs(z_of_sum(squares, draws, 1.0 / 3, 4.0 / 45)) < 5);
  CHECK(std::fabs(z_of_cells(cells, draws)) < 5);
}

TEST_CASE("normal: moments, independence of neighbours and the distribution function") {
  const ds::stream_key key{12, 0, 0, 0};
  double sum = 0, squares = 0, fourth = 0, neighbours = 0, last = 0, largest = 0;
  std::vector<double> cells(64);
  for (std::uint32_t i = 0; i < draws; ++i) {
    const double x = static_cast<double>(ds::normal(key, i));
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
    neighbours += x * last;
    last = x;
    largest = std::max(largest, std::fabs(x));
    const double place = 0.5 * std::erfc(-x / std::sqrt(2.0)) * 64;
    cells[std::min<std::size_t>(63, static_cast<std::size_t>(place))] += 1;
  }
  CHECK(std::fabs(z_of_sum(sum, draws, 0, 1)) < 5);
  CHECK(std::fabs(z_of_sum(squares, draws, 1, 2)) < 5);
  CHECK(std::fabs(z_of_sum(fourth, draws, 3, 96)) < 5);
  CHECK(std::fabs(z_of_sum(neighbours, draws, 0, 1)) < 5);
  CHECK(std::fabs(z_of_cells(cells, draws)) < 5);
  CHECK(largest > 4.2);
  CHECK(largest < 6.67);
  CHECK(std::isfinite(ds::normal(0U, 0U).first));
  CHECK(ds::normal(0xffffffffU, 77U).first == 0.0F);
}

TEST_CASE("below: in range, unbiased where n does not divide 2^32, repeatable") {
  for (std::uint32_t n : {1U, 2U, 3U, 7U, 100U, 1000U}) {
    ds::random_stream stream({13, n, 0, 0});
    std::vector<double> cells(n);
    const std::uint32_t total = n == 1 ? 100 : draws;
    bool in_range = true;
    for (std::uint32_t i = 0; i < total; ++i) {
      const std::uint32_t x = stream.below(n);
      in_range = in_range && x < n;
      if (x < n) cells[x] += 1;
    }
    CHECK(in_range);
    if (n > 1) CHECK(std::fabs(z_of_cells(cells, total)) < 5);
  }
  CHECK(ds::random_stream({1, 2, 3, 4}).below(0) == 0);
}

TEST_CASE("below: rejection takes a third of the words where n is 3 * 2^30") {
  // Without rejection each third of [0, n) would get 1/2, 1/4 or 1/4 of the draws in some residue.
  constexpr std::uint32_t n = 3U << 30U;
  ds::random_stream stream({14, 0, 0, 0});
  std::vector<double> residues(3);
  for (std::uint32_t i = 0; i < draws; ++i) residues[stream.below(n) % 3] += 1;
  CHECK(std::fabs(z_of_cells(residues, draws)) < 5);
  const double words = static_cast<double>(stream.position());
  // Each draw takes 4/3 words on average: geometric with success 3/4, variance (1/4)/(3/4)^2.
  CHECK(std::fabs(z_of_sum(words, draws, 4.0 / 3, 4.0 / 9)) < 5);
}

TEST_CASE("sample without replacement: equals Fisher-Yates on a stored list") {
  std::uint32_t chosen[64];
  int different = 0, repeated = 0;
  for (std::uint32_t n : {1U, 2U, 3U, 5U, 17U, 64U, 1000U}) {
    for (std::uint32_t query_block = 0; query_block < 50; ++query_block) {
      const auto key = ds::pattern_stream(3, 1, 2, query_block);
      const std::uint32_t count = ds::sample_without_replacement(key, n, 64, chosen);
      REQUIRE(count == std::min(n, 64U));
      std::vector<std::uint32_t> list(n);
      std::iota(list.begin(), list.end(), 0U);
      ds::random_stream stream(key);
      for (std::uint32_t i = 0; i < count; ++i) {
        std::swap(list[i], list[i + stream.below(n - i)]);
        different += chosen[i] == list[i] ? 0 : 1;
      }
      repeated += std::set<std::uint32_t>(chosen, chosen + count).size() == count ? 0 : 1;
    }
  }
  CHECK(different == 0);
  CHECK(repeated == 0);
}

TEST_CASE("sample without replacement: every element is equally likely") {
  constexpr std::uint32_t n = 20, wanted = 3, repeats = 100000;
  std::vector<double> cells(n), ordered(n * n);
  for (std::uint32_t i = 0; i < repeats; ++i) {
    std::uint32_t chosen[wanted];
    ds::sample_without_replacement(ds::pattern_stream(9, 0, 0, i), n, wanted, chosen);
    for (std::uint32_t id : chosen) cells[id] += 1;
    ordered[chosen[0] * n + chosen[1]] += 1;
  }
  // Counts of distinct elements are negatively correlated: chi-square shrinks by (n - wanted)/(n -
  // 1).
  for (double& count : cells) {
    const double expected = double{wanted} * repeats / n;
    count = expected + (count - expected) / std::sqrt(double{n - wanted} / (n - 1));
  }
  CHECK(std::fabs(z_of_cells(cells, double{wanted} * repeats)) < 5);
  std::vector<double> pairs;
  for (std::uint32_t a = 0; a < n; ++a) {
    for (std::uint32_t b = 0; b < n; ++b) {
      if (a != b) pairs.push_back(ordered[a * n + b]);
    }
  }
  CHECK(std::fabs(z_of_cells(pairs, repeats)) < 5);
}
