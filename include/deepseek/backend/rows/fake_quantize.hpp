// SPDX-License-Identifier: Apache-2.0
// The bodies of fake_quantize (formulas in ops/fake_quantize.hpp): one number, or one run of
// numbers with one step over a team; shared by reference and cuda.
#pragma once

#include "deepseek/core/dtype.hpp"
#include "deepseek/core/team.hpp"
#include "deepseek/ops/fake_quantize.hpp"

#include <cmath>

namespace deepseek {

// x as what its code stands for.
template <class A>
DEEPSEEK_HOST_DEVICE A fake_number(const fake_grid& grid, A x, A step) {
  return (grid.clamped(grid.code(x / step)) - static_cast<A>(grid.zero)) * step;
}

// f of the gradient of a step's logarithm, times the step.
DEEPSEEK_HOST_DEVICE inline double fake_step_factor(const fake_grid& grid, double step,
                                                    index_t numbers) {
  return step / std::sqrt(static_cast<double>(numbers) * grid.most);
}

// Elements first .. end - 1 of row m.
template <class V>
DEEPSEEK_HOST_DEVICE auto row_part(const V& v, index_t m, index_t first, index_t end) {
  return view<typename V::element_type, typename V::space, dyn>(
      v.data() + m * v.stride(0) + first * v.stride(1), {end - first}, {v.stride(1)});
}

// dx of one run of numbers; returns what they give to the logarithm of their step, before the
// factor.
template <class Team, class X, class DY, class DX>
DEEPSEEK_HOST_DEVICE double fake_run_backward(const Team& team, const X& x, const DY& dy,
                                              const DX& dx, const fake_grid& grid,
                                              accumulate_t<typename X::value_type> step) {
  using A = accumulate_t<typename X::value_type>;
  const A zero = static_cast<A>(grid.zero);
  double sum = 0;
  for (index_t k = team.rank(); k < x.extent(0); k += team.size()) {
    const A scaled = static_cast<A>(x(k)) / step, d = static_cast<A>(dy(k));
    const A code = grid.code(scaled), cut = grid.clamped(code);
    const bool inside = code == cut;
    sum += static_cast<double>(d) * static_cast<double>(inside ? code - zero - scaled : cut - zero);
    dx(k) = static_cast<typename DX::value_type>(inside ? d : A(0));
  }
  return team.sum(sum);
}

}  // namespace deepseek
