// SPDX-License-Identifier: Apache-2.0
// Products of bytes on tensor cores (mma.hpp): 64 rows x 128 outputs of one expert by 4 warps, each
// 64 x 32 of them in registers; k in steps of 64 through shared memory, two stages. Codes of rows
// come by asynchronous copies; the weights of int8_layout, whose panels interleave outputs every
// four steps, by a thread for each output: 16 words, neighbouring threads side by side, kept in
// registers while the step before is multiplied, then written as four units of 16 bytes. One
// barrier a step. Sums are exact. Level 1 (mma.sync): unproven on hardware.
#pragma once

#include "deepseek/backend/cuda/block_place.hpp"
#include "deepseek/backend/cuda/mma.hpp"
#include "deepseek/backend/cuda/packets.hpp"
#include "deepseek/backend/cuda/row_tiles.hpp"
#include "deepseek/quant/int8_layout.hpp"

namespace deepseek {

namespace cuda_int8 {

template <class P>
struct tiles {
  using code = std::int8_t;
  using sums = mma::c_part<code>;
  static constexpr int threads = 128, rows = 64, outputs = 128;
  static constexpr int step = 64, units = step / 16, words = step / 4;
  static constexpr int down = rows / 16, across = outputs / (threads / warp_size) / 8;  // of a warp
  static constexpr int row_bytes = rows * step, stage_bytes = row_bytes + outputs * step;
  P p;

  index_t blocks() const { return p.cut(rows).slots() * blocks_of(p.at.n, outputs); }
  static std::size_t shared_bytes() { return 2 * stage_bytes; }

  // What a thread has of one stage's weights, and where its column begins.
  struct column {
    const std::int8_t* from = nullptr;  // null: there is none
    index_t step = 0;                   // from one group to the next
    std::uint32_t words[tiles::words];
  };

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    if (p.faults.found()) return;
    const block_place place(block, p.cut(rows).slots());
    const row_tile at = p.cut(rows).find(block, place.slot);
    if (at.empty()) return;
    const index_t n0 = place.across * outputs;
    column mine = column_of(at.group, n0 + block.rank());
    sums c[down][across] = {};
    copy_rows(block, at, 0, block.shared());
    load_weights(0, mine);
    const int steps = static_cast<int>((p.groups() + words - 1) / words);
    for (int t = 0; t < steps; ++t) {
      std::byte* const stage = block.shared() + t % 2 * stage_bytes;
      store_weights(block.rank(), mine, stage + row_bytes);
      mma::wait_copies<0>(block);
      block.sync();
      if (t + 1 < steps) {
        copy_rows(block, at, t + 1, block.shared() + (t + 1) % 2 * stage_bytes);
        load_weights(t + 1, mine);
      }
      multiply(block, stage, c);
    }
    store(block, at, n0, c);
  }

  DEEPSEEK_HOST_DEVICE column column_of(index_t e, index_t n) const {
    column mine;
    if (n >= p.at.n) return mine;
    mine.from = p.q + e * p.at.size() + p.at.at(n, 0);
    mine.step = p.at.group_step(n);
    return mine;
  }
  DEEPSEEK_HOST_DEVICE void load_weights(int t, column& mine) const {
    const index_t first = index_t{t} * words;
    for (int i = 0; i < words; ++i) {
      const bool there = mine.from != nullptr && first + i < p.groups();
      mine.words[i] = there ? p.word_at(mine.from + (first + i) * mine.step) : 0U;
    }
  }
  DEEPSEEK_HOST_DEVICE static void store_weights(int n, const column& mine, std::byte* to) {
    for (int u = 0; u < units; ++u) {
      packet some;
      for (int i = 0; i < 4; ++i) some.word[i] = mine.words[u * 4 + i];
      store_packet(some, to + n * step + mma::swizzled(n, u, units) * 16);
    }
  }
  // Rows that are missing, and codes behind the last, are zeros.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void copy_rows(const Block& block, const row_tile& at, int t,
                                      std::byte* to) const {
    for (int i = block.rank(); i < rows * units; i += threads) {
      const int m = i / units, u = i % units;
      const index_t k = index_t{t} * step + u * 16;
      const bool there = at.first + m < at.end && k < p.x.pitch;
      const std::uint8_t* const from =
          p.x.codes + (there ? (at.first + m) * p.x.pitch + k : index_t{0});
      mma::copy_async(block, to + m * step + mma::swizzled(m, u, units) * 16, from, there);
    }
    mma::commit_copies(block);
  }

  // c += the stage's 64 steps of k.
  template <class Block>
  DEEPSEEK_HOST_DEVICE static void multiply(const Block& block, const std::byte* stage,
                                            sums (&c)[down][across]) {
    const mma::corner a_at = mma::rows_first(block.lane()), b_at = mma::units_first(block.lane());
    const int n0 = block.warp() * across * 8;
    for (int u = 0; u < units; u += 2) {
      mma::b_part b[across];
      for (int j = 0; j < across; j += 2) {
        std::uint32_t both[4];
        mma::load_matrices<false>(block, both,
                                  unit_at(stage + row_bytes, n0 + j * 8 + b_at.row, u + b_at.unit));
        b[j] = {{both[0], both[1]}};
        b[j + 1] = {{both[2], both[3]}};
      }
      for (int i = 0; i < down; ++i) {
        mma::a_part a;
        mma::load_matrices<false>(block, a.word, unit_at(stage, i * 16 + a_at.row, u + a_at.unit));
        for (int j = 0; j < across; ++j) mma::multiply_add<code>(block, c[i][j], a, b[j]);
      }
    }
  }
  DEEPSEEK_HOST_DEVICE static const std::byte* unit_at(const std::byte* from, int row, int unit) {
    return from + row * step + mma::swizzled(row, unit, units) * 16;
  }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void store(const Block& block, const row_tile& at, index_t n0,
                                  const sums (&c)[down][across]) const {
    const index_t first = n0 + block.warp() * across * 8;
    for (int i = 0; i < down; ++i) {
      for (int j = 0; j < across; ++j) {
        for (int e = 0; e < 4; ++e) {
          const mma::place in = mma::c_place(block.lane(), e);
          const index_t m = at.first + i * 16 + in.row, n = first + j * 8 + in.column;
          if (m < at.end && n < p.at.n) p.store(at.group, m, n, c[i][j].x[e]);
        }
      }
    }
  }
};

}  // namespace cuda_int8

}  // namespace deepseek
