// SPDX-License-Identifier: Apache-2.0
// expert_sequences on the device: a thread for each expert and sequence looks its first row up (an
// expert's rows are in the order of tokens); see ops/expert_sequences.hpp.
#pragma once

#include "deepseek/backend/cuda/offset_checks.hpp"
#include "deepseek/backend/cuda/unless_fault.hpp"
#include "deepseek/ops/expert_sequences.hpp"

namespace deepseek {

namespace cuda_expert_sequences {

inline void raise_others(const fault& f) {
  fail(error_code::offsets, "expert_sequences: sequences hold tokens ", f.least, " .. ", f.size - 1,
       " but expert ", f.position, " got others; pass offsets from 0 to the number of tokens");
}

// Element (e, q) of starts.
template <class In, class Sequences, class Starts>
struct find_start {
  In in;
  Sequences sequences;
  Starts starts;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    const index_t e = i / starts.extent(1), q = i % starts.extent(1);
    const index_t first = in.offsets(e);
    index_t low = first, high = in.offsets(e + 1);  // the first row of a token from sequences(q) on
    while (low < high) {
      const index_t middle = (low + high) / 2;
      if (in.source(middle) / in.choices < sequences(q)) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    starts(e, q) = static_cast<typename Starts::value_type>(low - first);
  }
};
template <class In, class Sequences, class Starts>
struct check_starts {
  static constexpr int threads = 256;
  In in;
  Sequences sequences;
  Starts starts;
  fault_place faults;
  static index_t blocks() { return 1; }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t experts = starts.extent(0), last = starts.extent(1) - 1;
    if (faults.found()) return;
    index_t e = block.rank();
    while (e < experts && starts(e, 0) == 0 &&
           starts(e, last) == in.offsets(e + 1) - in.offsets(e)) {
      e += threads;
    }
    e = block.combine(e, smaller{});  // the first that got others
    if (e >= experts || block.rank() != 0) return;
    fault f;
    f.position = e;
    f.least = sequences(0);
    f.size = sequences(last);
    faults.tell(block, f);
  }
};

}  // namespace cuda_expert_sequences

template <DeviceBackend B, class O, class So, class Sequences, class Starts>
void expert_sequences_impl(const B& b, const expert_rows<O, So>& in, const Sequences& sequences,
                           const Starts& starts) {
  using In = expert_rows<O, So>;
  check_offsets(b, in.offsets, in.source.extent(0), "expert_sequences: offsets");
  run_each_element(b, starts.size(),
                   unless_fault(b, cuda_expert_sequences::find_start<In, Sequences, Starts>{
                                       in, sequences, starts}));
  b.launch(cuda_expert_sequences::check_starts<In, Sequences, Starts>{
      in, sequences, starts, b.faults().raising(cuda_expert_sequences::raise_others)});
}

}  // namespace deepseek
