// SPDX-License-Identifier: Apache-2.0
// cross_entropy: losses[i] = log(sum_v e^logits[i, v]) - logits[i, targets[i]], the row's maximum
// taken out first; 0 where targets[i] is `ignore`. logits [n, V], targets [n] int32, losses [n].
// Result: the mean over the counted rows (0 if there is none), summed in double from losses before
// rounding, in chunks of 64 rows, and how many were counted.
// Gradient: dlogits = (softmax(logits) - onehot) * scale / counted, written; zero rows where
// ignored. dlogits may be logits. A NaN, +inf or only -inf in a counted row gives NaN there.
// Types: accumulate_t of the output. Bits do not depend on threads.
// Errors: index_range for a target outside 0 .. V-1 that is not `ignore` (names its position;
// nothing is written then), shape_mismatch, invalid_argument. Cost: about 20 flops an element.
#pragma once

#include "deepseek/ops/argument.hpp"

#include <cstdint>

namespace deepseek {

struct cross_entropy_spec {
  std::int32_t ignore = -100;
};
struct cross_entropy_result {
  double mean = 0;
  index_t counted = 0;
};
struct cross_entropy_gradient_spec {
  std::int32_t ignore = -100;
  double scale = 1;     // e.g. a loss scale
  index_t counted = 0;  // rows to divide by; 0: those of `targets` that are not ignored
};

struct cross_entropy_op {
  static constexpr std::string_view name = "cross_entropy";

  template <class B, class X, class Targets, class L>
  cross_entropy_result operator()(const B& b, const X& logits_in, const Targets& targets_in,
                                  L&& losses_in, cross_entropy_spec spec = {}) const {
    const auto logits = as_const(as_view(logits_in));
    const auto targets = as_const(as_view(targets_in));
    const auto losses = as_view(losses_in);
    check_spaces(b, logits, targets, losses);
    static_assert(logits.rank == 2 && targets.rank == 1 && losses.rank == 1,
                  "deepseek::cross_entropy: wrong ranks; pass logits[n, V], targets[n], losses[n]");
    require_extent(targets, 0, logits.extent(0), "cross_entropy: targets");
    require_extent(losses, 0, logits.extent(0), "cross_entropy: losses");
    require_data(logits, "cross_entropy: logits");
    require_data(targets, "cross_entropy: targets");
    require_data(losses, "cross_entropy: losses");
    if (targets.empty()) return {};
    return cross_entropy_impl(b, logits, targets, losses, spec);
  }
};

struct cross_entropy_gradient_op {
  static constexpr std::string_view name = "cross_entropy_gradient";

  template <class B, class X, class Targets, class DX>
  void operator()(const B& b, const X& logits_in, const Targets& targets_in, DX&& dlogits_in,
                  cross_entropy_gradient_spec spec = {}) const {
    const auto logits = as_const(as_view(logits_in));
    const auto targets = as_const(as_view(targets_in));
    const auto dlogits = as_view(dlogits_in);
    check_spaces(b, logits, targets, dlogits);
    static_assert(logits.rank == 2 && targets.rank == 1,
                  "deepseek::cross_entropy_gradient: wrong ranks; pass logits[n, V], targets[n], "
                  "dlogits[n, V]");
    require_extent(targets, 0, logits.extent(0), "cross_entropy_gradient: targets");
    require_same_shape(dlogits, logits, "cross_entropy_gradient: dlogits");
    require_data(logits, "cross_entropy_gradient: logits");
    require_data(targets, "cross_entropy_gradient: targets");
    require_data(dlogits, "cross_entropy_gradient: dlogits");
    require(spec.counted >= 0, error_code::invalid_argument, "cross_entropy_gradient: counted is ",
            spec.counted, "; pass the number of counted rows, or 0 to count them here");
    if (!targets.empty()) cross_entropy_gradient_impl(b, logits, targets, dlogits, spec);
  }
};

namespace ops {
inline constexpr cross_entropy_op cross_entropy{};
inline constexpr cross_entropy_gradient_op cross_entropy_gradient{};
}  // namespace ops

}  // namespace deepseek
