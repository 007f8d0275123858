// SPDX-License-Identifier: Apache-2.0
// attention_merge on the device: a warp for a query of a head; see ops/attention_merge.hpp.
#pragma once

#include "deepseek/backend/cuda/elementwise.hpp"
#include "deepseek/backend/rows/attention_sink.hpp"
#include "deepseek/ops/attention_merge.hpp"

namespace deepseek {

namespace cuda_attention {

template <class From, class Into>
struct merged {
  using L = typename decltype(Into::lse)::value_type;
  using A = accumulate_t<typename decltype(Into::o)::value_type>;
  From from;
  Into into;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    const index_t i = row / into.o.extent(1), h = row % into.o.extent(1);
    const log_sums<A> lse{static_cast<A>(from.lse(i, h)), static_cast<A>(into.lse(i, h))};
    const A whole =
        attention_merge_row(team, lse, slice(slice(from.o, i), h), slice(slice(into.o, i), h));
    team.sync();  // every worker has read lse
    if (team.rank() == 0) into.lse(i, h) = static_cast<L>(whole);
  }
};

}  // namespace cuda_attention

template <DeviceBackend B, class From, class Into>
void attention_merge_impl(const B& b, const From& from, const Into& into) {
  run_each_row(b, into.lse.size(), into.o.extent(2),
               cuda_attention::merged<From, Into>{from, into});
}

}  // namespace deepseek
