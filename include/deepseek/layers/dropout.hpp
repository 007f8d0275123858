// SPDX-License-Identifier: Apache-2.0
// dropout<D, {rate}>: in training y = x * keep / (1 - rate), else y = x. No mask is stored: the
// bits come from (seed, step, site, element), so recomputing gives them again.
#pragma once

#include "deepseek/layers/layer.hpp"
#include "deepseek/ops/copy.hpp"
#include "deepseek/ops/dropout.hpp"

namespace deepseek {

struct dropout_config {
  double rate = 0.1;  // the share set to zero, 0 <= rate < 1
  bool operator==(const dropout_config&) const = default;
};

template <index_t D, dropout_config C = dropout_config{}>
struct dropout {
  static_assert(C.rate >= 0 && C.rate < 1,
                "deepseek::dropout: rate is outside [0, 1); write .rate = 0.1");
  static constexpr index_t out = D;
  static constexpr const char* label = "dropout";
  static constexpr bool stacks = true;

  template <class Call, class P, class X, class Y, class K>
  static void forward(const Call& c, const P&, const X& x, const Y& y, K&) {
    apply(c, x, y);
  }
  template <class Call, class P, class X, class DY, class DX, class K, class G>
  static void backward(const Call& c, const P&, const X&, const DY& dy, const DX& dx, K&, G&) {
    apply(c, dy, dx);
  }

 private:
  template <class Call, class X, class Y>
  static void apply(const Call& c, const X& x, const Y& y) {
    if (C.rate > 0 && c.training()) {
      ops::dropout(
          c.backend, x, y,
          dropout_spec{
              .rate = C.rate, .seed = c.options.seed, .step = c.options.step, .site = c.site});
    } else {
      ops::copy(c.backend, x, y);
    }
  }
};

}  // namespace deepseek
