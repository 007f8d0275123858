// SPDX-License-Identifier: Apache-2.0
// positions and next_tokens on the device: the offsets are checked by a kernel, then a thread finds
// the sequence of its row by halving. See ops/positions.hpp, ops/next_tokens.hpp.
#pragma once

#include "deepseek/backend/cuda/elementwise.hpp"
#include "deepseek/backend/cuda/offset_checks.hpp"
#include "deepseek/ops/next_tokens.hpp"
#include "deepseek/ops/positions.hpp"

namespace deepseek {

namespace cuda_positions {

template <class Start, class Offsets, class Out>
struct counted {
  Offsets offsets;
  Out out;
  Start start;
  index_t step;
  row_place place;
  fault_place faults;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    if (faults.found()) return;
    const index_t begin = offsets.extent(0) > 0 ? offsets(sequence_of(offsets, i)) : 0;
    out(i) = static_cast<std::int32_t>(step * place.row(number_of(start) + (i - begin)));
  }
};

template <class Ids, class Offsets, class Out>
struct following {
  Ids ids;
  Offsets offsets;
  Out out;
  std::int32_t last;
  fault_place faults;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    if (faults.found()) return;
    const index_t end =
        offsets.extent(0) > 0 ? offsets(sequence_of(offsets, i) + 1) : out.extent(0);
    out(i) = i + 1 < end ? ids(i + 1) : last;
  }
};

template <class From, class To>
struct moved {
  From from;
  To to;
  fault_place faults;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    if (!faults.found()) to(i) = from(i);
  }
};

}  // namespace cuda_positions

template <DeviceBackend B, class Start, class Offsets, class Out>
void positions_impl(const B& b, const Start& start, const Offsets& offsets, const Out& out,
                    index_t step, const row_place& place) {
  if (!offsets.empty()) check_offsets(b, offsets, out.extent(0), "positions: offsets");
  run_each_element(
      b, out.extent(0),
      cuda_positions::counted<Start, Offsets, Out>{offsets, out, start, step, place, b.faults()});
}

// By way of the workspace: out may be ids.
template <DeviceBackend B, class Ids, class Offsets, class Out>
void next_tokens_impl(const B& b, const Ids& ids, const Offsets& offsets, std::int32_t last,
                      const Out& out) {
  using Held = view<std::int32_t, typename B::space, dyn>;
  const index_t n = out.extent(0);
  if (!offsets.empty()) check_offsets(b, offsets, n, "next_tokens: offsets");
  const scope freed(b.workspace());
  const Held held = b.workspace().template make<std::int32_t, dyn>(n);
  run_each_element(
      b, n, cuda_positions::following<Ids, Offsets, Held>{ids, offsets, held, last, b.faults()});
  run_each_element(b, n, cuda_positions::moved<Held, Out>{held, out, b.faults()});
}

}  // namespace deepseek
