// SPDX-License-Identifier: Apache-2.0
// Sequences of different lengths as batches.
// length_sorted_batches: longest first, as many as n x longest <= budget allows; the last batch is
// given, too. pad_batch: one such batch as tokens [n, longest] with `pad` behind, and its lengths.
// pack_first_fit: sequences into bins of `capacity` tokens, longest first, each into the first bin
// with room (11/9 of the best number of bins, plus one, at most). pack_batch: one bin as packed
// tokens with offsets, which attention takes as `sequences`: nothing is padded, no sequence sees
// another. Ties by position, so the same input gives the same batches.
// Errors: limit (a sequence longer than the budget or capacity; more than 2^31 - 1 tokens in one
// packed batch or one padded sequence), index_range.
// Sources: Johnson 1973 (first fit); Krell et al. 2021 (packing without cross-contamination).
#pragma once

#include <algorithm>
#include <numeric>

#include "deepseek/data/masking.hpp"

namespace deepseek {

using index_list = std::vector<std::size_t>;

namespace detail {

inline index_list longest_first(std::span<const std::size_t> lengths) {
  index_list order(lengths.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order,
                           [&](std::size_t i, std::size_t j) { return lengths[i] > lengths[j]; });
  return order;
}
inline void require_fits(std::span<const std::size_t> lengths, std::size_t most, const char* what) {
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    require(lengths[i] <= most, error_code::limit, what, ": sequence ", i, " has ", lengths[i],
            " tokens, more than ", most, "; cut it or allow more");
  }
}
// Lengths and offsets are int32.
inline void require_int32(std::size_t tokens, const char* what) {
  require(tokens <= static_cast<std::size_t>(INT32_MAX), error_code::limit, what, ": ", tokens,
          " tokens, more than ", INT32_MAX, "; make smaller batches");
}

}  // namespace detail

// Batches of positions in `lengths`. Padded tokens of a batch: its size times its first length.
inline std::vector<index_list> length_sorted_batches(std::span<const std::size_t> lengths,
                                                     std::size_t budget) {
  detail::require_fits(lengths, budget, "length_sorted_batches");
  std::vector<index_list> batches;
  for (const std::size_t i : detail::longest_first(lengths)) {
    const bool fits =
        !batches.empty() &&
        (batches.back().size() + 1) * std::max<std::size_t>(lengths[batches.back().front()], 1) <=
            budget;
    if (!fits) batches.emplace_back();
    batches.back().push_back(i);
  }
  return batches;
}

inline std::vector<index_list> pack_first_fit(std::span<const std::size_t> lengths,
                                              std::size_t capacity) {
  detail::require_fits(lengths, capacity, "pack_first_fit");
  std::vector<index_list> bins;
  index_list room;
  for (const std::size_t i : detail::longest_first(lengths)) {
    std::size_t bin = 0;
    while (bin < bins.size() && room[bin] < lengths[i]) ++bin;
    if (bin == bins.size()) {
      bins.emplace_back();
      room.push_back(capacity);
    }
    bins[bin].push_back(i);
    room[bin] -= lengths[i];
  }
  return bins;
}

using token_lists = std::span<const std::vector<std::int32_t>>;

struct padded_batch {
  std::vector<std::int32_t> tokens;   // [n, longest], row-major
  std::vector<std::int32_t> lengths;  // [n]: what attention may see of each row
  std::size_t longest = 0;
};
inline padded_batch pad_batch(token_lists sequences, const index_list& which, std::int32_t pad) {
  padded_batch out;
  for (const std::size_t i : which) {
    require(i < sequences.size(), error_code::index_range, "pad_batch: sequence ", i, " of ",
            sequences.size(), "; pass positions of sequences");
    out.longest = std::max(out.longest, sequences[i].size());
    detail::require_int32(out.longest, "pad_batch");
  }
  for (const std::size_t i : which) {
    out.lengths.push_back(static_cast<std::int32_t>(sequences[i].size()));
    out.tokens.insert(out.tokens.end(), sequences[i].begin(), sequences[i].end());
    out.tokens.resize(out.lengths.size() * out.longest, pad);
  }
  return out;
}

struct packed_batch {
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> offsets{0};  // sequence s: offsets[s] .. offsets[s + 1] - 1
};
inline packed_batch pack_batch(token_lists sequences, const index_list& which) {
  packed_batch out;
  std::size_t total = 0;
  for (const std::size_t i : which) {
    require(i < sequences.size(), error_code::index_range, "pack_batch: sequence ", i, " of ",
            sequences.size(), "; pass positions of sequences");
    detail::require_int32(total += sequences[i].size(), "pack_batch");
  }
  for (const std::size_t i : which) {
    out.tokens.insert(out.tokens.end(), sequences[i].begin(), sequences[i].end());
    out.offsets.push_back(static_cast<std::int32_t>(out.tokens.size()));
  }
  return out;
}

}  // namespace deepseek
