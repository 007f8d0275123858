// SPDX-License-Identifier: Apache-2.0
// top_k on the device: rows of up to 256 with up to 32 wanted by a warp that keeps the row in
// registers and takes the first one by one; longer ones by a block, radix selection and a sort of
// what was selected (selection.hpp). See ops/top_k.hpp. Unproven on hardware: the rates.
#pragma once

#include "deepseek/backend/cuda/require_indices.hpp"
#include "deepseek/backend/cuda/room.hpp"
#include "deepseek/backend/cuda/selection.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/ops/top_k.hpp"

namespace deepseek {

namespace cuda_top_k {

template <class X, class V, class Ids>
DEEPSEEK_HOST_DEVICE void write(const X& x, const V& values, const Ids& ids, index_t i,
                                std::uint32_t place) {
  ids(i) = static_cast<std::int32_t>(place);
  values(i) = convert_to<typename V::value_type>(x(static_cast<index_t>(place)));
}

template <class X, class V, class Ids>
struct short_rows {
  static constexpr int threads = 128, held = 8;
  static constexpr index_t longest = held * warp_size;
  X x;
  V values;
  Ids ids;

  index_t blocks() const { return blocks_of(x.extent(0), threads / warp_size); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    using Key = key_type<typename X::value_type>;
    const index_t row = block.index() * (threads / warp_size) + block.warp();
    if (row >= x.extent(0)) return;
    const auto from = slice(x, row);
    lane_values<Key, held> own(nullptr, 0);
    for (int j = 0; j < held; ++j) {
      const index_t i = j * warp_size + block.lane();
      own[j] = i < from.extent(0) ? order_key(from(i)) : 0;
    }
    for (index_t i = 0; i < ids.extent(1); ++i) {
      const auto best = take_first(block, own, held);
      if (block.lane() == 0) write(from, slice(values, row), slice(ids, row), i, best.place);
    }
  }
};

template <int Threads, class X, class V, class Ids>
struct long_rows {
  using Key = key_type<typename X::value_type>;
  static constexpr int threads = Threads;
  X x;
  V values;
  Ids ids;
  index_t first, count;  // rows
  block_room room;       // of the answer

  index_t blocks() const { return count; }
  static std::size_t answer_bytes(index_t k) {
    return static_cast<std::size_t>(power_of_two(k)) * sizeof(ranked_key<Key>);
  }
  std::size_t shared_bytes() const { return room.shared_bytes() + sizeof(digit_room); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t row = first + block.index(), k = ids.extent(1);
    const auto from = slice(x, row);
    auto& digits = *reinterpret_cast<digit_room*>(block.shared() + room.shared_bytes());
    auto* const items = reinterpret_cast<ranked_key<Key>*>(room.of(block));
    gather_first<Key>(
        block, from.extent(0), k, [&](index_t i) { return order_key(from(i)); }, digits, items);
    sort_items(block, items, power_of_two(k), by_rank{});
    for (index_t i = block.rank(); i < k; i += block.size()) {
      write(from, slice(values, row), slice(ids, row), i, items[i].place);
    }
  }
};

template <int Threads, class B, class X, class V, class Ids>
void run_long(const B& b, const X& x, const V& values, const Ids& ids) {
  using kernel = long_rows<Threads, X, V, Ids>;
  run_with_room(b, x.extent(0), kernel::answer_bytes(ids.extent(1)),
                [&](index_t first, index_t count, const block_room& room) {
                  b.launch(kernel{x, values, ids, first, count, room});
                });
}

// dx: dvalues at the ids, which are distinct, 0 elsewhere; a team for each row.
template <class Ids, class DV, class DX>
struct backward {
  Ids ids;
  DV dvalues;
  DX dx;
  fault_place faults;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t i) const {
    using T = typename DX::value_type;
    if (faults.found()) return;
    for (index_t j = team.rank(); j < dx.extent(1); j += team.size()) dx(i, j) = T(0.0F);
    team.sync();
    for (index_t j = team.rank(); j < ids.extent(1); j += team.size()) {
      dx(i, ids(i, j)) = convert_to<T>(dvalues(i, j));
    }
  }
};

}  // namespace cuda_top_k

template <DeviceBackend B, class X, class V, class Ids>
void top_k_impl(const B& b, const X& x, const V& values, const Ids& ids) {
  using in_warps = cuda_top_k::short_rows<X, V, Ids>;
  if (x.extent(1) <= in_warps::longest && ids.extent(1) <= warp_size) {
    b.launch(in_warps{x, values, ids});
  } else if (x.extent(1) <= 4096) {
    cuda_top_k::run_long<256>(b, x, values, ids);
  } else {
    cuda_top_k::run_long<1024>(b, x, values, ids);
  }
}

template <DeviceBackend B, class Ids, class DV, class DX>
void top_k_backward_impl(const B& b, const Ids& ids, const DV& dvalues, const DX& dx) {
  require_indices(b, ids, dx.extent(1), "top_k_backward: ids");
  run_each_row(b, dx.extent(0), dx.extent(1),
               cuda_top_k::backward<Ids, DV, DX>{ids, dvalues, dx, b.faults()});
}

}  // namespace deepseek
