// SPDX-License-Identifier: Apache-2.0
// Joining with separators and truncation; sorted, padded and packed batches: nothing is lost.
#include "deepseek/data/joining.hpp"
#include "deepseek/data/packing.hpp"

#include "support/report.hpp"
#include "support/seed.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;
using ids = std::vector<std::int32_t>;
using sizes = std::vector<std::size_t>;
using code = ds::error_code;

namespace {

constexpr std::int32_t sep = 99;

ds::joined_tokens join(const std::vector<ids>& pieces, std::size_t most,
                       ds::truncation cut = ds::truncation::longest_first, bool end = true) {
  std::vector<ds::token_span> spans(pieces.begin(), pieces.end());
  return ds::join_segments(
      spans, {.separator = sep, .max_length = most, .separator_at_end = end, .cut = cut});
}

sizes drawn_lengths(std::size_t n, std::size_t most) {
  support::numbers from(n);
  sizes out;
  for (std::size_t i = 0; i < n; ++i) out.push_back(from.below(most + 1));
  return out;
}
// Every position once.
bool is_partition(const std::vector<sizes>& parts, std::size_t n) {
  sizes all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  std::ranges::sort(all);
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i] != i) return false;
  }
  return all.size() == n;
}

}  // namespace

TEST_CASE("join_segments: separators, segments, truncation") {
  const std::vector<ids> pieces = {{1, 2, 3, 4}, {5, 6}, {7, 8, 9}};
  const auto whole = join(pieces, 4096);
  CHECK(whole.tokens == ids{1, 2, 3, 4, sep, 5, 6, sep, 7, 8, 9, sep});
  CHECK(whole.segments == ids{0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2});
  CHECK(whole.cut == 0);
  CHECK(join(pieces, 12).tokens == whole.tokens);
  CHECK(join(pieces, 11, ds::truncation::never, false).tokens.size() == 11);
  const auto level = join(pieces, 9);  // from the longest: 4 -> 3, then of 3 and 3 the last
  CHECK(level.tokens == ids{1, 2, sep, 5, 6, sep, 7, 8, sep});
  CHECK(level.cut == 3);
  const auto last = join(pieces, 8, ds::truncation::last_first);
  CHECK(last.tokens == ids{1, 2, 3, 4, sep, 5, sep, sep});
  CHECK(join(pieces, 3).tokens == ids{sep, sep, sep});
  CHECK(join({{}}, 1).tokens == ids{sep});
  CHECK(join({{1, 2}}, 2, ds::truncation::longest_first, false).tokens == ids{1, 2});
  CHECK_ERROR(code::limit, "12 tokens do not fit 11", join(pieces, 11, ds::truncation::never));
  CHECK_ERROR(code::limit, "3 separators do not fit 2", join(pieces, 2));
  CHECK_ERROR(code::invalid_argument, "no pieces", join({}, 2));
}

TEST_CASE("length_sorted_batches: padded cost within the budget, the last batch too") {
  const sizes lengths = {3, 10, 4, 9, 1, 0, 10};
  const auto batches = ds::length_sorted_batches(lengths, 20);
  CHECK(batches == std::vector<sizes>{{1, 6}, {3, 2}, {0, 4, 5}});
  for (const std::size_t n : sizes{0, 1, 7, 300}) {
    const auto drawn = drawn_lengths(n, 64);
    const auto parts = ds::length_sorted_batches(drawn, 256);
    CHECK(is_partition(parts, n));
    for (const auto& part : parts) {
      CHECK(part.size() * drawn[part.front()] <= 256);
      for (const std::size_t i : part) CHECK(drawn[i] <= drawn[part.front()]);
    }
  }
  CHECK_ERROR(code::limit, "sequence 1 has 10 tokens, more than 9",
              ds::length_sorted_batches(lengths, 9));
}

TEST_CASE("pack_first_fit: bins are full, none too full") {
  CHECK(ds::pack_first_fit(sizes{5, 7, 3, 2, 3}, 10) == std::vector<sizes>{{1, 2}, {0, 4, 3}});
  for (const std::size_t n : sizes{0, 1, 7, 500}) {
    const auto drawn = drawn_lengths(n, 128);
    const auto bins = ds::pack_first_fit(drawn, 128);
    CHECK(is_partition(bins, n));
    std::size_t total = 0;
    for (const auto& bin : bins) {
      std::size_t sum = 0;
      for (const std::size_t i : bin) sum += drawn[i];
      CHECK(sum <= 128);
      total += sum;
    }
    const std::size_t least = (total + 127) / 128;
    CHECK(9 * bins.size() <= 11 * least + 9);
  }
  CHECK_ERROR(code::limit, "sequence 0 has 5 tokens, more than 4", ds::pack_first_fit(sizes{5}, 4));
}

TEST_CASE("pack_batch: more tokens than offsets count are refused before they are copied") {
  const std::vector<ids> sequences = {ids(std::size_t{1} << 16)};
  CHECK_ERROR(code::limit, "pack_batch: 2147483648 tokens", "2147483647",
              ds::pack_batch(sequences, sizes(std::size_t{1} << 15)));
}

TEST_CASE("pad_batch and pack_batch: tokens, lengths, offsets") {
  const std::vector<ids> sequences = {{1, 2, 3}, {}, {4, 5}, {6}};
  const auto padded = ds::pad_batch(sequences, {0, 2, 1}, -1);
  CHECK(padded.longest == 3);
  CHECK(padded.tokens == ids{1, 2, 3, 4, 5, -1, -1, -1, -1});
  CHECK(padded.lengths == ids{3, 2, 0});
  const auto packed = ds::pack_batch(sequences, {2, 1, 0});
  CHECK(packed.tokens == ids{4, 5, 1, 2, 3});
  CHECK(packed.offsets == ids{0, 2, 2, 5});
  CHECK(ds::pad_batch(sequences, {}, 0).tokens.empty());
  CHECK(ds::pack_batch(sequences, {}).offsets == ids{0});
  CHECK_ERROR(code::index_range, "sequence 4 of 4", ds::pad_batch(sequences, {4}, 0));
  CHECK_ERROR(code::index_range, "sequence 9 of 4", ds::pack_batch(sequences, {9}));
}
