// SPDX-License-Identifier: Apache-2.0
// given_blocks: who sees whom as a table of blocks, mask[query blocks, key blocks] of 0 and 1:
// query q sees key k where mask[q / block, k / block] is not 0. create_sparse_mask
// (pattern/bigbird.hpp) makes such tables. It borrows the table, which must outlive it and live in
// the backend's memory; outside the table nothing is visible. Errors: invalid_argument (block < 1).
// Cost: the blocks kept, and a walk over a row of the table.
#pragma once

#include "deepseek/core/view.hpp"
#include "deepseek/pattern/pattern.hpp"

namespace deepseek {

struct given_blocks {
  const std::uint8_t* data = nullptr;
  index_t block = 1, rows = 0, columns = 0;
  index_t row_stride = 0, column_stride = 1;

  given_blocks() = default;
  template <class T, class S, index_t N, index_t M>
  given_blocks(const view<T, S, N, M>& mask, index_t positions)
      : data(mask.data()),
        block(positions),
        rows(mask.extent(0)),
        columns(mask.extent(1)),
        row_stride(mask.stride(0)),
        column_stride(mask.stride(1)) {}

  void check(const pattern_scope&) const {
    require(block >= 1, error_code::invalid_argument, "given_blocks: a block of ", block,
            " positions; pass at least 1");
  }

  DEEPSEEK_HOST_DEVICE bool visible(index_t q, index_t k) const {
    return sees(floor_divide(q, block), floor_divide(k, block));
  }
  DEEPSEEK_HOST_DEVICE coverage cover(const tile& t) const {
    bool some = false, all = true;
    for (index_t a = floor_divide(t.q0, block); a <= floor_divide(t.q1 - 1, block); ++a) {
      for (index_t b = floor_divide(t.k0, block); b <= floor_divide(t.k1 - 1, block); ++b) {
        sees(a, b) ? some = true : all = false;
      }
      if (some && !all) return coverage::partial;
    }
    return all ? coverage::full : coverage::none;
  }
  DEEPSEEK_HOST_DEVICE key_span next_keys(index_t q0, index_t q1, index_t from) const {
    for (index_t b = floor_divide(from, block); b < columns; ++b) {
      for (index_t a = floor_divide(q0, block); a <= floor_divide(q1 - 1, block); ++a) {
        if (sees(a, b)) return {b * block > from ? b * block : from, (b + 1) * block};
      }
    }
    return {};
  }
  DEEPSEEK_HOST_DEVICE std::uint64_t row_bits(index_t q, index_t k0) const {
    const index_t a = floor_divide(q, block);
    std::uint64_t bits = 0;
    for (index_t b = floor_divide(k0, block); b * block < k0 + 64 && b < columns; ++b) {
      if (sees(a, b)) bits |= span_bits(b * block, (b + 1) * block, k0);
    }
    return bits;
  }

 private:
  DEEPSEEK_HOST_DEVICE bool sees(index_t a, index_t b) const {
    return a >= 0 && a < rows && b < columns && data[a * row_stride + b * column_stride] != 0;
  }
};

}  // namespace deepseek
