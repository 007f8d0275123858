// SPDX-License-Identifier: Apache-2.0
// embedding on the device: rows gathered 16 bytes at a time where they may be. The table's
// gradient: tokens are counted by id, every id that occurs gets a segment of a list, its tokens are
// put there in any order and then in rising order, and the threads of a segment add its rows one
// after the other. So the result is that of a loop over tokens, whatever order atomics took;
// nothing is sorted beyond a segment. Cost: V counters; an id of c tokens compares c^2 numbers
// (unproven on hardware: very frequent ids). See ops/embedding.hpp.
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

// What the tokens of one id are: order[begin .. end - 1].
struct segment {
  std::int32_t id, begin, end;
};
struct tally {
  std::int32_t segments, tokens;  // that have a place
};
struct cleared {
  tally* total;
  DEEPSEEK_HOST_DEVICE void operator()(index_t) const { *total = {0, 0}; }
};

template <class Ids>
struct lists {
  Ids ids;
  std::int32_t* counts;  // [V], then the free places of an id
  std::int32_t* first;   // [V], where its segment begins
  segment* segments;     // [n]
  std::int32_t* order;   // [n], any order inside a segment
  std::int32_t* sorted;  // [n], rising inside a segment
  tally* total;
};

template <class Ids>
struct counted {
  static constexpr int threads = 256;
  lists<Ids> at;
  fault_place faults;
  index_t blocks() const { return blocks_of(at.ids.extent(0), threads); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t i = block.index() * threads + block.rank();
    if (faults.found() || i >= at.ids.extent(0)) return;
    block.atomic_add(at.counts + at.ids(i), std::int32_t{1});
  }
};

template <class Ids>
struct divided {
  static constexpr int threads = 256;
  lists<Ids> at;
  index_t names;  // V
  index_t blocks() const { return blocks_of(names, threads); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t id = block.index() * threads + block.rank();
    if (id >= names || at.counts[id] == 0) return;
    const std::int32_t n = at.counts[id], begin = block.atomic_add(&at.total->tokens, n);
    at.first[id] = begin;
    at.segments[block.atomic_add(&at.total->segments, std::int32_t{1})] = {
        static_cast<std::int32_t>(id), begin, begin + n};
  }
};

template <class Ids>
struct placed {
  static constexpr int threads = 256;
  lists<Ids> at;
  fault_place faults;
  index_t blocks() const { return blocks_of(at.ids.extent(0), threads); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t i = block.index() * threads + block.rank();
    if (faults.found() || i >= at.ids.extent(0)) return;
    const auto id = at.ids(i);
    const std::int32_t place = block.atomic_add(at.counts + id, std::int32_t{-1}) - 1;
    at.order[at.first[id] + place] = static_cast<std::int32_t>(i);
  }
};

// A warp for each segment: each token counts those of its segment before it.
template <class Ids>
struct ranked {
  lists<Ids> at;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t k) const {
    if (k >= at.total->segments) return;
    const segment s = at.segments[k];
    for (std::int32_t i = s.begin + team.rank(); i < s.end; i += team.size()) {
      std::int32_t before = 0;
      for (std::int32_t j = s.begin; j < s.end; ++j) before += at.order[j] < at.order[i] ? 1 : 0;
      at.sorted[s.begin + before] = at.order[i];
    }
  }
};

template <class Ids, class DY, class DW>
struct added {
  static constexpr int threads = 256;
  lists<Ids> at;
  DY dy;
  DW dtable;

  DEEPSEEK_HOST_DEVICE index_t tiles() const { return (dy.extent(1) + threads - 1) / threads; }
  index_t blocks() const { return dy.extent(0) * tiles(); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    using T = typename DW::value_type;
    using A = accumulate_t<T>;
    const index_t k = block.index() / tiles();
    const index_t d = block.index() % tiles() * threads + block.rank();
    if (k >= at.total->segments || d >= dy.extent(1)) return;
    const segment s = at.segments[k];
    T sum = dtable(s.id, d);
    for (std::int32_t i = s.begin; i < s.end; ++i) {
      sum = convert_to<T>(convert_to<A>(sum) + convert_to<A>(dy(at.sorted[i], d)));
    }
    dtable(s.id, d) = sum;
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
  auto& space = b.workspace();
  const auto counts = space.template make<std::int32_t, dyn>(names);
  const auto total = space.template make<tally, 1>();
  const lists<Ids> at{ids,
                      counts.data(),
                      space.template make<std::int32_t, dyn>(names).data(),
                      space.template make<segment, dyn>(n).data(),
                      space.template make<std::int32_t, dyn>(n).data(),
                      space.template make<std::int32_t, dyn>(n).data(),
                      total.data()};
  run_map(b, cuda_elements::set<std::int32_t>{0}, writes(counts));
  run_each_element(b, 1, cleared{total.data()});
  b.launch(counted<Ids>{at, b.faults()});
  b.launch(divided<Ids>{at, names});
  b.launch(placed<Ids>{at, b.faults()});
  b.launch(each_short_row<ranked<Ids>>{n, {at}});
  b.launch(added<Ids, DY, DW>{at, dy, dtable});
}

}  // namespace deepseek
