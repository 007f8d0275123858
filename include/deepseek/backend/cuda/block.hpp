// SPDX-License-Identifier: Apache-2.0
// What a kernel of this backend is written over: a block of threads on some machine. A kernel is a
// named struct that holds its arguments (views, numbers) and says
//   static constexpr int threads = 256;           threads of a block, a multiple of 32, <= 1024
//   index_t blocks() const;                       of the launch
//   std::size_t shared_bytes() const;             optional: dynamic shared memory of a block
//   int cluster_blocks() const;                   optional: neighbours that run at once
//   (cluster.hpp) template <class Block> DEEPSEEK_HOST_DEVICE void operator()(const Block&) const;
// so that one body runs on a GPU (block.cuh) and, thread by thread, on a simulated device in tests.
// A block is a Team (core/team.hpp): row bodies of backend/rows take it as it is. All threads of a
// block reach every sync(), all 32 lanes of a warp every shuffle: no thread returns early alone.
#pragma once

#include "deepseek/core/backend.hpp"
#include "deepseek/core/team.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace deepseek {

inline constexpr int warp_size = 32;
// Bytes that every block has beside the shared memory of its kernel, for sums over the block.
inline constexpr std::size_t reserved_bytes = 256;
// What a kernel may have without asking the runtime: 48 KiB of a block, those included.
inline constexpr std::size_t shared_bytes_unasked = (std::size_t{48} << 10U) - reserved_bytes;

template <class B>
concept Block = Team<B> && requires(const B& block, float x, std::int32_t* p) {
  { block.index() } -> std::convertible_to<index_t>;  // which block of the launch
  { block.count() } -> std::convertible_to<index_t>;
  block.sync_warp();
  { block.shuffle(x, 0) } -> std::same_as<float>;      // the value of a lane
  { block.shuffle_xor(x, 1) } -> std::same_as<float>;  // of the lane with that bit exchanged
  { block.ballot(true) } -> std::same_as<std::uint32_t>;
  { block.shared() } -> std::same_as<std::byte*>;
  { block.atomic_add(p, std::int32_t{1}) } -> std::same_as<std::int32_t>;  // the value before
};

struct plus {
  template <class X>
  DEEPSEEK_HOST_DEVICE constexpr X operator()(X a, X b) const {
    return a + b;
  }
};
struct larger {  // a NaN stays
  template <class X>
  DEEPSEEK_HOST_DEVICE constexpr X operator()(X a, X b) const {
    return a > b || a != a ? a : b;
  }
};

struct smaller {
  template <class X>
  DEEPSEEK_HOST_DEVICE constexpr X operator()(X a, X b) const {
    return b < a ? b : a;
  }
};

// The Team operations of a block, from its shuffles. The order of a sum is fixed by the block's
// size: same bits each run.
template <class Self>
class block_collectives {
 public:
  DEEPSEEK_HOST_DEVICE int lane() const { return self().rank() % warp_size; }
  DEEPSEEK_HOST_DEVICE int warp() const { return self().rank() / warp_size; }
  DEEPSEEK_HOST_DEVICE int warps() const { return self().size() / warp_size; }

  template <class X>
  DEEPSEEK_HOST_DEVICE X sum(X x) const {
    return combine(x, plus{});
  }
  template <class X>
  DEEPSEEK_HOST_DEVICE X max(X x) const {
    return combine(x, larger{});
  }
  // Of worker 0.
  template <class X>
  DEEPSEEK_HOST_DEVICE X broadcast(X x) const {
    X* const place = reinterpret_cast<X*>(self().reserved());
    self().sync();
    if (self().rank() == 0) *place = x;
    self().sync();
    return *place;
  }
  template <class X, class Op>
  DEEPSEEK_HOST_DEVICE X combine_warp(X x, const Op& op) const {
    for (int bit = warp_size / 2; bit > 0; bit /= 2) x = op(x, self().shuffle_xor(x, bit));
    return x;
  }
  template <class X, class Op>
  DEEPSEEK_HOST_DEVICE X combine(X x, const Op& op) const {
    static_assert(sizeof(X) * warp_size <= reserved_bytes);
    x = combine_warp(x, op);
    if (self().size() == warp_size) return x;
    X* const places = reinterpret_cast<X*>(self().reserved());
    self().sync();  // what stood there has been read
    if (lane() == 0) places[warp()] = x;
    self().sync();
    X all = places[0];
    for (int w = 1; w < warps(); ++w) all = op(all, places[w]);
    return all;
  }

 private:
  DEEPSEEK_HOST_DEVICE const Self& self() const { return static_cast<const Self&>(*this); }
};

// A warp of a block as a team of 32: rows too short for a whole block.
template <class Machine>
class warp_team {
 public:
  DEEPSEEK_HOST_DEVICE explicit warp_team(const Machine& block) : block_(block) {}
  DEEPSEEK_HOST_DEVICE int rank() const { return block_.lane(); }
  DEEPSEEK_HOST_DEVICE static constexpr int size() { return warp_size; }
  DEEPSEEK_HOST_DEVICE void sync() const { block_.sync_warp(); }
  template <class X, class Op>
  DEEPSEEK_HOST_DEVICE X combine(X x, const Op& op) const {
    return block_.combine_warp(x, op);
  }
  template <class X>
  DEEPSEEK_HOST_DEVICE X sum(X x) const {
    return combine(x, plus{});
  }
  template <class X>
  DEEPSEEK_HOST_DEVICE X max(X x) const {
    return block_.combine_warp(x, larger{});
  }
  template <class X>
  DEEPSEEK_HOST_DEVICE X broadcast(X x) const {
    return block_.shuffle(x, 0);
  }

 private:
  const Machine& block_;
};

}  // namespace deepseek
