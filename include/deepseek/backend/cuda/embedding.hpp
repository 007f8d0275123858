// SPDX-License-Identifier: Apache-2.0
// embedding on the device: rows gathered 16 bytes at a time where they may be. The table's
// gradient: tokens are sorted by id, stably (b.sort, device_calls.hpp), and the block at the first
// of an id's tokens adds their rows one after the other. So the result is that of a loop over
// tokens. Cost: the sort of n numbers; an id of c tokens is one chain of c additions (unproven on
// hardware: very frequent ids). See ops/embedding.hpp.
#pragma once

#include "deepseek/backend/cuda/elements.hpp"
#include "deepseek/backend/cuda/require_indices.hpp"
#include "deepseek/ops/embedding.hpp"

namespace deepseek {

namespace cuda_embedding {

template <class W, class Ids, class Y, int Count>
struct rows_of {
  static constexpr int threads = 256;
  Ids ids;
  W table;
  Y y;
  fault_place faults;

  DEEPSEEK_HOST_DEVICE index_t runs() const { return (y.extent(1) + Count - 1) / Count; }
  index_t blocks() const { return blocks_of(y.extent(0) * runs(), threads); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    if (faults.found()) return;
    const index_t i = block.index() * threads + block.rank(), each = runs();
    if (i >= y.extent(0) * each) return;
    const index_t row = i / each, first = i % each * Count;
    const index_t from = static_cast<index_t>(ids(row));
    if (Count > 1 && first + Count <= y.extent(1)) {
      whole(from, row, first);
    } else {
      for (index_t d = first; d < first + Count && d < y.extent(1); ++d) {
        y(row, d) = convert_to<typename Y::value_type>(table(from, d));
      }
    }
  }

 private:
  DEEPSEEK_HOST_DEVICE void whole(index_t from, index_t to, index_t first) const {
    alignas(vector_bytes) typename W::value_type x[Count];
    alignas(vector_bytes) typename Y::value_type out[Count];
    if constexpr (Count > 1) {
      load_run<Count>(&table(from, first), x);
      for (int k = 0; k < Count; ++k) out[k] = convert_to<typename Y::value_type>(x[k]);
      store_run<Count>(out, &y(to, first));
    }
  }
};

// Keys and values of the sort. Ids that were refused sort as 0: nothing is added for them.
template <class Ids>
struct keyed {
  Ids ids;
  std::uint32_t* keys;
  std::int32_t* tokens;
  fault_place faults;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    keys[i] = faults.found() ? 0U : static_cast<std::uint32_t>(ids(i));
    tokens[i] = static_cast<std::int32_t>(i);
  }
};

template <class DY, class DW>
struct added {
  static constexpr int threads = 256;
  const std::uint32_t* keys;   // rising
  const std::int32_t* tokens;  // rising where keys are equal
  DY dy;
  DW dtable;
  fault_place faults;

  DEEPSEEK_HOST_DEVICE index_t tiles() const { return (dy.extent(1) + threads - 1) / threads; }
  index_t blocks() const { return dy.extent(0) * tiles(); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    using T = typename DW::value_type;
    using A = accumulate_t<T>;
    const index_t first = block.index() / tiles(), n = dy.extent(0);
    const index_t d = block.index() % tiles() * threads + block.rank();
    const std::uint32_t id = keys[first];
    const bool begins = first == 0 || keys[first - 1] != id;
    if (!begins || d >= dy.extent(1) || faults.found()) return;
    T sum = dtable(id, d);
    for (index_t i = first; i < n && keys[i] == id; ++i) {
      sum = convert_to<T>(convert_to<A>(sum) + convert_to<A>(dy(tokens[i], d)));
    }
    dtable(id, d) = sum;
  }
};

}  // namespace cuda_embedding

template <DeviceBackend B, class Ids, class W, class Y>
void embedding_impl(const B& b, const Ids& ids, const W& table, const Y& y) {
  using namespace cuda_embedding;
  constexpr int count =
      vector_length < typename W::value_type >> vector_length<typename Y::value_type>
          ? vector_length<typename W::value_type>
          : vector_length<typename Y::value_type>;
  require_indices(b, ids, table.extent(0), "embedding: ids");
  if (moves_whole(table) && moves_whole(y)) {
    b.launch(rows_of<W, Ids, Y, count>{ids, table, y, b.faults()});
  } else {
    b.launch(rows_of<W, Ids, Y, 1>{ids, table, y, b.faults()});
  }
}

template <DeviceBackend B, class Ids, class DY, class DW>
void embedding_backward_impl(const B& b, const Ids& ids, const DY& dy, const DW& dtable) {
  using namespace cuda_embedding;
  const index_t n = ids.extent(0), names = dtable.extent(0);
  require_indices(b, ids, names, "embedding_backward: ids");
  const scope freed(b.workspace());
  const auto keys = b.workspace().template make<std::uint32_t, dyn, dyn>(2, n);
  const auto tokens = b.workspace().template make<std::int32_t, dyn, dyn>(2, n);
  run_each_element(b, n, keyed<Ids>{ids, keys.data(), tokens.data(), b.faults()});
  const sorted_pairs sorted{keys.data(), tokens.data(),    keys.data() + n, tokens.data() + n,
                            n,           bits_below(names)};
  b.sort(sorted);
  b.launch(added<DY, DW>{sorted.to_keys, sorted.to_values, dy, dtable, b.faults()});
}

}  // namespace deepseek
