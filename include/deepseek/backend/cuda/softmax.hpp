// SPDX-License-Identifier: Apache-2.0
// softmax on the device: a row kept in registers (held_rows.hpp); longer rows and double by the row
// bodies of backend/rows over a warp or a block. See ops/softmax.hpp.
#pragma once

#include "deepseek/backend/cuda/held_rows.hpp"
#include "deepseek/backend/rows/softmax.hpp"
#include "deepseek/ops/softmax.hpp"

namespace deepseek {

namespace cuda_softmax {

template <class X, class Y>
struct forward {
  X x;
  Y y;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    softmax_row(team, slice(x, row), slice(y, row));
  }
};

template <class Y, class DY, class DX>
struct backward {
  Y y;
  DY dy;
  DX dx;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    softmax_backward_row(team, slice(y, row), slice(dy, row), slice(dx, row));
  }
};

template <class X, class Y>
struct held_forward {
  static constexpr int count = run_length<typename X::value_type, typename Y::value_type>();
  X x;
  Y y;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row, const row_span& span) const {
    using T = typename X::value_type;
    using out = typename Y::value_type;
    using A = accumulate_t<out>;
    held_row<T, count> held;
    held.load(team, slice(x, row), span);
    const auto to = slice(y, row);
    const A most = held.template max<A>(team, span);
    const A shift = most == -math::infinity<A> ? A(0) : most;  // -inf - -inf would be NaN
    const A total = held.sum(team, span, [&](T v) { return std::exp(static_cast<A>(v) - shift); });
    const A scale = total == A(0) ? A(0) : A(1) / total;
    held.each_run(team, span, [&](int first, const T* run) {
      alignas(vector_bytes) out result[count];
      for (int k = 0; k < count; ++k) {
        result[k] = static_cast<out>(std::exp(static_cast<A>(run[k]) - shift) * scale);
      }
      store_part<count>(to, first, span, result);
    });
  }
};

template <class Y, class DY, class DX>
struct held_backward {
  static constexpr int count =
      run_length<typename Y::value_type, typename DY::value_type, typename DX::value_type>();
  Y y;
  DY dy;
  DX dx;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row, const row_span& span) const {
    using T = typename Y::value_type;
    using D = typename DY::value_type;
    using out = typename DX::value_type;
    using A = accumulate_t<out>;
    held_row<T, count> p;
    held_row<D, count> d;
    p.load(team, slice(y, row), span);
    d.load(team, slice(dy, row), span);
    const auto to = slice(dx, row);
    const A dot = sum_of_both<A>(team, span, p, d, [](A a, A b) { return b * a; });
    each_of_both(team, span, p, d, [&](int first, const T* ps, const D* ds) {
      alignas(vector_bytes) out result[count];
      for (int k = 0; k < count; ++k) {
        result[k] = static_cast<out>(static_cast<A>(ps[k]) * (static_cast<A>(ds[k]) - dot));
      }
      store_part<count>(to, first, span, result);
    });
  }
};

}  // namespace cuda_softmax

template <DeviceBackend B, class X, class Y>
void softmax_impl(const B& b, const X& x, const Y& y) {
  if constexpr (may_be_held<typename X::value_type, typename Y::value_type>) {
    const row_shape shape{x.extent(0), x.extent(1), moves_whole(x) && moves_whole(y)};
    if (run_each_held_row(b, shape, cuda_softmax::held_forward<X, Y>{x, y})) return;
  }
  run_each_row(b, x.extent(0), x.extent(1), cuda_softmax::forward<X, Y>{x, y});
}

template <DeviceBackend B, class Y, class DY, class DX>
void softmax_backward_impl(const B& b, const Y& y, const DY& dy, const DX& dx) {
  if constexpr (may_be_held<typename Y::value_type, typename DY::value_type,
                            typename DX::value_type>) {
    const row_shape shape{y.extent(0), y.extent(1),
                          moves_whole(y) && moves_whole(dy) && moves_whole(dx)};
    if (run_each_held_row(b, shape, cuda_softmax::held_backward<Y, DY, DX>{y, dy, dx})) return;
  }
  run_each_row(b, y.extent(0), y.extent(1), cuda_softmax::backward<Y, DY, DX>{y, dy, dx});
}

}  // namespace deepseek
