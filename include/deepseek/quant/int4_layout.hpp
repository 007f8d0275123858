// SPDX-License-Identifier: Apache-2.0
// Where the codes of a 4-bit weight [n, k] lie: words of 32 bits, each with 8 neighbours along k
// (the first in the lowest 4 bits), in panels of 16 columns (output channels):
//   word [n / 16][k / 8][16], scale and zero point [n / 16][k / group][16].
// n is filled up to whole blocks of 64 columns, k to whole words, with zeros: registers of any
// machine read whole panels. The same on every machine: it may be written to files.
#pragma once

#include "deepseek/core/space.hpp"

namespace deepseek {

struct int4_layout {
  index_t n = 0, k = 0, group = 32;

  static constexpr index_t panel = 16, block = 64, per_word = 8;

  constexpr index_t columns() const { return (n + block - 1) / block * block; }
  constexpr index_t words_deep() const { return (k + per_word - 1) / per_word; }
  constexpr index_t groups_deep() const { return (k + group - 1) / group; }
  constexpr index_t words() const { return columns() * words_deep(); }
  constexpr index_t groups() const { return columns() * groups_deep(); }

  constexpr index_t word_at(index_t column, index_t step) const {
    return place(column, step / per_word, words_deep());
  }
  constexpr index_t group_at(index_t column, index_t step) const {
    return place(column, step / group, groups_deep());
  }
  static constexpr std::int32_t in_word(std::int32_t code, index_t step) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(code) << shift(step));
  }
  static constexpr std::int32_t code(std::int32_t word, index_t step) {
    return static_cast<std::int32_t>((static_cast<std::uint32_t>(word) >> shift(step)) & 15U);
  }
  void check(const char* object) const {
    require(group == 32 || group == 64 || group == 128, error_code::config, object, ": groups of ",
            group, " weights; 32, 64 and 128 are supported");
  }

 private:
  static constexpr std::uint32_t shift(index_t step) {
    return static_cast<std::uint32_t>(step % per_word * 4);
  }
  static constexpr index_t place(index_t column, index_t row, index_t deep) {
    return (column / panel * deep + row) * panel + column % panel;
  }
};

static_assert(int4_layout{40, 70, 32}.word_at(17, 9) == 9 * 16 + 17 &&
              int4_layout{40, 70, 32}.group_at(17, 64) == 3 * 16 + 2 * 16 + 1);

}  // namespace deepseek
