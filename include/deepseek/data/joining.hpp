// SPDX-License-Identifier: Apache-2.0
// join_segments: several pieces of tokens as one sequence a SEP b SEP c (SEP), not longer than
// max_length. What is too long is cut at the end of its pieces:
//   longest_first   tokens are taken from whichever piece is longest (of equal ones the last)
//   last_first      from the last piece, then the one before it
//   never           an error
// Separators are never cut; a piece may end empty. segments[i] is the piece that token i is of, its
// separator included. Errors: limit (never; or the separators alone are too long),
// invalid_argument. Source: Devlin et al. 2019 (BERT), 3 and its released preparation of pairs.
#pragma once

#include <algorithm>

#include "deepseek/data/masking.hpp"

namespace deepseek {

enum class truncation { longest_first, last_first, never };

struct joining_config {
  std::int32_t separator = 0;
  std::size_t max_length = 4096;
  bool separator_at_end = true;
  truncation cut = truncation::longest_first;
};

struct joined_tokens {
  std::vector<std::int32_t> tokens, segments;
  std::size_t cut = 0;  // tokens left out
};

namespace detail {

// How many tokens of each piece stay.
inline std::vector<std::size_t> kept_lengths(std::span<const token_span> pieces, std::size_t room,
                                             truncation how) {
  std::vector<std::size_t> lengths;
  std::size_t total = 0;
  for (const token_span piece : pieces) total += lengths.emplace_back(piece.size());
  while (total > room) {
    auto at = lengths.end() - 1;
    if (how == truncation::last_first) {
      while (*at == 0) --at;
      const std::size_t take = std::min(*at, total - room);
      *at -= take, total -= take;
      continue;
    }
    const std::size_t longest = *std::ranges::max_element(lengths);
    while (*at != longest) --at;
    --*at, --total;
  }
  return lengths;
}

}  // namespace detail

inline joined_tokens join_segments(std::span<const token_span> pieces,
                                   const joining_config& config) {
  require(!pieces.empty(), error_code::invalid_argument,
          "join_segments: no pieces; pass at least one");
  const std::size_t separators = pieces.size() - (config.separator_at_end ? 0 : 1);
  require(separators <= config.max_length, error_code::limit, "join_segments: ", separators,
          " separators do not fit ", config.max_length, " tokens; pass fewer pieces");
  std::size_t total = separators;
  for (const token_span piece : pieces) total += piece.size();
  require(config.cut != truncation::never || total <= config.max_length, error_code::limit,
          "join_segments: ", total, " tokens do not fit ", config.max_length,
          "; allow truncation or pass shorter pieces");
  const auto lengths = detail::kept_lengths(pieces, config.max_length - separators, config.cut);
  joined_tokens out;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    out.tokens.insert(out.tokens.end(), pieces[i].begin(),
                      pieces[i].begin() + static_cast<std::ptrdiff_t>(lengths[i]));
    if (i + 1 < pieces.size() || config.separator_at_end) out.tokens.push_back(config.separator);
    out.segments.resize(out.tokens.size(), static_cast<std::int32_t>(i));
  }
  out.cut = total - out.tokens.size();
  return out;
}

}  // namespace deepseek
