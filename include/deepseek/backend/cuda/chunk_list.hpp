// SPDX-License-Identifier: Apache-2.0
// Many tensors in one launch: a list of them in the device's memory, cut into chunks of 4096
// elements. Block c of the launch finds by halving which tensor chunk c belongs to.
#pragma once

#include "deepseek/backend/cuda/device_backend.hpp"
#include "deepseek/core/transfer.hpp"

#include <span>
#include <vector>

namespace deepseek {

inline constexpr index_t list_chunk = 4096;

template <class Item>
struct listed_item {
  Item item;
  index_t size, first;  // elements, number of the first chunk
};

// Chunk c of a list: elements begin .. end - 1 of item `at`.
struct chunk_place {
  index_t at, begin, end;
};

template <class Item, class S>
struct chunk_list {
  view<const listed_item<Item>, S, dyn> items;
  index_t chunks = 0;

  DEEPSEEK_HOST_DEVICE chunk_place place(index_t c) const {
    index_t low = 0, high = items.extent(0) - 1;  // the last item that begins at or before c
    while (low < high) {
      const index_t middle = low + (high - low + 1) / 2;
      items(middle).first <= c ? low = middle : high = middle - 1;
    }
    const auto& found = items(low);
    const index_t begin = (c - found.first) * list_chunk, left = found.size - begin;
    return {low, begin, begin + (left < list_chunk ? left : list_chunk)};
  }
};

// In the workspace; size_of(item) elements each. An item without elements has no chunk: the next
// begins where it does, and is the last to.
template <DeviceBackend B, class Item, class Size>
auto make_chunk_list(const B& b, std::span<const Item> items, const Size& size_of) {
  using S = typename B::space;
  using L = listed_item<Item>;
  std::vector<L> made;
  chunk_list<Item, S> list;
  for (const Item& item : items) {
    made.push_back({item, size_of(item), list.chunks});
    list.chunks += blocks_of(made.back().size, list_chunk);
  }
  const auto n = static_cast<index_t>(made.size());
  const auto place = b.workspace().template make<L, dyn>(n);
  transfer(view<const L, host, dyn>(made.data(), {n}), place);
  list.items = place;
  return list;
}

}  // namespace deepseek
