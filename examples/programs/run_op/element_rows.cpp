// SPDX-License-Identifier: Apache-2.0
// run_op: what works element by element: activations, dropout, copies, sums.
#include "run_op/op_rows.hpp"

namespace run_op {
namespace {

template <class Kind>
struct activation {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x");
    auto y = like(x);
    ds::activation_op<Kind>{}(b, x, y);
    out.add("out", y);
  }
};
template <class Kind>
struct activation_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x"), dout = in.read<T, 2>("dout");
    auto dx = like(x);
    ds::activation_backward_op<Kind>{}(b, x, dout, dx);
    out.add("dx", dx);
  }
};

struct swiglu {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto gate = in.read<T, 2>("gate"), up = in.read<T, 2>("up");
    auto y = like(gate);
    ds::ops::swiglu(b, gate, up, y, in.number("limit", 0));
    out.add("out", y);
  }
};
struct swiglu_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto gate = in.read<T, 2>("gate"), up = in.read<T, 2>("up");
    const auto dout = in.read<T, 2>("dout");
    auto dgate = like(gate), dup = like(up);
    ds::ops::swiglu_backward(b, ds::swiglu_inputs{gate, up}, dout, ds::swiglu_gradients{dgate, dup},
                             in.number("limit", 0));
    out.add("dgate", dgate);
    out.add("dup", dup);
  }
};

struct dropout {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x");
    auto y = like(x);
    ds::ops::dropout(b, x, y,
                     {.rate = in.number("rate"),
                      .seed = static_cast<std::uint64_t>(in.integer("seed", 0)),
                      .step = static_cast<std::uint64_t>(in.integer("step", 0)),
                      .site = static_cast<std::uint32_t>(in.integer("site", 0))});
    out.add("out", y);
  }
};

struct add {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x");
    auto y = in.read<T, 2>("y");
    ds::ops::add(b, x, y.view());
    out.add("out", y);
  }
};
struct scale {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    auto y = in.read<T, 2>("x");
    ds::ops::scale(b, in.number("factor"), y);
    out.add("out", y);
  }
};
struct fill {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    auto y = in.read<T, 2>("x");
    ds::ops::fill(b, in.number("value"), y);
    out.add("out", y);
  }
};
struct copy {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x");
    auto y = like(x);
    ds::ops::copy(b, x, y);
    out.add("out", y);
  }
};
struct sum_of_squares {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    array<double, 1> sum({1});
    sum.data()[0] = ds::ops::sum_of_squares(b, in.read<T, 2>("x"));
    out.add("out", sum);
  }
};
struct all_finite {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    array<std::int32_t, 1> yes({1});
    yes.data()[0] = ds::ops::all_finite(b, in.read<T, 2>("x")) ? 1 : 0;
    out.add("out", yes);
  }
};

}  // namespace

std::span<const op_row> element_rows() {
  static constexpr op_row rows[] = {
      row_of<activation<ds::silu_kind>>("silu"),
      row_of<activation_backward<ds::silu_kind>>("silu_backward"),
      row_of<activation<ds::gelu_kind>>("gelu"),
      row_of<activation_backward<ds::gelu_kind>>("gelu_backward"),
      row_of<activation<ds::relu_kind>>("relu"),
      row_of<activation_backward<ds::relu_kind>>("relu_backward"),
      row_of<swiglu>("swiglu"),
      row_of<swiglu_backward>("swiglu_backward"),
      row_of<dropout>("dropout"),
      row_of<add>("add"),
      row_of<scale>("scale"),
      row_of<fill>("fill"),
      row_of<copy>("copy"),
      row_of<sum_of_squares>("sum_of_squares"),
      row_of<all_finite>("all_finite"),
  };
  return rows;
}

}  // namespace run_op
