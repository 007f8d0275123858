// SPDX-License-Identifier: Apache-2.0
// kl_divergence on the device: the row bodies of backend/rows over 256 threads, however short or
// long a row is (by a warp or 512 threads these kernels spill); the mean over rows in order. See
// ops/kl_divergence.hpp.
#pragma once

#include "deepseek/backend/cuda/elementwise.hpp"
#include "deepseek/backend/cuda/sums.hpp"
#include "deepseek/backend/rows/kl_divergence.hpp"
#include "deepseek/ops/kl_divergence.hpp"

namespace deepseek {

namespace cuda_kl_divergence {

template <class P, class L, class Each>
struct forward {
  P p;
  L logits;
  Each each;  // [rows, 1]
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    const auto found = kl_divergence_row(team, slice(p, row), slice(logits, row));
    if (team.rank() == 0) each(row, 0) = static_cast<double>(found);
  }
};

template <class P, class L, class DL>
struct gradient {
  P p;
  L logits;
  DL dlogits;
  double factor;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    kl_divergence_gradient_row(team, slice(p, row), slice(logits, row), slice(dlogits, row),
                               factor);
  }
};

}  // namespace cuda_kl_divergence

template <DeviceBackend B, class P, class L>
double kl_divergence_impl(const B& b, const P& p, const L& logits) {
  using Each = view<double, typename B::space, dyn, 1>;
  const index_t rows = p.extent(0);
  const scope freed(b.workspace());
  const Each each = b.workspace().template make<double, dyn, 1>(rows);
  const auto sum = b.workspace().template make<double, 1>();
  using forward = cuda_kl_divergence::forward<P, L, Each>;
  b.launch(each_row<256, forward>{rows, {p, logits, each}});
  ordered_sum(b, each, sum);
  return b.read(sum.data()) / static_cast<double>(rows);
}

template <DeviceBackend B, class P, class L, class DL>
void kl_divergence_gradient_impl(const B& b, const P& p, const L& logits, const DL& dlogits,
                                 double factor) {
  using gradient = cuda_kl_divergence::gradient<P, L, DL>;
  const index_t rows = p.extent(0);
  b.launch(each_row<256, gradient>{rows, {p, logits, dlogits, factor / static_cast<double>(rows)}});
}

}  // namespace deepseek
