// SPDX-License-Identifier: Apache-2.0
// jitter: y_e = x_e (1 + amount (2 u_e - 1)): every element times its own number of U[1 - amount,
// 1 + amount). One shape, any strides; y may be x. The backward is the same op applied to dy.
// Bits: u_e = uniform01(word e) of the stream (seed, step, site, random_use::routing), e counting
// elements in row-major order: the same on every backend and when it is run again.
// Types: the factor and the product in accumulate_t of y, rounded once. Errors: invalid_argument
// (amount outside [0, 1]), shape_mismatch, aliasing (y overlaps x and is not x). Cost: one Philox
// block for 4 elements. Source: Fedus, Zoph & Shazeer 2022 (Switch Transformer), section 2.4: a
// router's input jittered by 1e-2 in training.
#pragma once

#include "deepseek/core/random.hpp"
#include "deepseek/ops/argument.hpp"

#include <cstdint>

namespace deepseek {

// Where a router's random numbers come from. lane keeps two uses at one site apart.
struct routing_draw {
  std::uint64_t seed = 0, step = 0;
  std::uint32_t site = 0, lane = 0;
};
DEEPSEEK_HOST_DEVICE constexpr stream_key routing_stream(const routing_draw& d) {
  return {d.seed, static_cast<std::uint32_t>(d.step), d.site,
          d.lane + (static_cast<std::uint32_t>(d.step >> 32U) << 8U), random_use::routing};
}

struct jitter_op {
  static constexpr std::string_view name = "jitter";

  template <class B, class X, class Y>
  void operator()(const B& b, const X& x_in, Y&& y_in, double amount,
                  const routing_draw& draw) const {
    const auto x = as_const(as_view(x_in));
    const auto y = as_view(y_in);
    check_spaces(b, x, y);
    static_assert(x.rank == 2, "deepseek::jitter: wrong rank; pass x[tokens, d] and y[tokens, d]");
    require_same_shape(x, y, "jitter: x");
    require_data(x, "jitter: x");
    require_data(y, "jitter: y");
    require_same_or_apart(x, y, "jitter: x");
    require(amount >= 0 && amount <= 1, error_code::invalid_argument, "jitter: amount is ", amount,
            "; pass a share in [0, 1] such as 0.01");
    if (!y.empty()) jitter_impl(b, x, y, amount, draw);
  }
};
namespace ops {
inline constexpr jitter_op jitter{};
}

}  // namespace deepseek
