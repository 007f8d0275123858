// SPDX-License-Identifier: Apache-2.0
// convert_to<To>(x): a number as another element type, rounded once to nearest, ties to even; the
// same type keeps every bit (a NaN's payload too).
#pragma once

#include "deepseek/core/dtype.hpp"

namespace deepseek {

template <class To, class From>
DEEPSEEK_HOST_DEVICE constexpr To convert_to(From x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else {
    static_assert(Floating<To> && Floating<From>,
                  "deepseek::op: integers are not converted; pass views of one integer type");
    return static_cast<To>(static_cast<accumulate_t<From>>(x));
  }
}

}  // namespace deepseek
