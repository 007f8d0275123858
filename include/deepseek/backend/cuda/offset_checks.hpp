// SPDX-License-Identifier: Apache-2.0
// check_offsets(b, offsets, rows, object): a kernel that tells b.faults() of offsets that do not go
// from 0 to `rows` without falling (or, where asked, hold a sequence without rows). What an op
// launches after it asks faults().found() before it writes. sequence_of(offsets, i): which holds i.
#pragma once

#include "deepseek/backend/cuda/device_backend.hpp"
#include "deepseek/core/view.hpp"

namespace deepseek {

namespace cuda_offsets {

enum class empty_sequence { allowed, refused };

// `least` is the offset before it.
inline void raise_offsets(const fault& f) {
  constexpr auto code = error_code::offsets;
  if (f.position == 0 && f.value != 0) {
    fail(code, f.object, "[0] is ", f.value, "; the first sequence begins at 0");
  }
  if (f.value < f.least) {
    fail(code, f.object, "[", f.position, "] is ", f.value, ", less than ", f.least,
         " before it; a sequence has >= 0 rows");
  }
  fail(code, f.object, "[", f.position, "] is ", f.value, " for ", f.size,
       " rows; the last sequence ends at the last row");
}
inline void raise_empty_or_offsets(const fault& f) {
  if (f.position > 0 && f.value == f.least) {
    fail(error_code::offsets, f.object, "[", f.position, "] is ", f.value,
         " like the one before it: sequence ", f.position - 1,
         " has no rows to pool; leave it out");
  }
  raise_offsets(f);
}

template <class Offsets>
struct offsets_of {
  static constexpr int threads = 256;
  Offsets offsets;
  index_t rows;
  empty_sequence empty;
  fault_place faults;
  const char* object;

  index_t blocks() const { return blocks_of(offsets.extent(0), threads); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t i = block.index() * threads + block.rank(), last = offsets.extent(0) - 1;
    if (i > last) return;
    fault f;
    f.position = i;
    f.value = offsets(i);
    f.size = rows;
    f.object = object;
    if (i == 0 && f.value != 0) return faults.tell(block, f);
    f.least = i > 0 ? static_cast<index_t>(offsets(i - 1)) : 0;
    if (f.value < f.least) return faults.tell(block, f);
    if (i > 0 && f.value == f.least && empty == empty_sequence::refused)
      return faults.tell(block, f);
    if (i == last && f.value != rows) return faults.tell(block, f);
  }
};

}  // namespace cuda_offsets

template <DeviceBackend B, class Offsets>
void check_offsets(const B& b, const Offsets& offsets, index_t rows, const char* object,
                   cuda_offsets::empty_sequence empty = cuda_offsets::empty_sequence::allowed) {
  const bool refused = empty == cuda_offsets::empty_sequence::refused;
  const raiser how = refused ? cuda_offsets::raise_empty_or_offsets : cuda_offsets::raise_offsets;
  b.launch(
      cuda_offsets::offsets_of<Offsets>{offsets, rows, empty, b.faults().raising(how), object});
}

// The sequence that holds row i: the last s with offsets[s] <= i. Offsets that were checked.
template <class Offsets>
DEEPSEEK_HOST_DEVICE index_t sequence_of(const Offsets& offsets, index_t i) {
  index_t first = 0,
          count = offsets.extent(0) - 1;  // the answer lies in first .. first + count - 1
  while (count > 1) {
    const index_t half = count / 2;
    if (offsets(first + half) <= i) {
      first += half;
      count -= half;
    } else {
      count = half;
    }
  }
  return first;
}

}  // namespace deepseek
