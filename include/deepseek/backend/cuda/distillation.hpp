// SPDX-License-Identifier: Apache-2.0
// distillation on the device: both rows kept in registers (held_rows.hpp); longer rows and double
// by the row bodies of backend/rows over a warp or a block; means over rows in order; how many rows
// count stays on the device for the gradient. See ops/distillation.hpp.
#pragma once

#include "deepseek/backend/cuda/held_rows.hpp"
#include "deepseek/backend/cuda/sums.hpp"
#include "deepseek/backend/cuda/targets.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/backend/rows/distillation.hpp"
#include "deepseek/ops/distillation.hpp"

namespace deepseek {

namespace cuda_distillation {

// The column that a row is to hit: -1 without targets, -2 where the row does not count.
template <class Targets>
DEEPSEEK_HOST_DEVICE index_t target_at(const Targets& targets, index_t row, std::int32_t ignore) {
  if constexpr (is_view<Targets>) {
    return targets(row) == ignore ? -2 : targets(row);
  } else {
    return -1;
  }
}

template <class In, class... Out>
row_shape shape_of_rows(const In& in, const Out&... out) {
  const bool whole =
      moves_whole(in.student) && moves_whole(in.teacher) && (moves_whole(out) && ...);
  return {in.student.extent(0), in.student.extent(1), whole};
}

// As tempered (backend/rows), of a row that is held.
template <class A, class Team, class T, int Count>
DEEPSEEK_HOST_DEVICE tempered_denominator<A> tempered_held(const Team& team, const row_span& span,
                                                           const held_row<T, Count>& x, A by) {
  A largest = x.template max<A>(team, span);
  if (largest == -math::infinity<A>) largest = A(0);
  return {largest,
          x.sum(team, span, [&](T v) { return std::exp((static_cast<A>(v) - largest) * by); })};
}

// The soft and the hard loss of each row, before T^2.
template <class In, class Each>
struct losses_of {
  using S = typename decltype(In::student)::value_type;
  using T = typename decltype(In::teacher)::value_type;
  using A = accumulate_t<S>;
  static constexpr int count = run_length<S, T>();
  In in;
  Each each;  // [rows, 2]: hard, soft
  distillation_spec spec;
  fault_place faults;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    if (faults.found()) return;
    const index_t target = target_at(in.targets, row, spec.ignore);
    const auto s = slice(in.student, row);
    double hard = 0, soft = 0;
    if (target >= 0) hard = static_cast<double>(target_loss_row(team, s, target));
    if (target != -2) {
      soft = static_cast<double>(
          distillation_row(team, s, slice(in.teacher, row), 1 / spec.temperature));
    }
    if (team.rank() == 0) write(row, hard, soft);
  }
  // Both rows are kept.
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row, const row_span& span) const {
    if (faults.found()) return;
    const index_t target = target_at(in.targets, row, spec.ignore);
    const A by = static_cast<A>(1 / spec.temperature);
    const auto at = slice(in.student, row);
    A hard = 0, soft = 0;
    if (target != -2) {
      held_row<S, count> s;
      held_row<T, count> t;
      s.load(team, at, span);
      t.load(team, slice(in.teacher, row), span);
      if (target >= 0) {
        const auto of = tempered_held<A>(team, span, s, A(1));
        hard = std::log(of.total) - (static_cast<A>(at(target)) - of.largest);
      }
      const auto of_s = tempered_held<A>(team, span, s, by);
      const auto of_t = tempered_held<A>(team, span, t, by);
      soft = sum_of_both<A>(team, span, s, t, soft_part<A>(of_s, of_t, by));
    }
    if (team.rank() == 0) write(row, static_cast<double>(hard), static_cast<double>(soft));
  }

 private:
  DEEPSEEK_HOST_DEVICE void write(index_t row, double hard, double soft) const {
    each(row, 0) = hard;
    each(row, 1) = soft;
  }
};

