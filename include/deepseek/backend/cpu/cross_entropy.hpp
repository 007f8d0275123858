// SPDX-License-Identifier: Apache-2.0
// cross_entropy on the cpu: exponentials in registers, chunks of 64 rows on all threads; float,
// bf16 and f16 in any mixture, or double. The gradient keeps a row's exponentials in dx, or in a
// row of scratch where dx is narrower.
#pragma once

#include "deepseek/backend/cpu/softmax.hpp"
#include "deepseek/backend/reference/cross_entropy.hpp"
#include "deepseek/backend/rows/row_at.hpp"

#include <limits>

namespace deepseek {

// The maximum and the sum of e^(x - maximum); store(v, e) sees each register of exponentials, 0
// beyond the row. A NaN that the maximum passes over comes back through the sum.
template <class X, class Store>
row_exponentials<accumulate_t<X>> sum_exponentials(const X* x, index_t n, const Store& store) {
  using T = accumulate_t<X>;
  using pack = simd::pack<T>;
  const T top = kernels::row_max(x, n);
  const pack shift = pack::broadcast(top);
  const auto [sum] = simd::row_sums<T, 1>(
      n, [&](index_t v, index_t rest) __attribute__((always_inline)) {
        const pack away = simd::load_wide(x + v, rest) - shift;
        const pack e = simd::first_lanes(simd::exp(away), rest, T(0));
        store(v, e);
        return std::array{e};
      });
  return {top, sum};
}

template <class X, class Targets, class L>
cross_entropy_result cross_entropy_impl(const cpu& b, const X& logits, const Targets& targets,
                                        const L& losses,
                                        cross_entropy_spec spec) requires Widenable<X, L> {
  using T = lanes_of<X>;
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
        const auto* row = row_at(logits, i).data();
        const auto e = sum_exponentials(row, columns, [](index_t, simd::pack<T>) {});
        loss = std::log(e.sum) - (convert_to<T>(row[targets(i)]) - e.most);
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
template <class X, class DX, class T>
void cross_entropy_gradient_run(const X* x, DX* dx, index_t n, index_t target, T factor) {
  using pack = simd::pack<T>;
  T* const kept = kernels::wide_row(dx, n);
  const auto e =
      sum_exponentials(x, n, [&](index_t v, pack values) { values.store_up_to(kept + v, n - v); });
  const T at_target = (kept[target] / e.sum - T(1)) * factor;
  const pack share = pack::broadcast(T(1) / e.sum), by = pack::broadcast(factor);
  simd::along_row<T>(
      n, [&](index_t v, index_t rest) __attribute__((always_inline)) {
        simd::store_narrow(dx + v, pack::load_up_to(kept + v, rest) * share * by, rest);
      });
  dx[target] = convert_to<DX>(at_target);
}

template <class X, class Targets, class DX>
void cross_entropy_gradient_impl(const cpu& b, const X& logits, const Targets& targets,
                                 const DX& dlogits,
                                 cross_entropy_gradient_spec spec) requires Widenable<X, DX> {
  using T = lanes_of<DX>;
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
      auto* const out = row_at(dlogits, i).data();
      if (targets(i) == spec.ignore) {
        std::fill(out, out + columns, typename DX::value_type(T(0)));
      } else {
        cross_entropy_gradient_run(row_at(logits, i).data(), out, columns, targets(i), factor);
      }
    }
  });
}

}  // namespace deepseek
