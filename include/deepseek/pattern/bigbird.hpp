// SPDX-License-Identifier: Apache-2.0
// bigbird<B, R>: positions are cut into n blocks of B. The first and the last block see all and are
// seen by all; every other block sees itself, its two neighbours and R blocks drawn at random
// (pattern/bigbird_draw.hpp; fixed by the seed, its own for every head): (5 + R) B keys a query.
//   bigbird<64, 3>                             draws spread evenly over the sequence
//   bigbird<64, 3, bigbird_draws::published>   draws where the published code draws: at its start
// It is made for both directions. Inside a both<> that looks back, both<causal, bigbird<64, 3>>,
// what depends on the length is left out, so that prefill equals decoding: block i sees blocks 0,
// i - 1, i and R drawn of 1 .. i - 2; no block is "last". (The published construction has no
// causal form.) Errors, in both directions: invalid_argument where the keys are not a multiple of B
// or less than 5 blocks, as in the published code. Source: Zaheer et al. 2020 (BigBird), section 2
// and appendix D.
#pragma once

#include "deepseek/pattern/bigbird_draw.hpp"

#include <vector>

namespace deepseek {

// The key blocks of query block i of n; n = no_key: nothing later is visible.
template <index_t R>
struct bigbird_row {
  index_t i = 0, n = 0;
  std::uint32_t drawn[R > 0 ? R : 1] = {};
  std::uint32_t count = 0;

  DEEPSEEK_HOST_DEVICE constexpr bool whole() const { return i == 0 || i == n - 1; }
  DEEPSEEK_HOST_DEVICE constexpr bool sees(index_t j) const {
    if (whole() || j == 0 || j == n - 1 || (j >= i - 1 && j <= i + 1)) return true;
    for (std::uint32_t d = 0; d < count; ++d) {
      if (static_cast<index_t>(drawn[d]) == j) return true;
    }
    return false;
  }
  // The first block at or after j that it sees; no_key: none.
  DEEPSEEK_HOST_DEVICE constexpr index_t next(index_t j) const {
    if (sees(j)) return j;
    index_t first = no_key;
    const auto offer = [&](index_t b) {
      if (b >= j && b < first) first = b;
    };
    offer(i - 1);
    if (n != no_key) offer(n - 1);
    for (std::uint32_t d = 0; d < count; ++d) offer(static_cast<index_t>(drawn[d]));
    return first;
  }
};

template <index_t B, index_t R, bigbird_draws Form = bigbird_draws::even>
struct bigbird {
  static_assert(B >= 1, "deepseek::bigbird: a block has no positions; write bigbird<B, R>, B >= 1");
  static_assert(R >= 0 && R <= 4096,
                "deepseek::bigbird: R is not in 0 .. 4096 (all blocks drawn are compared with each "
                "other); write fewer, larger blocks");
  static_assert(Form == bigbird_draws::even || B <= 256,
                "deepseek::bigbird: the published draws need blocks of at most 256 (they use the "
                "first 1024 positions); write a smaller B or bigbird_draws::even");
  static constexpr bool checked_by_sizes = true;

  pattern_key key;
  pattern_scope scope;

  static constexpr bigbird make(const pattern_key& from) { return {from, {}}; }
  DEEPSEEK_HOST_DEVICE constexpr bigbird bind(const pattern_scope& to) const { return {key, to}; }
  void check(const pattern_scope& of) const {
    if (of.seen == reach::past || of.keys == 0) return;
    require(of.keys % B == 0 && of.keys / B >= 5, error_code::invalid_argument,
            "bigbird: ", of.keys, " keys are not 5 or more blocks of ", B,
            "; pad the sequence, choose another block, or write both<causal, bigbird<...>>");
  }

