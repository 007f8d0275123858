// SPDX-License-Identifier: Apache-2.0
// fake_quantize and its backward on the reference backend: plain loops; see ops/fake_quantize.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/ops/fake_quantize.hpp"

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
    const A s = grid.step(static_cast<A>(in.log_step(m, g))), zero = static_cast<A>(grid.zero);
    for (index_t k = k0; k < k1; ++k) {
      const A code = grid.clamped(grid.code(static_cast<A>(in.x(m, k)) / s));
      y(m, k) = static_cast<typename Y::value_type>((code - zero) * s);
    }
  });
}

// dx of one run of numbers; returns what they give to the logarithm of their step, before the
// factor.
template <class X, class DY, class DX>
double fake_run_backward(const X& x, const DY& dy, const DX& dx, const fake_grid& grid,
                         accumulate_t<typename X::value_type> step) {
  using A = accumulate_t<typename X::value_type>;
  const A zero = static_cast<A>(grid.zero);
  double sum = 0;
  for (index_t k = 0; k < x.extent(0); ++k) {
    const A scaled = static_cast<A>(x(k)) / step, d = static_cast<A>(dy(k));
    const A code = grid.code(scaled), cut = grid.clamped(code);
    const bool inside = code == cut;
    sum += static_cast<double>(d) * static_cast<double>(inside ? code - zero - scaled : cut - zero);
    dx(k) = static_cast<typename DX::value_type>(inside ? d : A(0));
  }
  return sum;
}

template <class V>
auto row_part(const V& v, index_t m, index_t first, index_t end) {
  return view<typename V::element_type, host, dyn>(v.data() + m * v.stride(0) + first * v.stride(1),
                                                   {end - first}, {v.stride(1)});
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
        sum += fake_run_backward(row_part(in.x, m, k0, k1), row_part(dy, m, k0, k1),
                                 row_part(out.dx, m, k0, k1), grid, s);
      }
      sum *= static_cast<double>(s) / std::sqrt(static_cast<double>(k1 - k0) * grid.most);
      out.dlog_step(first, g) = static_cast<typename DS::value_type>(
          static_cast<A>(out.dlog_step(first, g)) + static_cast<A>(sum));
    }
  }
}

}  // namespace deepseek
