// SPDX-License-Identifier: Apache-2.0
// What a kernel found wrong with its data: an index outside its range. The first finding stays. A
// kernel that writes asks `found()` before it does, so that nothing is written after a finding of
// an earlier kernel of the same op. The context throws it, as index_range, at its next call or
// synchronize(): on a GPU later than where a host backend would throw.
#pragma once

#include "deepseek/core/error.hpp"
#include "deepseek/core/space.hpp"

#include <cstdint>

namespace deepseek {

// index: a number outside its range. extent: a vector of `size` numbers where `value` were needed.
enum class fault_kind : std::int32_t { index, extent };

struct fault {
  std::int32_t found = 0;    // 1 where the rest holds
  std::int32_t columns = 0;  // of the table of indices; 0: a list
  index_t position = 0, value = 0, least = 0, size = 0;
  fault_kind kind = fault_kind::index;
  const char* object = nullptr;  // host memory: only the host reads it
  double number = 0, other = 0;
  void (*raise)(const fault&) = nullptr;  // throws another error than index_range; on the host
};

// Whom a kernel tells.
struct fault_place {
  fault* at = nullptr;

  DEEPSEEK_HOST_DEVICE bool found() const { return at->found != 0; }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void tell(const Block& block, fault f) const {
    if (block.atomic_exchange_if(&at->found, std::int32_t{0}, std::int32_t{1}) != 0) return;
    f.found = 1;
    *at = f;
  }
};

// Throws what was found: as f.raise says, or in the sentence of require_indices or require_extent of
// the host backends.
[[noreturn]] inline void throw_fault(const fault& f) {
  if (f.raise != nullptr) f.raise(f);
  if (f.kind == fault_kind::extent) {
    fail(error_code::shape_mismatch, f.object, "[", f.size, "]: extent 0 is ", f.size,
         ", expected ", f.value, "; pass views whose shapes fit together");
  }
  const index_t columns = f.columns;
  std::ostringstream where;
  if (columns == 0) {
    where << f.position;
  } else {
    where << f.position / columns << ", " << f.position % columns;
  }
  fail(error_code::index_range, f.object, "[", where.str(), "] is ", f.value, ", outside 0 .. ",
       f.size - 1, f.least < 0 ? " (or -1)" : "", "; pass indices of the ", f.size, " that exist");
}

}  // namespace deepseek
