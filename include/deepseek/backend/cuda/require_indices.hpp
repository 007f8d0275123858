// SPDX-License-Identifier: Apache-2.0
// require_indices(b, ids, size, object, least): a kernel that tells b.faults() of an element of ids
// outside least .. size - 1. What an op launches after it asks faults().found() before it writes.
#pragma once

#include "deepseek/backend/cuda/elements.hpp"

namespace deepseek {

namespace cuda_index_check {

template <class Ids>
struct check {
  static constexpr int threads = 256;
  static constexpr index_t per_thread = 4;
  Ids ids;
  index_t size, least;
  const char* object;
  fault_place faults;

  index_t blocks() const { return blocks_of(ids.size(), threads * per_thread); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t first = block.index() * (threads * per_thread) + block.rank(), n = ids.size();
    index_t wrong = n;  // the first of the block
    for (index_t i = first; i < first + threads * per_thread && i < n; i += threads) {
      const index_t id = element_at(ids, i);
      if ((id < least || id >= size) && i < wrong) wrong = i;
    }
    wrong = block.combine(wrong, smaller{});
    if (block.rank() == 0 && wrong < n) tell(block, wrong, element_at(ids, wrong));
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void tell(const Block& block, index_t i, index_t id) const {
    fault f;
    f.columns = Ids::rank == 2 ? static_cast<std::int32_t>(ids.extent(Ids::rank - 1)) : 0;
    f.position = i;
    f.value = id;
    f.least = least;
    f.size = size;
    f.object = object;
    faults.tell(block, f);
  }
};

}  // namespace cuda_index_check

template <DeviceBackend B, class Ids>
void require_indices(const B& b, const Ids& ids, index_t size, const char* object,
                     index_t least = 0) {
  static_assert(Ids::rank == 1 || Ids::rank == 2);
  if (ids.size() == 0) return;
  b.launch(cuda_index_check::check<Ids>{ids, size, least, object, b.faults()});
}

}  // namespace deepseek
