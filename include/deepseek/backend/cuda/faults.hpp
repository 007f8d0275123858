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
  target,            // no column of `size`, nor the ignored `least`
  first_offset,      // not 0
  falling_offset,    // less than `least` before it
  last_offset,       // not `size` rows
  no_rows,           // the sequence before it is empty
  expert_sequences,  // expert `position` got tokens outside `least` .. size - 1
  extent,            // a vector of `size` numbers where `value` were needed
  step,              // `number` is no positive number
  loss               // `number` is not finite
};

struct fault {
  std::int32_t found = 0;    // 1 where the rest holds
  std::int32_t columns = 0;  // of the table of indices; 0: a list
  index_t position = 0, value = 0, least = 0, size = 0;
  fault_kind kind = fault_kind::index;
  const char* object = nullptr;  // host memory: only the host reads it
  double number = 0, other = 0;
  void (*raise)(const fault&) = nullptr;  // throws another error than those above; on the host
};

// Whom a kernel tells: `at`, in the memory that kernels ask, and `shown`, which the host sees
// without a copy (null: the host sees `at`).
struct fault_place {
  fault* at = nullptr;
  fault* shown = nullptr;

  DEEPSEEK_HOST_DEVICE bool found() const { return at->found != 0; }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void tell(const Block& block, fault f) const {
    if (block.atomic_exchange_if(&at->found, std::int32_t{0}, std::int32_t{1}) != 0) return;
    f.found = 1;
    *at = f;
    if (shown != nullptr) *shown = f;  // the host waits for the stream before it reads the rest
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

// `least` is the offset before it.
[[noreturn]] inline void throw_offsets_fault(const fault& f) {
  constexpr auto code = error_code::offsets;
  switch (f.kind) {
    case fault_kind::first_offset:
      fail(code, f.object, "[0] is ", f.value, "; the first sequence begins at 0");
    case fault_kind::falling_offset:
      fail(code, f.object, "[", f.position, "] is ", f.value, ", less than ", f.least,
           " before it; a sequence has >= 0 rows");
    case fault_kind::no_rows:
      fail(code, f.object, "[", f.position, "] is ", f.value, " like the one before it: sequence ",
           f.position - 1, " has no rows to pool; leave it out");
    case fault_kind::expert_sequences:
      fail(code, f.object, ": sequences hold tokens ", f.least, " .. ", f.size - 1, " but expert ",
           f.position, " got others; pass offsets from 0 to the number of tokens");
    default:
      fail(code, f.object, "[", f.position, "] is ", f.value, " for ", f.size,
           " rows; the last sequence ends at the last row");
  }
}

}  // namespace detail

// Throws what was found, in the sentences of the host backends.
[[noreturn]] inline void throw_fault(const fault& f) {
  if (f.raise != nullptr) f.raise(f);
  switch (f.kind) {
    case fault_kind::index:
      detail::throw_index_fault(f);
    case fault_kind::target:
      fail(error_code::index_range, f.object, "[", f.position, "] is ", f.value, ", outside 0 .. ",
           f.size - 1, "; pass a column of the logits, or ", f.least, " to leave the row out");
    case fault_kind::extent:
      fail(error_code::shape_mismatch, f.object, "[", f.size, "]: extent 0 is ", f.size,
           ", expected ", f.value, "; pass views whose shapes fit together");
    case fault_kind::step:
      fail(error_code::nonfinite, f.object, ": a step is ", f.number,
           "; steps are exp(log_step), positive numbers: make the model with fake_quantize, or "
           "lower the learning rate");
    case fault_kind::loss:
      fail(error_code::nonfinite, f.object, "[", f.position, "] is ", f.number,
           "; look at that task before it is weighted");
    default:
      detail::throw_offsets_fault(f);
  }
}

}  // namespace deepseek
