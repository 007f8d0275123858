// SPDX-License-Identifier: Apache-2.0
// expert_load and choice_load on the device: counts in integers, then one addition an expert, so
// the order of the ids does not matter; see ops/balance_loss.hpp.
#pragma once

#include "deepseek/backend/cuda/require_indices.hpp"
#include "deepseek/ops/balance_loss.hpp"

namespace deepseek {

namespace cuda_load {

template <class O, class L>
struct by_offsets {
  O offsets;
  L load;
  DEEPSEEK_HOST_DEVICE void operator()(index_t e) const {
    load(e) += static_cast<typename L::value_type>(offsets(e + 1) - offsets(e));
  }
};

template <class I>
struct count_ids {
  static constexpr int threads = 256;
  I ids;
  std::int32_t* counts;
  fault_place faults;
  index_t blocks() const { return blocks_of(ids.size(), threads); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t i = block.index() * threads + block.rank();
    if (i < ids.size() && !faults.found()) {
      block.atomic_add(counts + element_at(ids, i), std::int32_t{1});
    }
  }
};

template <class L>
struct add_counts {
  const std::int32_t* counts;
  L load;
  fault_place faults;
  DEEPSEEK_HOST_DEVICE void operator()(index_t e) const {
    if (!faults.found()) load(e) += static_cast<typename L::value_type>(counts[e]);
  }
};

}  // namespace cuda_load

template <DeviceBackend B, class O, class L>
void expert_load_impl(const B& b, const O& offsets, const L& load) {
  run_each_element(b, load.extent(0), cuda_load::by_offsets<O, L>{offsets, load});
}

template <DeviceBackend B, class I, class L>
void choice_load_impl(const B& b, const I& ids, const L& load) {
  const index_t experts = load.extent(0);
  require_indices(b, ids, experts, "choice_load: ids");
  const scope freed(b.workspace());
  const view<std::int32_t, typename B::space, dyn> counts =
      b.workspace().template make<std::int32_t, dyn>(experts);
  fill_impl(b, 0.0, counts);
  b.launch(cuda_load::count_ids<I>{ids, counts.data(), b.faults()});
  run_each_element(b, experts, cuda_load::add_counts<L>{counts.data(), load, b.faults()});
}

}  // namespace deepseek
