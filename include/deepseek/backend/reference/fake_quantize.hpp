// SPDX-License-Identifier: Apache-2.0
// fake_quantize and its backward on the reference backend: plain loops; see ops/fake_quantize.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/fake_quantize.hpp"

namespace deepseek {

// f(row, first column, end, group) for each run of numbers with one step.
template <class X, class F>
void for_each_fake_group(const X& x, const fake_grid& grid, const F& f) {
  for (index_t m = 0; m < x.extent(0); ++m) {
    for (index_t g = 0; g < grid.groups_of(x.extent(1)); ++g) {
      f(m, g * grid.group, std::min(x.extent(1), (g + 1) * grid.group), g);
    }
  }
}

template <class A, class S>
void require_fake_steps(const S& log_step, const fake_grid& grid, const char* op) {
  for (index_t m = 0; m < log_step.extent(0); ++m) {
    for (index_t g = 0; g < log_step.extent(1); ++g) {
      require_fake_step(static_cast<double>(grid.step(static_cast<A>(log_step(m, g)))), op);
    }
  }
}

template <class X, class S, class Y>
void fake_quantize_impl(const reference&, const fake_inputs<X, S>& in, const fake_grid& grid,
                        const Y& y) {
  using A = accumulate_t<typename X::value_type>;
  require_fake_steps<A>(in.log_step, grid, "fake_quantize");
  for_each_fake_group(in.x, grid, [&](index_t m, index_t k0, index_t k1, index_t g) {
    const A s = grid.step(static_cast<A>(in.log_step(m, g)));
    for (index_t k = k0; k < k1; ++k) {
      y(m, k) =
          static_cast<typename Y::value_type>(fake_number(grid, static_cast<A>(in.x(m, k)), s));
    }
  });
}

// Rows that share a step are summed before they are added: once, whatever was there.
template <class X, class S, class DY, class DX, class DS>
void fake_quantize_backward_impl(const reference&, const fake_inputs<X, S>& in,
                                 const fake_grid& grid, const DY& dy,
                                 const fake_gradients<DX, DS>& out) {
  using A = accumulate_t<typename X::value_type>;
  require_fake_steps<A>(in.log_step, grid, "fake_quantize_backward");
  const index_t width = in.x.extent(1);
  const index_t together = out.dlog_step.stride(0) == 0 ? in.x.extent(0) : 1;
  for (index_t first = 0; first < in.x.extent(0); first += together) {
    for (index_t g = 0; g < grid.groups_of(width); ++g) {
      const A s = grid.step(static_cast<A>(in.log_step(first, g)));
      const index_t k0 = g * grid.group, k1 = std::min(width, k0 + grid.group);
      double sum = 0;
      for (index_t m = first; m < first + together; ++m) {
        sum += fake_run_backward(serial_team{}, row_part(in.x, m, k0, k1), row_part(dy, m, k0, k1),
                                 row_part(out.dx, m, k0, k1), grid, s);
      }
      sum *= fake_step_factor(grid, static_cast<double>(s), k1 - k0);
      out.dlog_step(first, g) = static_cast<typename DS::value_type>(
          static_cast<A>(out.dlog_step(first, g)) + static_cast<A>(sum));
    }
  }
}

}  // namespace deepseek
