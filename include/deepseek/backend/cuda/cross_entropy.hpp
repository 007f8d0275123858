// SPDX-License-Identifier: Apache-2.0
// cross_entropy on the device: the maximum and the sum of exponentials of a row in one pass (a
// thread scales its sum down where its maximum grows), 16 bytes at a time where rows allow it. The
// forward run reads the logits once; the gradient once more. How many rows count stays on the
// device for the gradient. See ops/cross_entropy.hpp.
#pragma once

#include "deepseek/backend/cuda/elements.hpp"
#include "deepseek/backend/cuda/held_rows.hpp"
#include "deepseek/backend/cuda/sums.hpp"
#include "deepseek/backend/cuda/targets.hpp"
#include "deepseek/core/math.hpp"
#include "deepseek/ops/cross_entropy.hpp"

#include <cmath>

namespace deepseek {

namespace cuda_cross_entropy {

inline constexpr index_t chunk = 64;  // rows of a partial sum of the mean

// The maximum of a row and sum e^(x - maximum); each row is seen in runs of Count elements.
template <class A>
struct exponentials {
  A most, sum;
};
template <class A, int Count, class Team, class Row>
DEEPSEEK_HOST_DEVICE exponentials<A> exponentials_of_row(const Team& team, const Row& row,
                                                         bool whole) {
  using T = typename Row::value_type;
  constexpr A lowest = -math::infinity<A>;
  A most = lowest, sum = 0;
  const row_span span{static_cast<int>(row.extent(0)), whole};
  for (int first = team.rank() * Count; first < span.n; first += team.size() * Count) {
    alignas(vector_bytes) T run[Count];
    load_part<Count>(row, first, span, run);
    A higher = most;
    for (int k = 0; k < Count; ++k) {
      const A v = static_cast<A>(run[k]);
      if (first + k < span.n && v > higher) higher = v;
    }
    const A shift = higher == lowest ? A(0) : higher;  // -inf - -inf would be NaN
    A here = 0;
    for (int k = 0; k < Count; ++k) {
      if (first + k < span.n) here += std::exp(static_cast<A>(run[k]) - shift);
    }
    sum = (most == lowest ? A(0) * sum : std::exp(most - shift) * sum) + here;
    most = higher;
  }
  const A all = team.max(most);
  return {all, team.sum(most == lowest ? A(0) * sum : std::exp(most - all) * sum)};
}

// Losses of rows, in double before they are rounded too.
template <class X, class Targets, class L, class Each>
struct losses_of {
  static constexpr int count = run_length<typename X::value_type>();
  X logits;
  Targets targets;
  L losses;
  Each each;  // [n, 1], double
  std::int32_t ignore;
  bool whole;
  fault_place faults;

  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    using A = accumulate_t<typename L::value_type>;
    if (faults.found()) return;
    A loss = 0;
    if (targets(row) != ignore) {
      const auto x = slice(logits, row);
      const auto e = exponentials_of_row<A, count>(team, x, whole);
      loss = std::log(e.sum) - (static_cast<A>(x(targets(row))) - e.most);
    }
    if (team.rank() != 0) return;
    losses(row) = convert_to<typename L::value_type>(loss);
    each(row, 0) = static_cast<double>(loss);
  }
};

template <class Each, class Sums>
struct chunks {
  Each each;
  Sums sums;  // [chunks, 1]
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    const index_t n = each.extent(0), last = (i + 1) * chunk < n ? (i + 1) * chunk : n;
    double sum = 0;
    for (index_t row = i * chunk; row < last; ++row) sum += each(row, 0);
    sums(i, 0) = sum;
  }
};

template <class X, class Targets, class DX>
struct gradients_of {
  static constexpr int count = run_length<typename X::value_type, typename DX::value_type>();
  X logits;
  Targets targets;
  DX dlogits;
  const index_t* counted;
  cross_entropy_gradient_spec spec;
  bool whole;
  fault_place faults;

  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    using T = typename DX::value_type;
    using A = accumulate_t<T>;
    if (faults.found()) return;
    const row_span span{static_cast<int>(dlogits.extent(1)), whole};
    const auto x = slice(logits, row);
    const auto dx = slice(dlogits, row);
    const index_t target = targets(row) == spec.ignore ? -1 : targets(row);
    const index_t n = spec.counted > 0 ? spec.counted : *counted;
    const A factor = n > 0 ? static_cast<A>(spec.scale / static_cast<double>(n)) : A(0);
    exponentials<A> e{A(0), A(1)};
    if (target >= 0) e = exponentials_of_row<A, count>(team, x, whole);
    for (int first = team.rank() * count; first < span.n; first += team.size() * count) {
      alignas(vector_bytes) typename X::value_type run[count];
      alignas(vector_bytes) T out[count];
      if (target >= 0) load_part<count>(x, first, span, run);
      for (int k = 0; k < count; ++k) {
        const A hot = first + k == target ? A(1) : A(0);
        const A share = target < 0 ? A(0) : std::exp(static_cast<A>(run[k]) - e.most) / e.sum;
        out[k] = convert_to<T>(target < 0 ? A(0) : (share - hot) * factor);
      }
      store_part<count>(dx, first, span, out);
    }
  }
};

}  // namespace cuda_cross_entropy

template <DeviceBackend B, class X, class Targets, class L>
cross_entropy_result cross_entropy_impl(const B& b, const X& logits, const Targets& targets,
                                        const L& losses, cross_entropy_spec spec) {
  using namespace cuda_cross_entropy;
  using Sums = view<double, typename B::space, dyn, 1>;
  const index_t n = targets.extent(0), columns = logits.extent(1);
  const scope freed(b.workspace());
  const auto counted = b.workspace().template make<index_t, 1>();
  const auto sum = b.workspace().template make<double, 1>();
  const Sums each = b.workspace().template make<double, dyn, 1>(n);
  const Sums sums = b.workspace().template make<double, dyn, 1>(blocks_of(n, chunk));
  count_targets_on(b, targets, {columns, spec.ignore, "cross_entropy: targets"}, counted.data());
  run_each_row(b, n, columns,
               losses_of<X, Targets, L, Sums>{logits, targets, losses, each, spec.ignore,
                                              moves_whole(logits), b.faults()});
  run_each_element(b, sums.extent(0), cuda_cross_entropy::chunks<Sums, Sums>{each, sums});
  ordered_sum(b, sums, sum);
  const index_t found = b.read(counted.data());
  return {found > 0 ? b.read(sum.data()) / static_cast<double>(found) : 0.0, found};
}

template <DeviceBackend B, class X, class Targets, class DX>
void cross_entropy_gradient_impl(const B& b, const X& logits, const Targets& targets,
                                 const DX& dlogits, cross_entropy_gradient_spec spec) {
  using namespace cuda_cross_entropy;
  const index_t n = targets.extent(0), columns = logits.extent(1);
  const scope freed(b.workspace());
  const auto counted = b.workspace().template make<index_t, 1>();
  count_targets_on(b, targets, {columns, spec.ignore, "cross_entropy_gradient: targets"},
                   counted.data());
  run_each_row(
      b, n, columns,
      gradients_of<X, Targets, DX>{logits, targets, dlogits, counted.data(), spec,
                                   moves_whole(logits) && moves_whole(dlogits), b.faults()});
}

}  // namespace deepseek
