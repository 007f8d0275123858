// SPDX-License-Identifier: Apache-2.0
// How ops take several arguments as one struct, and the checks that many ops share.
// A bundle such as `rms_norm_inputs{x, w}` borrows tensors by reference and holds views by value.
#pragma once

#include "deepseek/core/backend.hpp"

#include <cmath>

namespace deepseek {

// Whether a result is written over what y holds or added to it.
enum class update { write, add };

// The member type of a bundle for an argument deduced as X from X&&: no tensor is ever copied.
template <class X>
using argument_t =
    std::conditional_t<is_view<std::remove_cvref_t<X>> || std::is_empty_v<std::remove_cvref_t<X>>,
                       std::remove_cvref_t<X>, X>;

// Views of an argument that may be `none`.
template <class V>
auto view_or_none(V& v) {
  if constexpr (std::is_same_v<std::remove_cvref_t<V>, none>) {
    return none{};
  } else {
    return as_view(v);
  }
}
template <class V>
auto const_or_none(const V& v) {
  if constexpr (std::is_same_v<V, none>) {
    return none{};
  } else {
    return as_const(as_view(v));
  }
}

// Every extent of v equals that of `like`.
template <class View, class Like>
void require_same_shape(const View& v, const Like& like, const char* object) {
  static_assert(View::rank == Like::rank,
                "deepseek::op: two arguments have different ranks; pass views of one shape");
  for (int i = 0; i < View::rank; ++i) require_extent(v, i, like.extent(i), object);
}

// Offsets of packed sequences: from 0 to `rows`, not falling. Host memory.
template <class Offsets>
void require_offsets(const Offsets& offsets, index_t rows, const char* object) {
  require(offsets(0) == 0, error_code::offsets, object, "[0] is ", offsets(0),
          "; the first sequence begins at 0");
  const index_t last = offsets.extent(0) - 1;
  for (index_t i = 0; i < last; ++i) {
    require(offsets(i) <= offsets(i + 1), error_code::offsets, object, "[", i + 1, "] is ",
            offsets(i + 1), ", less than ", offsets(i), " before it; a sequence has >= 0 rows");
  }
  require(offsets(last) == rows, error_code::offsets, object, "[", last, "] is ", offsets(last),
          " for ", rows, " rows; the last sequence ends at the last row");
}

// Offsets of experts' rows: from 0, not falling, to at most `rows`; rows behind belong to no
// expert. Only where the host can read them: a device trusts what expert_plan made there.
template <class B, class Offsets>
void require_expert_offsets(const B&, const Offsets& offsets, index_t rows, const char* object) {
  if constexpr (!RunsKernels<B>) {
    index_t before = 0;
    for (index_t i = 0; i < offsets.extent(0); ++i) {
      const index_t here = offsets(i);
      require(here >= before && here <= rows && (i > 0 || here == 0), error_code::offsets, object,
              "[", i, "] is ", here, " after ", before, " for ", rows,
              " rows; pass offsets from 0 to the rows that do not fall");
      before = here;
    }
  }
}

// What products by stored weights take beside x, w and y: bias [N] or none, offsets [E + 1].
template <class B, class Bias, class Y>
void check_product_bias(const B& b, const Bias& bias, const Y& y, const char* object) {
  if constexpr (!std::is_same_v<Bias, none>) {
    check_spaces(b, bias);
    require_extent(bias, 0, y.extent(1), object);
    require_data(bias, object);
    require_apart(bias, y, object);
  }
}
template <class B, class Offsets, class Y>
void check_expert_rows(const B& b, const Offsets& offsets, index_t experts, const Y& y,
                       const char* object) {
  check_spaces(b, offsets);
  require_extent(offsets, 0, experts + 1, object);
  require_data(offsets, object);
  require_expert_offsets(b, offsets, y.extent(0), object);
}

// What is added under a square root so that it stays away from zero.
inline void require_epsilon(double eps, const char* op) {
  require(std::isfinite(eps) && eps >= 0, error_code::invalid_argument, op, ": eps is ", eps,
          "; pass a finite number >= 0 such as 1e-6");
}

}  // namespace deepseek
