// SPDX-License-Identifier: Apache-2.0
// Rows whose sum of squares overflows (float: elements beyond 1.8e19): they are summed once more,
// every element times a power of two, which rounds nothing that counts. Other rows pay one
// comparison. A row that holds an infinity or NaN sums to it again.
#pragma once

#include "deepseek/config.hpp"

#include <limits>

namespace deepseek {

// 2^31 of the largest numbers times it have squares that add up; what is lost is less than the last
// bit of any sum that overflowed. As a variable: device code may read one.
template <class A>
inline constexpr A large_row_scale = sizeof(A) == sizeof(float) ? A(0x1p-80) : A(0x1p-560);
template <class A>
inline constexpr A largest_sum = std::numeric_limits<A>::max();

// False for infinities and NaN.
template <class A>
DEEPSEEK_HOST_DEVICE bool sum_holds(A sum) {
  constexpr A most = largest_sum<A>;
  return sum <= most;
}

}  // namespace deepseek
