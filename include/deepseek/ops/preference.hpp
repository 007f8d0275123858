// SPDX-License-Identifier: Apache-2.0
// preference: rewards [rows], one a row (of which a reward model reads the last of a sequence);
// pairs [n, 2] int32 name two rows, the preferred one first:
//   loss = 1/n sum_i ( -ln sigmoid(d_i - margin) + c s_i^2 ),
//   d_i = r(pairs(i, 0)) - r(pairs(i, 1)),   s_i the sum of the two.
// Answers ranked 1 .. K are K (K - 1) / 2 pairs. accuracy: the share of pairs with d_i > 0.
// preference_gradient writes drewards [rows] = scale times the gradient, 0 where no pair looks.
// Types: accumulate_t of rewards (of drewards); means in double, pairs in order; n = 0 gives 0.
// Errors: index_range (a pair outside the rows; nothing is written then), shape_mismatch,
// invalid_argument. One thread. Cost: two exponentials a pair. Sources: Bradley, Terry 1952;
// Ouyang et al. 2022, section 3.4.
#pragma once

#include "deepseek/ops/argument.hpp"

#include <cstdint>

namespace deepseek {

struct preference_spec {
  double margin = 0;
  double centering = 0;  // c, >= 0: keeps rewards near zero
  double scale = 1;      // of the gradient
};
struct preference_result {
  double mean = 0, accuracy = 0;
};

namespace detail {

template <class R, class Pairs>
void check_preference(const R& rewards, const Pairs& pairs, const preference_spec& spec) {
  static_assert(R::rank == 1 && Pairs::rank == 2,
                "deepseek::preference: wrong ranks; pass rewards[rows], pairs[n, 2]");
  require_extent(pairs, 1, 2, "preference: pairs");
  require_data(rewards, "preference: rewards");
  require_data(pairs, "preference: pairs");
  require(std::isfinite(spec.margin) && std::isfinite(spec.scale), error_code::invalid_argument,
          "preference: margin is ", spec.margin, ", scale ", spec.scale, "; pass finite numbers");
  require(std::isfinite(spec.centering) && spec.centering >= 0, error_code::invalid_argument,
          "preference: centering is ", spec.centering, "; pass a finite number >= 0");
}

}  // namespace detail

struct preference_op {
  static constexpr std::string_view name = "preference";

  template <class B, class R, class Pairs>
  preference_result operator()(const B& b, const R& rewards_in, const Pairs& pairs_in,
                               const preference_spec& spec = {}) const {
    const auto rewards = as_const(as_view(rewards_in));
    const auto pairs = as_const(as_view(pairs_in));
    check_spaces(b, rewards, pairs);
    detail::check_preference(rewards, pairs, spec);
    if (pairs.empty()) return {};
    return preference_impl(b, rewards, pairs, spec);
  }
};

struct preference_gradient_op {
  static constexpr std::string_view name = "preference_gradient";

  template <class B, class R, class Pairs, class DR>
  void operator()(const B& b, const R& rewards_in, const Pairs& pairs_in, DR&& drewards_in,
                  const preference_spec& spec = {}) const {
    const auto rewards = as_const(as_view(rewards_in));
    const auto pairs = as_const(as_view(pairs_in));
    const auto drewards = as_view(drewards_in);
    check_spaces(b, rewards, pairs, drewards);
    detail::check_preference(rewards, pairs, spec);
    require_same_shape(drewards, rewards, "preference_gradient: drewards");
    require_data(drewards, "preference_gradient: drewards");
    if (!drewards.empty()) preference_gradient_impl(b, rewards, pairs, drewards, spec);
  }
};

namespace ops {
inline constexpr preference_op preference{};
inline constexpr preference_gradient_op preference_gradient{};
}  // namespace ops

}  // namespace deepseek