template <class In, class DS>
struct gradients_of {
  using S = typename decltype(In::student)::value_type;
  using T = typename decltype(In::teacher)::value_type;
  using out = typename DS::value_type;
  using A = accumulate_t<out>;
  static constexpr int count = run_length<S, T, out>();
  In in;
  DS dstudent;
  distillation_gradient_spec spec;
  const index_t* counted;
  fault_place faults;

  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row) const {
    if (faults.found()) return;
    const auto to = slice(dstudent, row);
    const index_t target = target_at(in.targets, row, spec.of.ignore);
    if (target == -2) return write_zeros(team, to);
    distillation_gradient_row(team, slice(in.student, row), slice(in.teacher, row), to,
                              factors(target));
  }
  // Both rows are kept.
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t row, const row_span& span) const {
    if (faults.found()) return;
    const auto to = slice(dstudent, row);
    const index_t target = target_at(in.targets, row, spec.of.ignore);
    if (target == -2) return write_zeros(team, to);
    held_row<S, count> s;
    held_row<T, count> t;
    s.load(team, slice(in.student, row), span);
    t.load(team, slice(in.teacher, row), span);
    distillation_part<A> part(factors(target));
    part.of_s = tempered_held<A>(team, span, s, part.by);
    part.of_t = tempered_held<A>(team, span, t, part.by);
    if (part.target >= 0) part.plain = tempered_held<A>(team, span, s, A(1));
    each_of_both(team, span, s, t, [&](int first, const S* ss, const T* ts) {
      alignas(vector_bytes) out result[count];
      for (int k = 0; k < count; ++k) {
        result[k] = static_cast<out>(part(static_cast<A>(ss[k]), static_cast<A>(ts[k]), first + k));
      }
      store_part<count>(to, first, span, result);
    });
  }

 private:
  DEEPSEEK_HOST_DEVICE distillation_factors factors(index_t target) const {
    const index_t n = spec.counted > 0 ? spec.counted : *counted;
    const double by = n > 0 ? spec.scale / static_cast<double>(n) : 0.0;
    return {1 / spec.of.temperature, by * (1 - spec.of.hard) * spec.of.temperature,
            by * spec.of.hard, spec.of.hard > 0 ? target : -1};
  }
  template <class Team, class Row>
  DEEPSEEK_HOST_DEVICE static void write_zeros(const Team& team, const Row& to) {
    for (index_t v = team.rank(); v < to.extent(0); v += team.size()) {
      to(v) = convert_to<out>(0.0);
    }
  }
};

struct known {
  index_t* counted;
  index_t rows;
  DEEPSEEK_HOST_DEVICE void operator()(index_t) const { *counted = rows; }
};

template <DeviceBackend B, class In>
void count(const B& b, const In& in, std::int32_t ignore, index_t* counted) {
  if constexpr (is_view<std::remove_cvref_t<decltype(in.targets)>>) {
    count_targets_on(b, in.targets, {in.student.extent(1), ignore, "distillation: targets"},
                     counted);
  } else {
    run_each_element(b, 1, known{counted, in.student.extent(0)});
  }
}

}  // namespace cuda_distillation

template <DeviceBackend B, class In>
distillation_result distillation_impl(const B& b, const In& in, const distillation_spec& spec) {
  using namespace cuda_distillation;
  using Each = view<double, typename B::space, dyn, 2>;
  const index_t rows = in.student.extent(0);
  const scope freed(b.workspace());
  const auto counted = b.workspace().template make<index_t, 1>();
  const auto sums = b.workspace().template make<double, 2>();
  const Each each = b.workspace().template make<double, dyn, 2>(rows);
  count(b, in, spec.ignore, counted.data());
  using losses = losses_of<In, Each>;
  run_each_row_of<widest_block, typename losses::S, typename losses::T>(
      b, shape_of_rows(in), losses{in, each, spec, b.faults()});
  ordered_sum(b, each, sums);
  distillation_result out;
  out.counted = b.read(counted.data());
  if (out.counted == 0) return out;
  const double n = static_cast<double>(out.counted);
  out.hard = b.read(sums.data()) / n;
  out.soft = b.read(sums.data() + 1) * (spec.temperature * spec.temperature / n);
  out.mean = spec.hard * out.hard + (1 - spec.hard) * out.soft;
  return out;
}

template <DeviceBackend B, class In, class DS>
void distillation_gradient_impl(const B& b, const In& in, const DS& dstudent,
                                const distillation_gradient_spec& spec) {
  using namespace cuda_distillation;
  const scope freed(b.workspace());
  const auto counted = b.workspace().template make<index_t, 1>();
  count(b, in, spec.of.ignore, counted.data());
  using gradients = gradients_of<In, DS>;
  run_each_row_of<widest_block, typename gradients::S, typename gradients::T,
                  typename gradients::out>(
      b, shape_of_rows(in, dstudent), gradients{in, dstudent, spec, counted.data(), b.faults()});
}

}  // namespace deepseek
