// SPDX-License-Identifier: Apache-2.0
// kl_divergence on the device: both rows kept in registers (held_rows.hpp); longer rows and double
// by the row bodies of backend/rows over 256 threads, however short or long a row is (by a warp or
// 512 threads these kernels spill); the mean over rows in order. See ops/kl_divergence.hpp.
#pragma once

#include "deepseek/backend/cuda/held_rows.hpp"
#include "deepseek/backend/cuda/sums.hpp"
#include "deepseek/backend/rows/kl_divergence.hpp"
#include "deepseek/ops/kl_divergence.hpp"

namespace deepseek {

namespace cuda_kl_divergence {

// As denominator_of (backend/rows), of a row that is held.
template <class A, class Team, class T, int Count>
DEEPSEEK_HOST_DEVICE softmax_denominator<A> denominator_of_held(const Team& team,
                                                                const row_span& span,
                                                                const held_row<T, Count>& x) {
  A largest = x.template max<A>(team, span);
  if (largest == -math::infinity<A>) largest = A(0);
  return {largest, x.sum(team, span, [&](T v) { return std::exp(static_cast<A>(v) - largest); })};
}

template <class P, class L, class Each>
struct forward {
  using W = typename P::value_type;
  using T = typename L::value_type;
  using A = accumulate_t<T>;
  static constexpr int count = run_length<W, T>();
  P p;
  L logits;
  Each each;  // [rows, 1]
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    const auto found = kl_divergence_row(team, slice(p, row), slice(logits, row));
    if (team.rank() == 0) each(row, 0) = static_cast<double>(found);
  }
  // Both rows are kept.
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row, const row_span& span) const {
    held_row<W, count> held_p;
    held_row<T, count> x;
    held_p.load(team, slice(p, row), span);
    x.load(team, slice(logits, row), span);
    const kl_part<A> part(denominator_of_held<A>(team, span, x));
    const A found = sum_of_both<A>(team, span, held_p, x, part);
    if (team.rank() == 0) each(row, 0) = static_cast<double>(found);
  }
};

template <class P, class L, class DL>
struct gradient {
  using W = typename P::value_type;
  using T = typename L::value_type;
  using out = typename DL::value_type;
  using A = accumulate_t<out>;
  static constexpr int count = run_length<W, T, out>();
  P p;
  L logits;
  DL dlogits;
  double factor;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    kl_divergence_gradient_row(team, slice(p, row), slice(logits, row), slice(dlogits, row),
                               factor);
  }
  // Both rows are kept.
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row, const row_span& span) const {
    held_row<W, count> held_p;
    held_row<T, count> x;
    held_p.load(team, slice(p, row), span);
    x.load(team, slice(logits, row), span);
    const auto to = slice(dlogits, row);
    const A given = held_p.sum(team, span, [](W w) { return static_cast<A>(w); });
    const kl_gradient_part<A> part(denominator_of_held<A>(team, span, x), given, factor);
    each_of_both(team, span, held_p, x, [&](int first, const W* ws, const T* xs) {
      alignas(vector_bytes) out result[count];
      for (int k = 0; k < count; ++k) {
        result[k] = static_cast<out>(part(static_cast<A>(ws[k]), static_cast<A>(xs[k])));
      }
      store_part<count>(to, first, span, result);
    });
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
  const row_shape shape{rows, p.extent(1), moves_whole(p) && moves_whole(logits)};
  run_each_row_of<256, typename P::value_type, typename L::value_type>(
      b, shape, cuda_kl_divergence::forward<P, L, Each>{p, logits, each});
  ordered_sum(b, each, sum);
  return b.read(sum.data()) / static_cast<double>(rows);
}

template <DeviceBackend B, class P, class L, class DL>
void kl_divergence_gradient_impl(const B& b, const P& p, const L& logits, const DL& dlogits,
                                 double factor) {
  const index_t rows = p.extent(0);
  const row_shape shape{rows, p.extent(1),
                        moves_whole(p) && moves_whole(logits) && moves_whole(dlogits)};
  const cuda_kl_divergence::gradient<P, L, DL> gradient{p, logits, dlogits,
                                                        factor / static_cast<double>(rows)};
  run_each_row_of<256, typename P::value_type, typename L::value_type, typename DL::value_type>(
      b, shape, gradient);
}

}  // namespace deepseek