  DEEPSEEK_HOST_DEVICE constexpr bigbird_row<R> row(index_t i) const {
    constexpr bigbird_sizes sizes{B, R, Form};  // not a member: kernels have no address of one
    bigbird_row<R> r;
    r.i = i;
    r.n = scope.seen == reach::past ? no_key : (scope.keys + B - 1) / B;
    if (i > 0 && i < r.n - 1) r.count = sizes.draw(key, scope, i, r.drawn);
    return r;
  }
  DEEPSEEK_HOST_DEVICE constexpr bool visible(index_t q, index_t k) const {
    return row(floor_divide(q, B)).sees(floor_divide(k, B));
  }
  DEEPSEEK_HOST_DEVICE constexpr coverage cover(const tile& t) const {
    bool some = false, all = true;
    for (index_t a = floor_divide(t.q0, B); a <= floor_divide(t.q1 - 1, B); ++a) {
      const auto r = row(a);
      for (index_t b = floor_divide(t.k0, B); b <= floor_divide(t.k1 - 1, B); ++b) {
        r.sees(b) ? some = true : all = false;
      }
      if (some && !all) return coverage::partial;
    }
    return all ? coverage::full : coverage::none;
  }
  DEEPSEEK_HOST_DEVICE constexpr key_span next_keys(index_t q0, index_t q1, index_t from) const {
    index_t first = no_key;
    for (index_t a = floor_divide(q0, B); a <= floor_divide(q1 - 1, B); ++a) {
      const index_t b = row(a).next(floor_divide(from, B));
      if (b < first) first = b;
    }
    if (first == no_key) return {};
    return {first * B > from ? first * B : from, (first + 1) * B};
  }
  DEEPSEEK_HOST_DEVICE static constexpr bool alike(index_t a, index_t b) {
    return floor_divide(a, B) == floor_divide(b, B);
  }
  DEEPSEEK_HOST_DEVICE constexpr std::uint64_t row_bits(index_t q, index_t k0) const {
    const auto r = row(floor_divide(q, B));
    std::uint64_t bits = 0;
    for (index_t b = r.next(floor_divide(k0, B)); b != no_key && b * B < k0 + 64;
         b = r.next(b + 1)) {
      bits |= span_bits(b * B, (b + 1) * B, k0);
    }
    return bits;
  }
};

// The block mask [n, n] of BigBird for a sequence of `tokens`, 1: visible; sizes at run time.
// given_blocks(view, block) makes a pattern of it. Errors: invalid_argument, as bigbird.
struct sparse_mask_config {
  index_t block_size = 64;        // positions, >= 1; published draws: <= 256
  index_t num_random_blocks = 3;  // drawn for each query block, 0 .. 4096
  bigbird_draws form = bigbird_draws::even;
  pattern_key key = {};  // seed and place of the model
  index_t head = 0;
};
inline std::vector<std::uint8_t> create_sparse_mask(index_t tokens,
                                                    const sparse_mask_config& c = {}) {
  require(c.block_size >= 1 && (c.form == bigbird_draws::even || c.block_size <= 256),
          error_code::invalid_argument, "create_sparse_mask: block_size is ", c.block_size,
          "; pass at least 1, with published draws at most 256");
  require(c.num_random_blocks >= 0 && c.num_random_blocks <= 4096, error_code::invalid_argument,
          "create_sparse_mask: num_random_blocks is ", c.num_random_blocks, "; pass 0 .. 4096");
  const index_t n = tokens / c.block_size;
  require(tokens % c.block_size == 0 && n >= 5, error_code::invalid_argument,
          "create_sparse_mask: ", tokens, " tokens are not 5 or more blocks of ", c.block_size,
          "; pad the sequence");
  const bigbird_sizes sizes{c.block_size, c.num_random_blocks, c.form};
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(n * n));
  std::vector<std::uint32_t> drawn(static_cast<std::size_t>(c.num_random_blocks));
  for (index_t i = 0; i < n; ++i) {
    std::uint8_t* row = mask.data() + i * n;
    bigbird_row<0> fixed;
    fixed.i = i, fixed.n = n;
    for (index_t j = 0; j < n; ++j) row[j] = fixed.sees(j) ? 1 : 0;
    if (fixed.whole()) continue;
    const auto count = sizes.draw(c.key, {.head = c.head, .keys = tokens}, i, drawn.data());
    for (std::uint32_t d = 0; d < count; ++d) row[drawn[d]] = 1;
  }
  return mask;
}

}  // namespace deepseek
