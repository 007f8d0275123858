// SPDX-License-Identifier: Apache-2.0
// cross_entropy on the cpu: exponentials in registers, chunks of 64 rows on all threads.
#pragma once

#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/cpu/vector_math.hpp"
#include "deepseek/backend/reference/cross_entropy.hpp"
#include "deepseek/backend/rows/row_at.hpp"

#include <limits>

namespace deepseek {

// Up to width elements; the lanes beyond n are -inf, whose exponential is 0.
template <class T>
DEEPSEEK_INLINE simd::pack<T> load_exponents(const T* p, index_t n) {
  constexpr int width = simd::pack<T>::width;
  if (n >= width) return simd::pack<T>::load(p);
  T lanes[width];
  for (int i = 0; i < width; ++i) lanes[i] = i < n ? p[i] : -std::numeric_limits<T>::infinity();
  return simd::pack<T>::load(lanes);
}

// The maximum and the sum of e^(x - maximum); store(v, e) sees each register of exponentials.
// A NaN that the maximum passes over comes back through the sum.
template <class T, class Store>
row_exponentials<T> sum_exponentials(const T* x, index_t n, const Store& store) {
  using pack = simd::pack<T>;
  pack most = pack::broadcast(-std::numeric_limits<T>::infinity());
  for (index_t v = 0; v < n; v += pack::width) most = max(load_exponents(x + v, n - v), most);
  const T top = reduce_max(most);
  pack sum = pack::zero();
  for (index_t v = 0; v < n; v += pack::width) {
    const pack e = simd::exp(load_exponents(x + v, n - v) - pack::broadcast(top));
    sum = sum + e;
    store(v, e);
  }
  return {top, reduce_sum(sum)};
}

template <class X, class Targets, class L>
cross_entropy_result cross_entropy_impl(const cpu& b, const X& logits, const Targets& targets,
                                        const L& losses, cross_entropy_spec spec) requires
    Packable<X> && std::is_same_v<typename X::value_type, accumulate_t<typename L::value_type>> {
  using T = typename X::value_type;
  if (!unit_rows(logits)) {
    return cross_entropy_impl(static_cast<const reference&>(b), logits, targets, losses, spec);
  }
  const index_t n = targets.extent(0), columns = logits.extent(1);
  const index_t counted = count_targets(targets, columns, spec.ignore, "cross_entropy: targets");
  const index_t chunks = (n + cross_entropy_rows - 1) / cross_entropy_rows;
  scope freed(b.workspace());
  const auto sums = b.workspace().template make<double, dyn>(chunks);
  b.parallel(chunks, [&](index_t chunk) {
    double sum = 0;
    const index_t first = chunk * cross_entropy_rows;
    for (index_t i = first; i < std::min(n, first + cross_entropy_rows); ++i) {
      T loss = 0;
      if (targets(i) != spec.ignore) {
        const T* row = row_at(logits, i).data();
        const auto e = sum_exponentials(row, columns, [](index_t, simd::pack<T>) {});
        loss = std::log(e.sum) - (row[targets(i)] - e.most);
      }
      losses(i) = convert_to<typename L::value_type>(loss);
      sum += static_cast<double>(loss);
    }
    sums(chunk) = sum;
  });
  double sum = 0;
  for (index_t c = 0; c < chunks; ++c) sum += sums(c);
  return {counted > 0 ? sum / static_cast<double>(counted) : 0.0, counted};
}

// One row of the gradient, in place where dx is x.
template <class T>
void cross_entropy_gradient_run(const T* x, T* dx, index_t n, index_t target, T factor) {
  using pack = simd::pack<T>;
  const auto e =
      sum_exponentials(x, n, [&](index_t v, pack values) { values.store_up_to(dx + v, n - v); });
  const T at_target = (dx[target] / e.sum - T(1)) * factor;
  const pack share = pack::broadcast(T(1) / e.sum), by = pack::broadcast(factor);
  for (index_t v = 0; v < n; v += pack::width) {
    (pack::load_up_to(dx + v, n - v) * share * by).store_up_to(dx + v, n - v);
  }
  dx[target] = at_target;
}

template <class X, class Targets, class DX>
void cross_entropy_gradient_impl(const cpu& b, const X& logits, const Targets& targets,
                                 const DX& dlogits, cross_entropy_gradient_spec spec) requires
    Packable<X> && std::is_same_v<typename X::value_type, typename DX::value_type> {
  using T = typename X::value_type;
  if (!unit_rows(logits, dlogits)) {
    return cross_entropy_gradient_impl(static_cast<const reference&>(b), logits, targets, dlogits,
                                       spec);
  }
  const index_t columns = logits.extent(1);
  const index_t found =
      count_targets(targets, columns, spec.ignore, "cross_entropy_gradient: targets");
  const index_t counted = spec.counted > 0 ? spec.counted : found;
  const T factor = counted > 0 ? static_cast<T>(spec.scale / static_cast<double>(counted)) : T(0);
  parallel_rows(b, targets.extent(0), rows_per_task(columns), [&](index_t first, index_t end) {
    for (index_t i = first; i < end; ++i) {
      T* out = row_at(dlogits, i).data();
      if (targets(i) == spec.ignore) {
        std::fill(out, out + columns, T(0));
      } else {
        cross_entropy_gradient_run(row_at(logits, i).data(), out, columns, targets(i), factor);
      }
    }
  });
}

}  // namespace deepseek
