// SPDX-License-Identifier: Apache-2.0
// expert_plan on the device: a stable counting sort without atomics and without the host. Warps
// count the ids of a part each, the counts become first rows, and the warps deal the rows out in
// order. Up to 65536 ids of up to 512 experts: one kernel of one block, counts in shared memory;
// else kernels over any number of warps, with all counts [experts, parts] added up in between by
// b.sum_before (device_calls.hpp). See ops/expert_plan.hpp. Unproven on hardware: the limits
// between the forms.
#pragma once

#include "deepseek/backend/cuda/elements.hpp"
#include "deepseek/backend/cuda/scans.hpp"
#include "deepseek/ops/expert_plan.hpp"

namespace deepseek {

namespace cuda_plan {

// An id outside the experts has a table's columns; a plan of another number of rows has none.
inline void raise_plan(const fault& f) {
  require(f.columns > 0, error_code::shape_mismatch, "expert_plan: source[", f.size,
          "]: extent 0 is ", f.size, ", expected ", f.value,
          "; pass views whose shapes fit together");
  fault id = f;
  id.object = "expert_plan: ids";
  id.raise = nullptr;
  throw_fault(id);
}

// The numbers of one part, one for each expert: `step` apart.
struct part_counts {
  std::int32_t* first;
  index_t step;
  DEEPSEEK_HOST_DEVICE std::int32_t& operator[](index_t e) const { return first[e * step]; }
};
struct no_starts {
  DEEPSEEK_HOST_DEVICE std::int32_t operator[](index_t) const { return 0; }
};

// counts of a part u: how many of its ids are e; then the same of the parts before u.
// starts[e]: the first row of e.
template <class Ids, class Plan>
struct sort {
  Ids ids;
  Plan plan;
  index_t experts, parts, each;  // each: ids of a part, a multiple of 32
  int bits;                      // of a number below `experts`
  fault_place faults;

