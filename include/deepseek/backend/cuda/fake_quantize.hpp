// SPDX-License-Identifier: Apache-2.0
// fake_quantize on the device: steps are checked, then numbers rounded one by one; backward has a
// warp or a block for each run of numbers with one step, then the runs that share a step are added
// in order. See ops/fake_quantize.hpp.
#pragma once

#include "deepseek/backend/cuda/unless_fault.hpp"
#include "deepseek/backend/rows/fake_quantize.hpp"
#include "deepseek/backend/rows/row_sum.hpp"
#include "deepseek/core/math.hpp"

namespace deepseek {

namespace cuda_fake_quantize {

inline void raise_step(const fault& f) {
  fail(error_code::nonfinite, f.object, ": a step is ", f.number,
       "; steps are exp(log_step), positive numbers: make the model with fake_quantize, or lower "
       "the "
       "learning rate");
}

template <class A, class S>
struct check_steps {
  static constexpr int threads = 256;
  S log_step;
  fake_grid grid;
  const char* op;
  fault_place faults;
  index_t blocks() const { return blocks_of(log_step.size(), threads); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t i = block.index() * threads + block.rank(), groups = log_step.extent(1);
    if (i >= log_step.size()) return;
    fault f;
    f.object = op;
    f.number = static_cast<double>(grid.step(static_cast<A>(log_step(i / groups, i % groups))));
    if (!(f.number > 0 && f.number < math::infinity<double>)) faults.tell(block, f);
  }
};
template <class A, DeviceBackend B, class S>
void require_steps(const B& b, const S& log_step, const fake_grid& grid, const char* op) {
  // Rows that share their steps are looked at once.
  const S own = log_step.stride(0) == 0 ? S(rows(log_step, 0, 1)) : log_step;
  b.launch(check_steps<A, S>{own, grid, op, b.faults().raising(raise_step)});
}

template <class X, class S, class Y>
struct forward {
  using A = accumulate_t<typename X::value_type>;
  fake_inputs<X, S> in;
  fake_grid grid;
  Y y;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    const index_t m = i / y.extent(1), k = i % y.extent(1);
    const A step = grid.step(static_cast<A>(in.log_step(m, k / grid.group)));
    y(m, k) =
        static_cast<typename Y::value_type>(fake_number(grid, static_cast<A>(in.x(m, k)), step));
  }
};

// Run r: group r % groups of row r / groups.
template <class In, class DY, class DX, class Sums>
struct run_backward {
  using A = accumulate_t<typename std::remove_cvref_t<decltype(In::x)>::value_type>;
  In in;
  fake_grid grid;
  DY dy;
  DX dx;
  Sums sums;  // [M, groups]
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t r) const {
    const index_t groups = sums.extent(1), m = r / groups, g = r % groups, width = dx.extent(1);
    const index_t first = g * grid.group;
    const index_t end = first + grid.group < width ? first + grid.group : width;
    const A step = grid.step(static_cast<A>(in.log_step(m, g)));
    const double sum =
        fake_run_backward(team, row_part(in.x, m, first, end), row_part(dy, m, first, end),
                          row_part(dx, m, first, end), grid, step);
    if (team.rank() == 0) sums(m, g) = sum;
  }
};

// Step s: rows first .. first + together - 1 share it.
template <class In, class Sums, class DS>
struct add_runs {
  using A = accumulate_t<typename std::remove_cvref_t<decltype(In::x)>::value_type>;
  In in;
  fake_grid grid;
  Sums sums;
  DS dlog_step;
  index_t together;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t s) const {
    const index_t groups = sums.extent(1), first = s / groups * together, g = s % groups;
    const index_t width = in.x.extent(1), k0 = g * grid.group;
    const index_t numbers = k0 + grid.group < width ? grid.group : width - k0;
    const double step = static_cast<double>(grid.step(static_cast<A>(in.log_step(first, g))));
    const double sum = row_sum(team, together, [&](index_t m) { return sums(first + m, g); }) *
                       fake_step_factor(grid, step, numbers);
    if (team.rank() != 0) return;
    auto& to = dlog_step(first, g);
    to = static_cast<typename DS::value_type>(static_cast<A>(to) + static_cast<A>(sum));
  }
};

}  // namespace cuda_fake_quantize

template <DeviceBackend B, class X, class S, class Y>
void fake_quantize_impl(const B& b, const fake_inputs<X, S>& in, const fake_grid& grid,
                        const Y& y) {
  using A = accumulate_t<typename X::value_type>;
  cuda_fake_quantize::require_steps<A>(b, in.log_step, grid, "fake_quantize");
  run_each_element(b, y.size(), unless_fault(b, cuda_fake_quantize::forward<X, S, Y>{in, grid, y}));
}

template <DeviceBackend B, class X, class S, class DY, class DX, class DS>
void fake_quantize_backward_impl(const B& b, const fake_inputs<X, S>& in, const fake_grid& grid,
                                 const DY& dy, const fake_gradients<DX, DS>& out) {
  using In = fake_inputs<X, S>;
  using Sums = view<double, typename B::space, dyn, dyn>;
  cuda_fake_quantize::require_steps<accumulate_t<typename X::value_type>>(b, in.log_step, grid,
                                                                          "fake_quantize_backward");
  const index_t count = in.x.extent(0), groups = grid.groups_of(in.x.extent(1));
  const index_t together = out.dlog_step.stride(0) == 0 ? count : 1;
  const scope freed(b.workspace());
  const Sums sums = b.workspace().template make<double, dyn, dyn>(count, groups);
  const index_t longest = grid.group < in.x.extent(1) ? grid.group : in.x.extent(1);
  run_each_row(b, count * groups, longest,
               unless_fault(b, cuda_fake_quantize::run_backward<In, DY, DX, Sums>{in, grid, dy,
                                                                                  out.dx, sums}));
  run_each_row(b, count / together * groups, together,
               unless_fault(b, cuda_fake_quantize::add_runs<In, Sums, DS>{
                                   in, grid, sums, out.dlog_step, together}));
}

}  // namespace deepseek
