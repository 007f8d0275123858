// SPDX-License-Identifier: Apache-2.0
// Byte-pair encoding of one piece of text: each byte is a token; then, again and again, of all
// neighbours that may merge those with the lowest rank become one, the leftmost first.
// O(n log n) for a piece of n bytes. merge_table: two tokens -> rank and result, immutable.
// Source: Sennrich et al. 2016, section 3.2; ranks: Radford et al. 2019.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "deepseek/core/error.hpp"

namespace deepseek {

using token_id = std::int32_t;

struct merge_rule {
  token_id left, right, result;
};

// The rank of a merge is its position in the list.
class merge_table {
 public:
  static constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();

  merge_table() : merge_table(std::vector<merge_rule>{}) {}
  // A pair given twice keeps its first rank; whoever reads the list refuses it.
  explicit merge_table(std::vector<merge_rule> merges) : merges_(std::move(merges)) {
    slots_.resize(std::bit_ceil(2 * merges_.size() + 1), none);
    for (std::uint32_t rank = 0; rank < merges_.size(); ++rank) {
      std::uint32_t& slot = slots_[slot_of(merges_[rank].left, merges_[rank].right)];
      if (slot == none) slot = rank;
    }
  }

  std::size_t size() const { return merges_.size(); }
  const merge_rule& operator[](std::uint32_t rank) const { return merges_[rank]; }
  std::uint32_t rank(token_id left, token_id right) const { return slots_[slot_of(left, right)]; }

 private:
  // Where the pair is, or the free slot where it would be.
  std::size_t slot_of(token_id left, token_id right) const {
    const std::uint64_t key =
        std::uint64_t{static_cast<std::uint32_t>(left)} << 32U | static_cast<std::uint32_t>(right);
    std::size_t at = static_cast<std::size_t>((key * 0x9e3779b97f4a7c15U) >> 20U);
    for (at &= slots_.size() - 1; slots_[at] != none; at = (at + 1) & (slots_.size() - 1)) {
      const merge_rule& merge = merges_[slots_[at]];
      if (merge.left == left && merge.right == right) break;
    }
    return at;
  }

  std::vector<merge_rule> merges_;
  std::vector<std::uint32_t> slots_;  // ranks, by open addressing, at most half full
};

// Merges the tokens of one piece; keeps its memory from one piece to the next.
class bpe_merger {
 public:
  // tokens: those of the single bytes on entry, the merged ones on return.
  void merge(const merge_table& table, std::vector<token_id>& tokens) {
    const std::size_t n = tokens.size();
    require(n < links_.max_size() && n < merge_table::none, error_code::encode, "bpe: a piece of ",
            n, " bytes; pass less text at once");
    links_.resize(n);
    waiting_.clear();
    for (std::size_t i = 0; i < n; ++i) {
      links_[i] = {static_cast<std::uint32_t>(i) - 1, static_cast<std::uint32_t>(i) + 1};
      if (i + 1 < n) offer(table, tokens, i, i + 1);
    }
    std::ranges::make_heap(waiting_, std::greater<>());
    while (!waiting_.empty()) {
      std::ranges::pop_heap(waiting_, std::greater<>());
      const std::uint64_t next = waiting_.back();
      waiting_.pop_back();
      apply(table, tokens, static_cast<std::uint32_t>(next >> 32U),
            static_cast<std::uint32_t>(next));
    }
    std::erase(tokens, gone);
  }

 private:
  static constexpr token_id gone = -1;
  struct link {
    std::uint32_t previous, next;
  };

  bool offer(const merge_table& table, const std::vector<token_id>& tokens, std::size_t left,
             std::size_t right) {
    const std::uint32_t rank = table.rank(tokens[left], tokens[right]);
    if (rank != merge_table::none) waiting_.push_back(std::uint64_t{rank} << 32U | left);
    return rank != merge_table::none;
  }

  void apply(const merge_table& table, std::vector<token_id>& tokens, std::uint32_t rank,
             std::uint32_t at) {
    const merge_rule& merge = table[rank];
    const std::uint32_t right = links_[at].next;
    // Either neighbour may have been merged since the offer.
    if (tokens[at] != merge.left || right >= tokens.size() || tokens[right] != merge.right) return;
    tokens[at] = merge.result;
    tokens[right] = gone;
    const std::uint32_t next = links_[at].next = links_[right].next;
    const auto push = [this] { std::ranges::push_heap(waiting_, std::greater<>()); };
    if (next < tokens.size()) {
      links_[next].previous = at;
      if (offer(table, tokens, at, next)) push();
    }
    const std::uint32_t previous = links_[at].previous;
    if (previous < tokens.size() && offer(table, tokens, previous, at)) push();
  }

  std::vector<link> links_;
  std::vector<std::uint64_t> waiting_;  // rank, position: a heap, the lowest on top
};

// Pieces met before in the same text, and their tokens: a table of fixed size, the newer piece
// takes the place of the older.
class piece_cache {
 public:
  // For a text of so many bytes.
  explicit piece_cache(std::size_t text_bytes) {
    const std::size_t wanted = text_bytes / 8;
    if (wanted >= 16) slots_.resize(std::min(std::bit_ceil(wanted), std::size_t{1} << 15));
  }

  // Appends the piece's tokens and says true, if they are known.
  bool append(std::string_view piece, std::vector<token_id>& out) const {
    if (!fits(piece)) return false;
    const slot& s = slots_[hash(piece) & (slots_.size() - 1)];
    if (std::string_view(s.piece.data(), s.length) != piece) return false;
    out.insert(out.end(), s.tokens.begin(), s.tokens.begin() + s.count);
    return true;
  }

  void keep(std::string_view piece, const std::vector<token_id>& tokens) {
    if (!fits(piece) || tokens.size() > longest_tokens) return;
    slot& s = slots_[hash(piece) & (slots_.size() - 1)];
    s.length = static_cast<std::uint8_t>(piece.size());
    s.count = static_cast<std::uint8_t>(tokens.size());
    std::ranges::copy(piece, s.piece.begin());
    std::ranges::copy(tokens, s.tokens.begin());
  }

 private:
  static constexpr std::size_t longest_piece = 30, longest_tokens = 8;
  struct slot {
    std::uint8_t length = 0, count = 0;
    std::array<char, longest_piece> piece{};
    std::array<token_id, longest_tokens> tokens{};
  };

  bool fits(std::string_view piece) const {
    return !slots_.empty() && !piece.empty() && piece.size() <= longest_piece;
  }
  static std::size_t hash(std::string_view piece) {
    std::uint64_t h = piece.size();
    for (; !piece.empty(); piece.remove_prefix(std::min<std::size_t>(8, piece.size()))) {
      std::uint64_t word = 0;
      std::memcpy(&word, piece.data(), std::min<std::size_t>(8, piece.size()));
      h = (h ^ word) * 0x9e3779b97f4a7c15U;
      h ^= h >> 29U;
    }
    return static_cast<std::size_t>(h);
  }

  std::vector<slot> slots_;
};

}  // namespace deepseek