  // An id that names an expert, else -1. What is outside is told.
  template <class Block>
  DEEPSEEK_HOST_DEVICE std::int32_t id_at(const Block& block, index_t i, index_t end) const {
    if (i >= end) return -1;
    const std::int32_t id = element_at(ids, i);
    if (id >= -1 && id < experts) return id;
    fault f;
    f.columns = static_cast<std::int32_t>(ids.extent(1));
    f.position = i;
    f.value = id;
    f.least = -1;
    f.size = experts;
    faults.tell(block, f);
    return -1;
  }
  // f(i, id, lanes with the same id, whether this lane is the first of them), in order.
  template <class Block, class F>
  DEEPSEEK_HOST_DEVICE void each_id(const Block& block, index_t part, const F& f) const {
    const index_t n = ids.size(), last = (part + 1) * each < n ? (part + 1) * each : n;
    for (index_t i0 = part * each; i0 < last; i0 += warp_size) {
      const index_t i = i0 + block.lane();
      const std::int32_t id = id_at(block, i, last);
      const std::uint32_t some = block.ballot(id >= 0);
      const std::uint32_t same =
          some & lanes_alike(block, static_cast<std::uint32_t>(id < 0 ? 0 : id), bits);
      f(i, i < last, id, same);
      block.sync_warp();
    }
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void count(const Block& block, index_t part,
                                  const part_counts& counts) const {
    for (index_t e = block.lane(); e < experts; e += warp_size) counts[e] = 0;
    block.sync_warp();
    each_id(block, part, [&](index_t, bool, std::int32_t id, std::uint32_t same) {
      const bool first = (same & lanes_before(block.lane())) == 0;
      if (id >= 0 && first) counts[id] += count_bits(same);
    });
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void scan(const Block& block, std::int32_t* counts,
                                 std::int32_t* starts) const {
    std::int32_t base = 0;
    for (index_t e0 = 0; e0 < experts; e0 += block.size()) {
      const index_t e = e0 + block.rank();
      std::int32_t sum = 0;
      for (index_t u = 0; u < parts && e < experts; ++u) {
        const std::int32_t own = counts[u * experts + e];
        counts[u * experts + e] = sum;
        sum += own;
      }
      const auto over = sum_before(block, sum);
      if (e < experts) starts[e] = base + over.before;
      base += over.total;
    }
    if (block.rank() == 0) {
      starts[experts] = base;
      if (plan.source.extent(0) != base) tell_rows(block, base);
    }
    block.sync();
    if (faults.found()) return;
    for (index_t e = block.rank(); e <= experts; e += block.size()) plan.offsets(e) = starts[e];
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void tell_rows(const Block& block, index_t sent) const {
    fault f;
    f.value = sent;
    f.size = plan.source.extent(0);
    faults.tell(block, f);
  }
  template <class Block, class Starts>
  DEEPSEEK_HOST_DEVICE void deal(const Block& block, index_t part, const part_counts& counts,
                                 const Starts& starts) const {
    each_id(block, part, [&](index_t i, bool exists, std::int32_t id, std::uint32_t same) {
      const std::uint32_t before = same & lanes_before(block.lane());
      std::int32_t row = -1;
      if (id >= 0) row = starts[id] + counts[id] + count_bits(before);
      block.sync_warp();
      if (id >= 0 && before == 0) counts[id] += count_bits(same);
      if (exists) element_at(plan.slot, i) = row;
      if (row >= 0) plan.source(row) = static_cast<std::int32_t>(i);
    });
  }
};

template <int Threads, class Sort>
struct in_one_block {
  static constexpr int threads = Threads;
  Sort sort;
  static index_t blocks() { return 1; }
  std::size_t shared_bytes() const {
    return static_cast<std::size_t>((sort.parts + 1) * sort.experts + 1) * sizeof(std::int32_t);
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    std::int32_t* const counts = reinterpret_cast<std::int32_t*>(block.shared());
    std::int32_t* const starts = counts + sort.parts * sort.experts;
    const part_counts own{counts + block.warp() * sort.experts, 1};
    sort.count(block, block.warp(), own);
    block.sync();
    sort.scan(block, counts, starts);
    block.sync();
    if (sort.faults.found()) return;
    sort.deal(block, block.warp(), own, starts);
  }
};

enum class phase { count, deal };

// counts [experts, parts] and one more: parts of an expert side by side, so that their sums from
// the first on are the first row of each part, and the last is the number of rows.
template <phase Which, class Sort>
struct by_warps {
  static constexpr int threads = 256;
  Sort sort;
  std::int32_t* counts;
  index_t blocks() const { return blocks_of(sort.parts, threads / warp_size); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t part = block.index() * (threads / warp_size) + block.warp();
    if (part >= sort.parts) return;
    const part_counts own{counts + part, sort.parts};
    if constexpr (Which == phase::count) {
      sort.count(block, part, own);
      if (part == 0 && block.lane() == 0) counts[sort.experts * sort.parts] = 0;
    } else {
      if (!sort.faults.found()) sort.deal(block, part, own, no_starts{});
    }
  }
};

template <class Sort>
struct write_offsets {
  static constexpr int threads = 256;
  Sort sort;
  const std::int32_t* sums;
  index_t blocks() const { return blocks_of(sort.experts + 1, threads); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t e = block.index() * threads + block.rank();
    const std::int32_t sent = sums[sort.experts * sort.parts];
    if (sort.plan.source.extent(0) != sent) {
      if (e == 0) sort.tell_rows(block, sent);
      return;
    }
    if (e <= sort.experts && !sort.faults.found()) sort.plan.offsets(e) = sums[e * sort.parts];
  }
};

template <int Threads, class B, class Sort>
void launch_in_one(const B& b, Sort sort) {
  sort.parts = Threads / warp_size;
  sort.each = blocks_of(blocks_of(sort.ids.size(), sort.parts), warp_size) * warp_size;
  b.launch(in_one_block<Threads, Sort>{sort});
}

}  // namespace cuda_plan

template <DeviceBackend B, class Ids, class Plan>
void expert_plan_impl(const B& b, const Ids& ids, index_t experts, const Plan& plan) {
  using Sort = cuda_plan::sort<Ids, Plan>;
  constexpr index_t few = 4096, most = 65536, part = 1024;
  Sort sort{
      ids, plan, experts, 0, part, bits_below(experts), b.faults().raising(cuda_plan::raise_plan)};
  if (experts <= 512 && ids.size() <= few) return cuda_plan::launch_in_one<256>(b, sort);
  if (experts <= 512 && ids.size() <= most) return cuda_plan::launch_in_one<1024>(b, sort);
  sort.parts = ids.size() > part ? blocks_of(ids.size(), part) : 1;
  const index_t n = experts * sort.parts + 1;
  const scope freed(b.workspace());
  std::int32_t* const counts = b.workspace().template make<std::int32_t, dyn>(n).data();
  using cuda_plan::phase;
  b.launch(cuda_plan::by_warps<phase::count, Sort>{sort, counts});
  b.sum_before(sums_before{counts, n});
  b.launch(cuda_plan::write_offsets<Sort>{sort, counts});
  b.launch(cuda_plan::by_warps<phase::deal, Sort>{sort, counts});
}

}  // namespace deepseek
