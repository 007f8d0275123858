// SPDX-License-Identifier: Apache-2.0
// cross_entropy on the reference backend: plain loops; see ops/cross_entropy.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/ops/cross_entropy.hpp"

#include <cmath>

namespace deepseek {

inline constexpr index_t cross_entropy_rows = 64;  // a chunk of the mean's sum

// How many targets are not ignored; each of those must name a column.
template <class Targets>
index_t count_targets(const Targets& targets, index_t columns, std::int32_t ignore,
                      const char* object) {
  index_t counted = 0;
  for (index_t i = 0; i < targets.extent(0); ++i) {
    const std::int32_t target = targets(i);
    if (target == ignore) continue;
    require(target >= 0 && target < columns, error_code::index_range, object, "[", i, "] is ",
            target, ", outside 0 .. ", columns - 1, "; pass a column of the logits, or ", ignore,
            " to leave the row out");
    ++counted;
  }
  return counted;
}

// The maximum of a row and sum e^(x - maximum).
template <class A>
struct row_exponentials {
  A most, sum;
};
template <class A, class X>
row_exponentials<A> exponentials_of(const X& x) {
  A most = convert_to<A>(x(0)), sum = 0;
  for (index_t v = 1; v < x.extent(0); ++v) {
    const A value = convert_to<A>(x(v));
    if (value > most || value != value) most = value;
  }
  for (index_t v = 0; v < x.extent(0); ++v) sum += std::exp(convert_to<A>(x(v)) - most);
  return {most, sum};
}

template <class X, class Targets, class L>
cross_entropy_result cross_entropy_impl(const reference&, const X& logits, const Targets& targets,
                                        const L& losses, cross_entropy_spec spec) {
  using A = accumulate_t<typename L::value_type>;
  const index_t counted =
      count_targets(targets, logits.extent(1), spec.ignore, "cross_entropy: targets");
  double sum = 0, chunk = 0;
  for (index_t i = 0; i < targets.extent(0); ++i) {
    A loss = 0;
    if (targets(i) != spec.ignore) {
      const auto e = exponentials_of<A>(slice(logits, i));
      loss = std::log(e.sum) - (convert_to<A>(logits(i, targets(i))) - e.most);
    }
    losses(i) = convert_to<typename L::value_type>(loss);
    chunk += static_cast<double>(loss);
    if ((i + 1) % cross_entropy_rows == 0) {
      sum += chunk;
      chunk = 0;
    }
  }
  return {counted > 0 ? (sum + chunk) / static_cast<double>(counted) : 0.0, counted};
}

template <class X, class Targets, class DX>
void cross_entropy_gradient_impl(const reference&, const X& logits, const Targets& targets,
                                 const DX& dlogits, cross_entropy_gradient_spec spec) {
  using T = typename DX::value_type;
  using A = accumulate_t<T>;
  const index_t found =
      count_targets(targets, logits.extent(1), spec.ignore, "cross_entropy_gradient: targets");
  const index_t counted = spec.counted > 0 ? spec.counted : found;
  const A factor = counted > 0 ? static_cast<A>(spec.scale / static_cast<double>(counted)) : A(0);
  for (index_t i = 0; i < targets.extent(0); ++i) {
    if (targets(i) == spec.ignore) {
      for (index_t v = 0; v < dlogits.extent(1); ++v) dlogits(i, v) = convert_to<T>(A(0));
      continue;
    }
    const auto e = exponentials_of<A>(slice(logits, i));
    for (index_t v = 0; v < dlogits.extent(1); ++v) {
      const A share = std::exp(convert_to<A>(logits(i, v)) - e.most) / e.sum;
      dlogits(i, v) = convert_to<T>((share - (v == targets(i) ? A(1) : A(0))) * factor);
    }
  }
}

}  // namespace deepseek
