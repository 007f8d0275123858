// SPDX-License-Identifier: Apache-2.0
// The lightning indexer's scores on tensor cores, bf16 and f16, heads of 64 or 128 elements: a
// block has 128 keys, 32 of a warp, which stay in its registers while up to 16 queries go by. The
// heads of one query are the rows of a product q k^T, 16 at a time; ReLU, times w, added over heads
// in registers, then over the eight lanes of a column: in a fixed order, the same for any
// neighbours. The next query is copied asynchronously while one is used. Source: PTX ISA 8.5
// (mma.hpp); the formula: ops/lightning_indexer.hpp.
#pragma once

#include "deepseek/backend/cuda/attention/fragments.hpp"
#include "deepseek/backend/cuda/indexer_rows.hpp"

namespace deepseek::cuda_indexer {

template <class T>
struct score_shape {
  static constexpr int warps = 4, warp_keys = 32, keys = warps * warp_keys, queries = 16;
};

template <int Width, class In, class Scores, class Spec>
struct score_tiles {
  using T = typename decltype(In::q)::value_type;
  using shape = score_shape<T>;
  using tile = row_tile<T, Width>;
  static constexpr int threads = shape::warps * warp_size, steps = Width / 16;
  In in;
  Scores scores;
  Spec spec;
  index_t first;

  DEEPSEEK_HOST_DEVICE index_t across() const {
    return (scores.extent(1) + shape::keys - 1) / shape::keys;
  }
  index_t blocks() const { return blocks_of(scores.extent(0), shape::queries) * across(); }
  // Heads of a query, in whole tiles of 16.
  DEEPSEEK_HOST_DEVICE int padded_heads() const {
    return static_cast<int>((in.q.extent(1) + 15) / 16 * 16);
  }
  static std::size_t bytes_for(index_t heads) {
    const index_t padded = (heads + 15) / 16 * 16;
    return sizeof(T) * static_cast<std::size_t>((2 * padded + shape::keys) * Width) +
           sizeof(float) * static_cast<std::size_t>(2 * padded);
  }
  std::size_t shared_bytes() const { return bytes_for(in.q.extent(1)); }

  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t at = block.index() / across() * shape::queries;
    const index_t left = scores.extent(0) - at;
    const index_t count = left < shape::queries ? left : shape::queries;
    each_sequence(spec, spec.query_offsets, in.q.extent(0), in.k.extent(0), first + at, count,
                  [&](const auto& seq, index_t row, index_t n) {
                    part(block, seq, row, static_cast<int>(n));
                  });
  }

 private:
  // Two queries, used in turns, with their w; and the keys, until they are in registers.
  struct shared_tiles {
    T* memory;
    int heads;  // in whole tiles
    DEEPSEEK_HOST_DEVICE tile q(int turn) const { return {memory + turn * tile::size(heads)}; }
    DEEPSEEK_HOST_DEVICE tile k() const { return {memory + tile::size(2 * heads)}; }
    DEEPSEEK_HOST_DEVICE float* w(int turn) const {
      return reinterpret_cast<float*>(memory + tile::size(2 * heads + shape::keys)) + turn * heads;
    }
  };
  // b of the warp's 32 keys: step s, two blocks of 8 keys in each pair.
  struct held_keys {
    std::uint32_t word[steps][2][4];
  };

