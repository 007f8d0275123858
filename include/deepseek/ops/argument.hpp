// SPDX-License-Identifier: Apache-2.0
// How ops take several arguments as one struct, and the checks that many ops share.
// A bundle such as `rms_norm_inputs{x, w}` borrows tensors by reference and holds views by value.
#pragma once

#include "deepseek/core/backend.hpp"

#include <cmath>

namespace deepseek {

// The member type of a bundle for an argument deduced as X from X&&: no tensor is ever copied.
template <class X>
using argument_t =
    std::conditional_t<is_view<std::remove_cvref_t<X>> || std::is_empty_v<std::remove_cvref_t<X>>,
                       std::remove_cvref_t<X>, X>;

// Every extent of v equals that of `like`.
template <class View, class Like>
void require_same_shape(const View& v, const Like& like, const char* object) {
  static_assert(View::rank == Like::rank,
                "deepseek::op: two arguments have different ranks; pass views of one shape");
  for (int i = 0; i < View::rank; ++i) require_extent(v, i, like.extent(i), object);
}

// What is added under a square root so that it stays away from zero.
inline void require_epsilon(double eps, const char* op) {
  require(std::isfinite(eps) && eps >= 0, error_code::invalid_argument, op, ": eps is ", eps,
          "; pass a finite number >= 0 such as 1e-6");
}

}  // namespace deepseek
