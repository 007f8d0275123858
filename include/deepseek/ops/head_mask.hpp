// SPDX-License-Identifier: Apache-2.0
// head_mask: how much each of H heads counts when a gate g in [0, 1] says how many do:
//   hard: mask[n, h] = 1 for h < clamp(round(H g[n]), 1, H), else 0   (round: halves away from 0)
//   soft: mask[n, h] = sigmoid((H g[n] - h) / temperature)
// g[rows, 1] mask[rows, H]. Backward, for both: dg[n] = sum_h dmask[n, h] H / temperature s (1 -
// s), s the soft mask: exact for soft, the straight-through estimate for hard. dg is written; sums
// over h in order. A NaN in g gives a mask of NaN. Types may differ; arithmetic in accumulate_t of
// the output. Errors: shape_mismatch, invalid_argument (null data, temperature). Bits do not depend
// on threads. Cost: about 10 flops an element (soft). Source: Bengio et al. 2013
// (straight-through).
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

enum class mask_edge { hard, soft };

struct head_mask_rule {
  mask_edge edge = mask_edge::hard;
  double temperature = 1;  // > 0
};

namespace head_mask_checks {

template <class G, class Mask>
void require_views(const G& g, const Mask& mask, const head_mask_rule& rule, const char* op) {
  static_assert(G::rank == 2 && Mask::rank == 2,
                "deepseek::head_mask: wrong ranks; pass g[rows, 1], mask[rows, heads]");
  const std::string of_g = std::string(op) + ": g", of_mask = std::string(op) + ": mask";
  require_extent(g, 1, 1, of_g.c_str());
  require_extent(mask, 0, g.extent(0), of_mask.c_str());
  require_data(g, of_g.c_str());
  require_data(mask, of_mask.c_str());
  require(std::isfinite(rule.temperature) && rule.temperature > 0, error_code::invalid_argument, op,
          ": temperature is ", rule.temperature, "; pass a finite number > 0");
}

}  // namespace head_mask_checks

struct head_mask_op {
  static constexpr std::string_view name = "head_mask";

  template <class B, class G, class Mask>
  void operator()(const B& b, const G& g_in, Mask&& mask_in,
                  const head_mask_rule& rule = {}) const {
    const auto g = as_const(as_view(g_in));
    const auto mask = as_view(mask_in);
    check_spaces(b, g, mask);
    head_mask_checks::require_views(g, mask, rule, "head_mask");
    if (!mask.empty()) head_mask_impl(b, g, mask, rule);
  }
};

struct head_mask_backward_op {
  static constexpr std::string_view name = "head_mask_backward";

  template <class B, class G, class DMask, class DG>
  void operator()(const B& b, const G& g_in, const DMask& dmask_in, DG&& dg_in,
                  const head_mask_rule& rule = {}) const {
    const auto g = as_const(as_view(g_in));
    const auto dmask = as_const(as_view(dmask_in));
    const auto dg = as_view(dg_in);
    check_spaces(b, g, dmask, dg);
    head_mask_checks::require_views(g, dmask, rule, "head_mask_backward");
    require_same_shape(dg, g, "head_mask_backward: dg");
    require_data(dg, "head_mask_backward: dg");
    if (!dg.empty()) head_mask_backward_impl(b, g, dmask, dg, rule);
  }
};

namespace ops {
inline constexpr head_mask_op head_mask{};
inline constexpr head_mask_backward_op head_mask_backward{};
}  // namespace ops

}  // namespace deepseek