  // n queries from row `row` of the batch on, all of one sequence.
  template <class Block, class Seq>
  DEEPSEEK_HOST_DEVICE void part(const Block& block, const Seq& seq, index_t row, int n) const {
    const index_t k0 = block.index() % across() * shape::keys;
    const index_t end = k0 + shape::keys < seq.keys ? k0 + shape::keys : seq.keys;
    const auto pattern = bind_pattern(spec.pattern, seq.scope(0));
    const index_t q0 = seq.start + row - seq.query;
    if (end <= k0 || pattern.cover({q0, q0 + n, k0, end}) == coverage::none) {
      return hide(block, row, n, k0);
    }
    const shared_tiles tiles{reinterpret_cast<T*>(block.shared()), padded_heads()};
    block.sync();  // what stood there has been read
    copy_rows<shape::keys>(block, tiles.k(), in.k.data(), [&](int j) -> const T* {
      return k0 + j < end ? &in.k(seq.key + k0 + j, 0) : nullptr;
    });
    copy_query(block, row, tiles.q(0), tiles.w(0));
    mma::commit_copies(block);
    // Lane i: what query i sees of the warp's keys.
    const index_t own = k0 + block.warp() * shape::warp_keys;
    std::uint32_t seen = 0;
    if (block.lane() < n) seen = seen_of(pattern, q0 + block.lane(), own, seq.keys);
    mma::wait_copies<0>(block);
    block.sync();
    held_keys keys;
    hold(block, tiles.k(), keys);
    for (int i = 0; i < n; ++i) {
      if (i > 0) {
        mma::wait_copies<0>(block);
        block.sync();  // query i is here; nobody reads query i - 1
      }
      if (i + 1 < n) copy_query(block, row + i + 1, tiles.q((i + 1) % 2), tiles.w((i + 1) % 2));
      mma::commit_copies(block);
      const std::uint32_t bits = block.shuffle(seen, i);
      float sums[8] = {};
      if (bits != 0) add_heads(block, tiles.q(i % 2), tiles.w(i % 2), keys, sums);
      store(block, row + i - first, own, bits, sums);
    }
    mma::wait_copies<0>(block);
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void hide(const Block& block, index_t row, int n, index_t k0) const {
    constexpr float hidden = -math::infinity<float>;
    for (int i = block.rank(); i < n * shape::keys; i += threads) {
      const index_t column = k0 + i % shape::keys;
      if (column < scores.extent(1)) put(row + i / shape::keys - first, column, hidden);
    }
  }
  DEEPSEEK_HOST_DEVICE void put(index_t row, index_t column, float x) const {
    scores(row, column) = static_cast<typename Scores::value_type>(x);
  }
  template <class P>
  DEEPSEEK_HOST_DEVICE static std::uint32_t seen_of(const P& pattern, index_t position, index_t own,
                                                    index_t keys) {
    const index_t word = own / 64 * 64;
    const std::uint64_t bits = seen_keys(pattern, position, word, keys);
    return static_cast<std::uint32_t>(own == word ? bits : bits >> 32);
  }

  // The heads of a query and their weights; heads that fill a tile of 16 are zeros.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void copy_query(const Block& block, index_t row, const tile& to,
                                       float* w) const {
    const int heads = padded_heads(), there = static_cast<int>(in.q.extent(1));
    for (int i = block.rank(); i < heads * tile::units; i += threads) {
      const int h = i / tile::units, unit = i % tile::units;
      const bool is = h < there;
      mma::copy_async(block, to.unit(h, unit), is ? &in.q(row, h, unit * 8) : in.q.data(), is);
    }
    for (int h = block.rank(); h < heads; h += threads) {
      w[h] = h < there ? static_cast<float>(in.w(row, h)) : 0.0F;
    }
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE static void hold(const Block& block, const tile& k, held_keys& to) {
    const mma::corner low = mma::units_first(block.lane());
    DEEPSEEK_UNROLL
    for (int s = 0; s < steps; ++s) {
      DEEPSEEK_UNROLL
      for (int n = 0; n < 2; ++n) {
        const int row = block.warp() * shape::warp_keys + n * 16 + low.row;
        mma::load_matrices<false>(block, to.word[s][n], k.unit(row, s * 2 + low.unit));
      }
    }
  }

  // sums[2 n + i] += sum_h w_h ReLU(q_h . k) for this lane's rows of each 16 heads and its columns
  // 8 n + 2 (lane % 4) + i; then over the lanes of a column.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void add_heads(const Block& block, const tile& q, const float* w,
                                      const held_keys& keys, float (&sums)[8]) const {
    const mma::corner at = mma::rows_first(block.lane());
#if defined(__CUDA_ARCH__)
#pragma unroll 1
#endif
    for (int h0 = 0; h0 < padded_heads(); h0 += 16) {
      mma::c_part<T> c[4] = {};
      DEEPSEEK_UNROLL
      for (int s = 0; s < steps; ++s) {
        mma::a_part left;
        mma::load_matrices<false>(block, left.word, q.unit(h0 + at.row, s * 2 + at.unit));
        DEEPSEEK_UNROLL
        for (int n = 0; n < 4; ++n) {
          const auto& two = keys.word[s][n / 2];
          mma::multiply_add(block, c[n], left, {{two[n % 2 * 2], two[n % 2 * 2 + 1]}});
        }
      }
      const float low = w[h0 + block.lane() / 4], high = w[h0 + block.lane() / 4 + 8];
      DEEPSEEK_UNROLL
      for (int j = 0; j < 8; ++j) {
        sums[j] += low * relu(c[j / 2].x[j % 2]);
        sums[j] += high * relu(c[j / 2].x[j % 2 + 2]);
      }
    }
    DEEPSEEK_UNROLL
    for (int j = 0; j < 8; ++j) {
      for (int bit = 4; bit < warp_size; bit *= 2) sums[j] += block.shuffle_xor(sums[j], bit);
    }
  }
  // Lane 4 n + c writes columns 8 n + 2 c, + 1 (n = 0 .. 3); every lane of a column has its sum.
  template <class Block>
  DEEPSEEK_HOST_DEVICE void store(const Block& block, index_t row, index_t own, std::uint32_t bits,
                                  const float (&sums)[8]) const {
    constexpr float hidden = -math::infinity<float>;
    const float scale = static_cast<float>(spec.scale);
    DEEPSEEK_UNROLL
    for (int j = 0; j < 8; ++j) {
      if (block.lane() / 4 != j / 2) continue;
      const int column = part_column(block.lane(), j / 2, j % 2);
      if (own + column >= scores.extent(1)) continue;
      put(row, own + column, (bits >> column & 1) != 0 ? sums[j] * scale : hidden);
    }
  }
};

