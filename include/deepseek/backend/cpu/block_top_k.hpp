// SPDX-License-Identifier: Apache-2.0
// block_top_k on the cpu: the reference's loops for each query and key-value head, on all threads;
// see ops/block_top_k.hpp.
#pragma once

#include "deepseek/backend/cpu/context.hpp"
#include "deepseek/backend/cpu/kernels/scratch.hpp"
#include "deepseek/backend/reference/block_top_k.hpp"

namespace deepseek {

namespace kernels {
struct block_memory;
}

template <class In, class Ids, class Spec>
void block_top_k_impl(const cpu& b, const In& in, const Ids& ids, const Spec& spec,
                      const block_rule& rule) {
  using A = accumulate_t<typename decltype(in.q)::value_type>;
  choose_all_blocks<A>(
      in, ids, spec, rule, [&](index_t n, const auto& f) { b.parallel(n, f); },
      [](index_t n) {
        return kernels::scratch<kernels::block_memory, A>(static_cast<std::size_t>(n));
      });
}

}  // namespace deepseek
