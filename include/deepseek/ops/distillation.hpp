// SPDX-License-Identifier: Apache-2.0
// distillation: a student learns from a teacher's scores. Over the n counted rows,
//   soft = T^2 mean KL(softmax(teacher / T) || softmax(student / T)),
//   hard = mean cross entropy of softmax(student) against targets,   mean = h hard + (1 - h) soft.
// student, teacher [rows, V]; targets [rows] int32, or none with h = 0; rows whose target is
// `ignore` count in neither part. Gradient, written: dstudent = scale / counted
//   (h (softmax(student) - onehot) + (1 - h) T (softmax(student / T) - softmax(teacher / T))),
// zero where ignored; dstudent may be student. The factor T^2 keeps the size of the soft gradient.
// Types may differ; sums in accumulate_t of student (of dstudent), means in double over rows in
// order. Errors: shape_mismatch, index_range (a target), invalid_argument (T, h, null data; nothing
// is written then). Bits do not depend on threads. Cost: about 3 exponentials an element.
// Source: Hinton, Vinyals, Dean 2015, section 2.
#pragma once

#include "deepseek/ops/argument.hpp"

#include <cstdint>

namespace deepseek {

template <class Student, class Teacher, class Targets>
struct distillation_inputs {
  Student student;  // [rows, V]
  Teacher teacher;  // [rows, V]
  Targets targets;  // [rows], or none
};
template <class S, class T, class Targets>
distillation_inputs(S&&, T&&, Targets&&)
    -> distillation_inputs<argument_t<S>, argument_t<T>, argument_t<Targets>>;

struct distillation_spec {
  double temperature = 2;  // > 0
  double hard = 0;         // share of the loss on targets, in [0, 1]
  std::int32_t ignore = -100;
};
struct distillation_result {
  double mean = 0, hard = 0, soft = 0;
  index_t counted = 0;
};
struct distillation_gradient_spec {
  distillation_spec of = {};
  double scale = 1;
  index_t counted = 0;  // rows to divide by; 0: those that count
};

namespace detail {

// The views of the inputs, checked.
template <class B, class Inputs>
auto distillation_views(const B& b, const Inputs& in, const distillation_spec& spec) {
  const auto student = as_const(as_view(in.student));
  const auto teacher = as_const(as_view(in.teacher));
  const auto targets = const_or_none(in.targets);
  constexpr bool labelled = is_view<std::remove_cvref_t<decltype(targets)>>;
  check_spaces(b, student, teacher, targets);
  static_assert(student.rank == 2,
                "deepseek::distillation: wrong rank; pass student, teacher [rows, V]");
  require_same_shape(teacher, student, "distillation: teacher");
  require_data(student, "distillation: student");
  require_data(teacher, "distillation: teacher");
  if constexpr (labelled) {
    require_extent(targets, 0, student.extent(0), "distillation: targets");
    require_data(targets, "distillation: targets");
  }
  require(std::isfinite(spec.temperature) && spec.temperature > 0, error_code::invalid_argument,
          "distillation: temperature is ", spec.temperature, "; pass a finite number > 0");
  require(spec.hard >= 0 && spec.hard <= 1, error_code::invalid_argument, "distillation: hard is ",
          spec.hard, "; pass a share in [0, 1]");
  require(labelled || spec.hard == 0, error_code::invalid_argument, "distillation: hard is ",
          spec.hard, " without targets; pass targets [rows], or hard = 0");
  using views = distillation_inputs<std::remove_const_t<decltype(student)>,
                                    std::remove_const_t<decltype(teacher)>,
                                    std::remove_const_t<decltype(targets)>>;
  return views{student, teacher, targets};
}

}  // namespace detail

struct distillation_op {
  static constexpr std::string_view name = "distillation";

  template <class B, class S, class T, class Targets>
  distillation_result operator()(const B& b, const distillation_inputs<S, T, Targets>& in,
                                 const distillation_spec& spec = {}) const {
    const auto views = detail::distillation_views(b, in, spec);
    if (views.student.empty()) return {};
    return distillation_impl(b, views, spec);
  }
};

struct distillation_gradient_op {
  static constexpr std::string_view name = "distillation_gradient";

  template <class B, class S, class T, class Targets, class DS>
  void operator()(const B& b, const distillation_inputs<S, T, Targets>& in, DS&& dstudent_in,
                  const distillation_gradient_spec& spec = {}) const {
    const auto views = detail::distillation_views(b, in, spec.of);
    const auto dstudent = as_view(dstudent_in);
    check_spaces(b, dstudent);
    require_same_shape(dstudent, views.student, "distillation_gradient: dstudent");
    require_data(dstudent, "distillation_gradient: dstudent");
    require(std::isfinite(spec.scale) && spec.counted >= 0, error_code::invalid_argument,
            "distillation_gradient: scale is ", spec.scale, ", counted ", spec.counted,
            "; pass a finite scale and the number of counted rows, or 0");
    if (!dstudent.empty()) distillation_gradient_impl(b, views, dstudent, spec);
  }
};

namespace ops {
inline constexpr distillation_op distillation{};
inline constexpr distillation_gradient_op distillation_gradient{};
}  // namespace ops

}  // namespace deepseek