// Whether q and k are of one type that tensor cores multiply.
template <class In>
constexpr bool multiplies_in_tiles() {
  using Q = typename decltype(In::q)::value_type;
  return (std::is_same_v<Q, bf16> ||
          std::is_same_v<Q, f16>)&&std::is_same_v<Q, typename decltype(In::k)::value_type>;
}

template <int Width, class B, class In, class Scores, class Spec>
bool launch_score_tiles(const B& b, const In& in, const Scores& scores, const Spec& spec,
                        index_t first) {
  using kernel = score_tiles<Width, In, Scores, Spec>;
  if (kernel::bytes_for(in.q.extent(1)) > std::size_t{98} << 10U) return false;
  b.launch(kernel{in, scores, spec, first});
  return true;
}

// Whether tensor cores took it.
template <class B, class In, class Scores, class Spec>
bool run_score_tiles(const B& b, const In& in, const Scores& scores, const Spec& spec,
                     index_t first) {
  if constexpr (multiplies_in_tiles<In>() &&
                std::is_same_v<accumulate_t<typename Scores::value_type>, float>) {
    const auto& k = in.k;
    const bool keys_aligned = k.stride(1) == 1 && (k.extent(0) <= 1 || k.stride(0) % 8 == 0) &&
                              reinterpret_cast<std::uintptr_t>(k.data()) % 16 == 0;
    if (!rows_aligned(in.q) || !keys_aligned) return false;
    if (in.q.extent(2) == 128) return launch_score_tiles<128>(b, in, scores, spec, first);
    if (in.q.extent(2) == 64) return launch_score_tiles<64>(b, in, scores, spec, first);
  }
  return false;
}

}  // namespace deepseek::cuda_indexer
