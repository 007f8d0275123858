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

// What is wrong: `value` at `position` of `object`, and for
enum class fault_kind : std::int32_t {
  index,             // outside least (0, -1) .. size - 1
  first_offset,      // not 0
  falling_offset,    // less than `least` before it
  last_offset,       // not `size` rows
  expert_sequences,  // expert `position`: tokens outside `least` .. `size` - 1
  step,              // `number` is no positive number
  loss,              // `number` is not finite
};

struct fault {
  std::int32_t found = 0;    // 1 where the rest holds
  std::int32_t columns = 0;  // of the table of indices; 0: a list
  index_t position = 0, value = 0, least = 0, size = 0;
  const char* object = nullptr;  // host memory: only the host reads it
  fault_kind kind = fault_kind::index;
  double number = 0;
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

namespace detail {

[[noreturn]] inline void throw_index_fault(const fault& f) {
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

}  // namespace detail

// Throws what was found, in the sentences of the host backends.
[[noreturn]] inline void throw_fault(const fault& f) {
  switch (f.kind) {
    case fault_kind::index:
      detail::throw_index_fault(f);
    case fault_kind::first_offset:
      fail(error_code::offsets, f.object, "[0] is ", f.value, "; the first sequence begins at 0");
    case fault_kind::falling_offset:
      fail(error_code::offsets, f.object, "[", f.position, "] is ", f.value, ", less than ",
           f.least, " before it; a sequence has >= 0 rows");
    case fault_kind::last_offset:
      fail(error_code::offsets, f.object, "[", f.position, "] is ", f.value, " for ", f.size,
           " rows; the last sequence ends at the last row");
    case fault_kind::expert_sequences:
      fail(error_code::offsets, f.object, ": sequences hold tokens ", f.least, " .. ", f.size - 1,
           " but expert ", f.position, " got others; pass offsets from 0 to the number of tokens");
    case fault_kind::step:
      fail(error_code::nonfinite, f.object, ": a step is ", f.number,
           "; steps are exp(log_step), positive numbers: make the model with fake_quantize, or "
           "lower the learning rate");
    case fault_kind::loss:
      break;
  }
  fail(error_code::nonfinite, f.object, "[", f.position, "] is ", f.number,
       "; look at that task before it is weighted");
}

}  // namespace deepseek
