// SPDX-License-Identifier: Apache-2.0
// dropout: y_e = x_e / (1 - rate) where element e is kept, else 0 (also where x_e is NaN); rate 0
// copies. One shape, any strides; y may be x. The backward is the same op applied to dy.
// Bits: e counts elements in row-major order; its word is word e mod 4 of
//   philox(key {seed low, seed high xor random_use::dropout},
//          counter {e / 4 low, step high + e / 4 high, site, step low})
// and e is kept where word >= floor(rate * 2^32): the same mask on every backend.
// Types: 1 / (1 - rate) is rounded to accumulate_t of y, the product is formed there, rounded once.
// Errors: invalid_argument (rate outside [0, 1)), shape_mismatch, aliasing (y overlaps x and is
// not x).
// Cost: one Philox block (10 rounds) for 4 elements. Source: Srivastava et al. 2014, section 4.
#pragma once

#include "deepseek/core/random.hpp"
#include "deepseek/ops/argument.hpp"

#include <cstdint>

namespace deepseek {

struct dropout_spec {
  double rate = 0;  // in [0, 1): the share that is dropped
  std::uint64_t seed = 0, step = 0;
  std::uint32_t site = 0;
};

DEEPSEEK_HOST_DEVICE constexpr stream_key dropout_stream(const dropout_spec& spec) {
  return {spec.seed, static_cast<std::uint32_t>(spec.step), spec.site,
          static_cast<std::uint32_t>(spec.step >> 32U), random_use::dropout};
}
// Words below it are dropped.
DEEPSEEK_HOST_DEVICE constexpr std::uint32_t dropout_threshold(double rate) {
  return static_cast<std::uint32_t>(rate * 0x1p32);
}
DEEPSEEK_HOST_DEVICE constexpr bool dropout_keeps(const dropout_spec& spec, index_t element) {
  return random_word(dropout_stream(spec), static_cast<std::uint64_t>(element)) >=
         dropout_threshold(spec.rate);
}

struct dropout_op {
  static constexpr std::string_view name = "dropout";

  template <class B, class X, class Y>
  void operator()(const B& b, const X& x_in, Y&& y_in, dropout_spec spec) const {
    const auto x = as_const(as_view(x_in));
    const auto y = as_view(y_in);
    check_spaces(b, x, y);
    require_same_shape(x, y, "dropout: x");
    require_data(x, "dropout: x");
    require_data(y, "dropout: y");
    require_same_or_apart(x, y, "dropout: x");
    require(spec.rate >= 0 && spec.rate < 1, error_code::invalid_argument, "dropout: rate is ",
            spec.rate, "; pass a share in [0, 1)");
    if (!y.empty()) dropout_impl(b, x, y, spec);
  }
};
namespace ops {
inline constexpr dropout_op dropout{};
// dx from dy, with the spec of the forward run: the mask is drawn again, not stored.
inline constexpr dropout_op dropout_backward{};
}  // namespace ops

}  // namespace deepseek
