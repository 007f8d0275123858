// SPDX-License-Identifier: Apache-2.0
// What a kernel found wrong with its data: an index outside its range, offsets that fall, a number
// that is none. The first finding stays. A kernel that writes asks `found()` before it does, so
// that nothing is written after a finding of an earlier kernel of the same op. The context throws
// it at its next call or synchronize(): on a GPU later than where a host backend would throw.
#pragma once

#include "deepseek/core/error.hpp"
#include "deepseek/core/space.hpp"

#include <cstdint>

namespace deepseek {

struct fault {
  std::int32_t found = 0;    // 1 where the rest holds
  std::int32_t columns = 0;  // of the table of indices; 0: a list
  index_t position = 0, value = 0, least = 0, size = 0;
  const char* object =
      nullptr;  // host memory, given to the kernel: a literal in it is the device's
  double number = 0, other = 0;
  void (*raise)(const fault&) = nullptr;  // throws another error than index_range; on the host
};
using raiser = void (*)(const fault&);

// Whom a kernel tells: `at`, in the memory that kernels ask, and `shown`, which the host sees
// without a copy (null: the host sees `at`).
struct fault_place {
  fault* at = nullptr;
  fault* shown = nullptr;
  raiser raise = nullptr;  // of what is told here; null: what the fault says

  // The same place for what `how` throws. Said on the host: a kernel has no address of its
  // functions.
  fault_place raising(raiser how) const { return {at, shown, how}; }

  DEEPSEEK_HOST_DEVICE bool found() const { return at->found != 0; }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void tell(const Block& block, fault f) const {
    if (block.atomic_exchange_if(&at->found, std::int32_t{0}, std::int32_t{1}) != 0) return;
    f.found = 1;
    if (raise != nullptr) f.raise = raise;
    *at = f;
    if (shown != nullptr) *shown = f;  // the host waits for the stream before it reads the rest
  }
};

// Throws what was found: as f.raise says, or an index outside least (0, -1) .. size - 1.
[[noreturn]] inline void throw_fault(const fault& f) {
  if (f.raise != nullptr) f.raise(f);
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
