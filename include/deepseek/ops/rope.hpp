// SPDX-License-Identifier: Apache-2.0
// rope: rotates pair i of each head by the angle position * theta^(-2 i / count), i < count / 2.
//   (a, b) -> (a cos - b sin, a sin + b cos);  turn inverse: the angle negated
// x[tokens, heads, dim] positions[tokens] (int32) y[tokens, heads, dim]; y may be x.
// Only elements first .. first + count - 1 of a head are rotated, the others are copied. Pairs:
// interleaved (2 i, 2 i + 1), half (i, i + count / 2). The backward is rope with the other turn.
// With a scaling (ops/rope_scaling.hpp) the frequencies are its, sine and cosine times its
// amplitude. Types: angle, sin and cos in double, rounded to accumulate_t of y; arithmetic there.
// Errors: shape_mismatch, invalid_argument (null data, theta, scaling, slice), config (odd count),
// aliasing (y overlaps x and is not x).
// Bits do not depend on threads. Cost: 3 flops an element; bound by memory.
// Source: Su et al., RoFormer (2021), section 3.2.
#pragma once

#include "deepseek/ops/argument.hpp"
#include "deepseek/ops/rope_scaling.hpp"

namespace deepseek {

enum class rope_layout : index_t { interleaved, half };
enum class rope_turn { forward, inverse };

struct rope_spec {
  double theta = 1e4;  // > 0, the base of the frequencies
  rope_layout layout = rope_layout::interleaved;
  rope_turn turn = rope_turn::forward;
  index_t first = 0;   // of the rotated slice of dim
  index_t count = -1;  // its length, even; -1: all from `first` on
  rope_scaling scaling = {};
  index_t length = 0;  // L of scaling dynamic_ntk, > 0 there: all rows of one call turn alike

  bool operator==(const rope_spec&) const = default;
};

struct rope_op {
  static constexpr std::string_view name = "rope";

  template <class B, class X, class P, class Y>
  void operator()(const B& b, const X& x_in, const P& positions_in, Y&& y_in,
                  rope_spec spec) const {
    const auto x = as_const(as_view(x_in));
    const auto positions = as_const(as_view(positions_in));
    const auto y = as_view(y_in);
    check_spaces(b, x, positions, y);
    static_assert(x.rank == 3 && positions.rank == 1,
                  "deepseek::rope: wrong ranks; pass x, y [tokens, heads, dim], positions[tokens]");
    static_assert(std::is_same_v<typename decltype(positions)::value_type, std::int32_t>,
                  "deepseek::rope: positions are not int32; pass std::int32_t positions");
    require_extent(positions, 0, x.extent(0), "rope: positions");
    require_same_shape(y, x, "rope: y");
    require_data(x, "rope: x");
    require_data(positions, "rope: positions");
    require_data(y, "rope: y");
    require_same_or_apart(x, y, "rope: x");
    require_spec(spec, x.extent(2));
    if (spec.count == -1) spec.count = x.extent(2) - spec.first;
    if (x.empty()) return;
    rope_impl(b, x, positions, y, spec);
  }

 private:
  static void require_spec(const rope_spec& spec, index_t dim) {
    require(std::isfinite(spec.theta) && spec.theta > 0, error_code::invalid_argument,
            "rope: theta is ", spec.theta, "; pass a finite number > 0 such as 1e4");
    const char* problem = rope_scaling_problem(spec.scaling, spec.theta);
    require(problem == nullptr, error_code::invalid_argument, "rope: scaling: ", problem,
            " (factor ", spec.scaling.factor, ", original_length ", spec.scaling.original_length,
            ", theta ", spec.theta, "); see ops/rope_scaling.hpp for the ranges");
    require(!depends_on_length(spec.scaling) || spec.length > 0, error_code::invalid_argument,
            "rope: length is ", spec.length,
            " with dynamic_ntk scaling; pass the length of the sequence, > 0");
    const index_t count = spec.count == -1 ? dim - spec.first : spec.count;
    require(spec.first >= 0 && spec.first <= dim && count >= 0 && count <= dim - spec.first,
            error_code::invalid_argument, "rope: the slice first ", spec.first, ", count ",
            spec.count, " does not lie in dim ", dim, "; pass 0 <= first and first + count <= dim");
    require(count % 2 == 0, error_code::config, "rope: ", count,
            " elements do not form pairs; rotate an even number of them");
  }
};
namespace ops {
inline constexpr rope_op rope{};
}

}  // namespace deepseek
