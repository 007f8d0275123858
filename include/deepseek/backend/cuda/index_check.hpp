// SPDX-License-Identifier: Apache-2.0
// Checks of indices and offsets that stand in device memory: what is wrong is told to b.faults()
// (faults.hpp). What runs after a check and writes is launched as unless_fault(b, f), or asks
// found() itself; so nothing is read or written through an index that does not exist.
#pragma once

#include "deepseek/backend/cuda/elementwise.hpp"

namespace deepseek {

namespace cuda_checks {

template <class Ids>
struct indices {
  static constexpr int threads = 256;
  Ids ids;
  fault limits;  // size, least, object, columns
  fault_place faults;

  index_t blocks() const { return blocks_of(ids.size(), threads); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t i = block.index() * threads + block.rank();
    if (i >= ids.size()) return;
    const auto id = at(i);
    if (id >= limits.least && id < limits.size) return;
    fault f = limits;
    f.position = i;
    f.value = id;
    faults.tell(block, f);
  }
  DEEPSEEK_HOST_DEVICE index_t at(index_t i) const {
    if constexpr (Ids::rank == 1) {
      return static_cast<index_t>(ids(i));
    } else {
      return static_cast<index_t>(ids(i / ids.extent(1), i % ids.extent(1)));
    }
  }
};

template <class Offsets>
struct rising {
  static constexpr int threads = 256;
  Offsets offsets;
  index_t rows;
  const char* object;
  fault_place faults;

  index_t blocks() const { return blocks_of(offsets.extent(0), threads); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t i = block.index() * threads + block.rank(), last = offsets.extent(0) - 1;
    if (i > last) return;
    fault f;
    f.position = i;
    f.value = offsets(i);
    f.least = i > 0 ? offsets(i - 1) : 0;
    f.size = rows;
    f.object = object;
    if (f.value < f.least) {
      f.kind = i == 0 ? fault_kind::first_offset : fault_kind::falling_offset;
    } else if (i == 0 && f.value != 0) {
      f.kind = fault_kind::first_offset;
    } else if (i == last && f.value != rows) {
      f.kind = fault_kind::last_offset;
    } else {
      return;
    }
    faults.tell(block, f);
  }
};

template <class F>
struct guarded {
  fault_place faults;
  F f;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    if (!faults.found()) f(i);
  }
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    if (!faults.found()) f(team, row);
  }
};

}  // namespace cuda_checks

// As the host's require_indices: elements of ids [n] or [n, k] in 0 .. size - 1, or from `least`.
template <DeviceBackend B, class Ids>
void require_device_indices(const B& b, const Ids& ids, index_t size, const char* object,
                            index_t least = 0) {
  if (ids.empty()) return;
  fault limits;
  limits.size = size;
  limits.least = least;
  limits.object = object;
  limits.columns = Ids::rank == 1 ? 0 : static_cast<std::int32_t>(ids.extent(Ids::rank - 1));
  b.launch(cuda_checks::indices<Ids>{ids, limits, b.faults()});
}

// As the host's require_offsets: from 0 to `rows`, not falling.
template <DeviceBackend B, class Offsets>
void require_device_offsets(const B& b, const Offsets& offsets, index_t rows, const char* object) {
  b.launch(cuda_checks::rising<Offsets>{offsets, rows, object, b.faults()});
}

// f, for run_each_element, run_each_row and run_each_row_element, where no fault was found.
template <DeviceBackend B, class F>
cuda_checks::guarded<F> unless_fault(const B& b, const F& f) {
  return {b.faults(), f};
}

}  // namespace deepseek
