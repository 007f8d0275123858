// SPDX-License-Identifier: Apache-2.0
// cross_entropy on the device: the maximum and the sum of exponentials of a row in one pass (a
// thread scales its sum down where its maximum grows), 16 bytes at a time where rows allow it. The
// forward run reads the logits once; the gradient once where a row is kept in registers
// (held_rows.hpp), else twice. How many rows count stays on the device for the gradient. See
// ops/cross_entropy.hpp.
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

// The gradient of one element of a row.
template <class A>
struct row_gradient {
  exponentials<A> e;
  A factor;
  index_t target;
  DEEPSEEK_HOST_DEVICE A operator()(A x, index_t at) const {
    return (std::exp(x - e.most) / e.sum - (at == target ? A(1) : A(0))) * factor;
  }
};

template <class X, class Targets, class DX>
struct gradients_of {
  using T = typename X::value_type;
  using out = typename DX::value_type;
  using A = accumulate_t<out>;
  static constexpr int count = run_length<T, out>();
  X logits;
  Targets targets;
  DX dlogits;
  const index_t* counted;
  cross_entropy_gradient_spec spec;
  bool whole;
  fault_place faults;

  // The row is read again for its gradients.
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    if (faults.found()) return;
    const row_span span{static_cast<int>(dlogits.extent(1)), whole};
    const auto x = slice(logits, row);
    const auto dx = slice(dlogits, row);
    const index_t target = targets(row);
    if (target == spec.ignore) return write_zeros(team, dx, span);
    const row_gradient<A> of{exponentials_of_row<A, count>(team, x, whole), factor(), target};
    for (int first = team.rank() * count; first < span.n; first += team.size() * count) {
      alignas(vector_bytes) T run[count];
      load_part<count>(x, first, span, run);
      write(dx, first, span, run, of);
    }
  }
  // The row is kept.
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row, const row_span& span) const {
    if (faults.found()) return;
    const auto dx = slice(dlogits, row);
    const index_t target = targets(row);
    if (target == spec.ignore) return write_zeros(team, dx, span);
    held_row<T, count> x;
    x.load(team, slice(logits, row), span);
    const A most = x.template max<A>(team, span);
    const A sum = x.sum(team, span, [&](T v) { return std::exp(static_cast<A>(v) - most); });
    const row_gradient<A> of{{most, sum}, factor(), target};
    x.each_run(team, span, [&](int first, const T* run) { write(dx, first, span, run, of); });
  }

 private:
  DEEPSEEK_HOST_DEVICE A factor() const {
    const index_t n = spec.counted > 0 ? spec.counted : *counted;
    return n > 0 ? static_cast<A>(spec.scale / static_cast<double>(n)) : A(0);
  }
  template <class Row>
  DEEPSEEK_HOST_DEVICE static void write(const Row& dx, int first, const row_span& span,
                                         const T* run, const row_gradient<A>& of) {
    alignas(vector_bytes) out result[count];
    for (int k = 0; k < count; ++k) {
      result[k] = convert_to<out>(of(static_cast<A>(run[k]), first + k));
    }
    store_part<count>(dx, first, span, result);
  }
  template <class Team, class Row>
  DEEPSEEK_HOST_DEVICE static void write_zeros(const Team& team, const Row& dx,
                                               const row_span& span) {
    alignas(vector_bytes) out zeros[count];
    for (int k = 0; k < count; ++k) zeros[k] = convert_to<out>(A(0));
    for (int first = team.rank() * count; first < span.n; first += team.size() * count) {
      store_part<count>(dx, first, span, zeros);
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
  const bool whole = moves_whole(logits) && moves_whole(dlogits);
  const gradients_of<X, Targets, DX> gradients{logits, targets, dlogits,   counted.data(),
                                               spec,   whole,   b.faults()};
  if constexpr (may_be_held<typename X::value_type, typename DX::value_type>) {
    if (run_each_held_row(b, {n, columns, whole}, gradients)) return;
  }
  run_each_row(b, n, columns, gradients);
}

}  // namespace deepseek
