// SPDX-License-Identifier: Apache-2.0
// apply_mask: w_e = 0 where mask_e is 0, else as it is; any strides. mask: one shape with w, uint8.
// What keeps pruned weights at zero after a step of training. A NaN under a zero becomes 0.
// Errors: shape_mismatch, invalid_argument (null data). Cost: w and mask read once.
#pragma once

#include "deepseek/ops/argument.hpp"

#include <cstdint>

namespace deepseek {

struct apply_mask_op {
  static constexpr std::string_view name = "apply_mask";

  template <class B, class M, class W>
  void operator()(const B& b, const M& mask_in, W&& w_in) const {
    const auto mask = as_const(as_view(mask_in));
    const auto w = as_view(w_in);
    check_spaces(b, mask, w);
    static_assert(std::is_same_v<typename decltype(mask)::value_type, std::uint8_t>,
                  "deepseek::apply_mask: a mask is not bytes; pass a view of std::uint8_t");
    require_same_shape(mask, w, "apply_mask: mask");
    require_data(mask, "apply_mask: mask");
    require_data(w, "apply_mask: w");
    if (!w.empty()) apply_mask_impl(b, mask, w);
  }
};

// n_of_m_mask: of every m neighbours of a row of w [rows, columns] the n of largest |w| keep a 1 in
// mask [rows, columns] uint8, the others get 0; of equal ones the first are kept. columns is a
// multiple of m. NaN counts as largest. Errors: shape_mismatch, invalid_argument (n, m).
// Source: Mishra et al. 2021 (2:4), section 3.
struct n_of_m {
  index_t n = 2, m = 4;  // 0 <= n <= m, m > 0
};
struct n_of_m_mask_op {
  static constexpr std::string_view name = "n_of_m_mask";

  template <class B, class W, class M>
  void operator()(const B& b, const W& w_in, M&& mask_in, n_of_m keep = {}) const {
    const auto w = as_const(as_view(w_in));
    const auto mask = as_view(mask_in);
    check_spaces(b, w, mask);
    static_assert(w.rank == 2 && std::is_same_v<typename decltype(mask)::value_type, std::uint8_t>,
                  "deepseek::n_of_m_mask: wrong rank or type; pass w[rows, columns], mask of "
                  "std::uint8_t");
    require_same_shape(mask, w, "n_of_m_mask: mask");
    require_data(w, "n_of_m_mask: w");
    require_data(mask, "n_of_m_mask: mask");
    require(keep.m > 0 && keep.n >= 0 && keep.n <= keep.m, error_code::invalid_argument,
            "n_of_m_mask: ", keep.n, " of ", keep.m, "; pass 0 <= n <= m, m > 0");
    require(w.extent(1) % keep.m == 0, error_code::shape_mismatch, "n_of_m_mask: w", shape_of(w),
            ": ", w.extent(1), " columns are no multiple of ", keep.m,
            "; choose an m that divides them");
    if (!w.empty()) n_of_m_mask_impl(b, w, mask, keep);
  }
};

namespace ops {
inline constexpr apply_mask_op apply_mask{};
inline constexpr n_of_m_mask_op n_of_m_mask{};
}  // namespace ops

}  // namespace deepseek
