// SPDX-License-Identifier: Apache-2.0
// elastic_weights on host backends: plain loops; see ops/elastic_weights.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/backend/rows/row_at.hpp"
#include "deepseek/ops/elastic_weights.hpp"

namespace deepseek {

template <class In>
double elastic_penalty_impl(const reference&, const In& in, double lambda) {
  double sum = 0;
  for (index_t r = 0; r < row_count(in.w); ++r) {
    const auto w = row_at(in.w, r), anchor = row_at(in.anchor, r);
    const auto fisher = row_at(in.fisher, r);
    for (index_t i = 0; i < w.extent(0); ++i) {
      const double moved = convert_to<double>(w(i)) - convert_to<double>(anchor(i));
      sum += convert_to<double>(fisher(i)) * moved * moved;
    }
  }
  return lambda / 2 * sum;
}

template <class In, class DW>
void elastic_gradient_impl(const reference&, const In& in, const DW& dw, const elastic_spec& spec) {
  using T = typename DW::value_type;
  using A = accumulate_t<T>;
  const A by = static_cast<A>(spec.lambda * spec.factor);
  for (index_t r = 0; r < row_count(dw); ++r) {
    const auto w = row_at(in.w, r), anchor = row_at(in.anchor, r);
    const auto fisher = row_at(in.fisher, r);
    const auto out = row_at(dw, r);
    for (index_t i = 0; i < w.extent(0); ++i) {
      const A moved = convert_to<A>(w(i)) - convert_to<A>(anchor(i));
      out(i) = convert_to<T>(convert_to<A>(out(i)) + by * (convert_to<A>(fisher(i)) * moved));
    }
  }
}

template <class G, class F>
void fisher_update_impl(const reference&, const G& g, const F& fisher, const fisher_spec& spec) {
  using T = typename F::value_type;
  using A = accumulate_t<T>;
  const A keep = static_cast<A>(spec.decay), by = static_cast<A>(spec.factor);
  for (index_t r = 0; r < row_count(fisher); ++r) {
    const auto from = row_at(g, r);
    const auto to = row_at(fisher, r);
    for (index_t i = 0; i < to.extent(0); ++i) {
      const A x = convert_to<A>(from(i));
      to(i) = convert_to<T>(keep * convert_to<A>(to(i)) + by * (x * x));
    }
  }
}

}  // namespace deepseek
