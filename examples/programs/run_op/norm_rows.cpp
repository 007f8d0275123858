// SPDX-License-Identifier: Apache-2.0
// run_op: what works row by row: softmax and the norms, with their gradients.
#include "run_op/op_rows.hpp"

namespace run_op {
namespace {

struct softmax {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x");
    auto y = like(x);
    ds::ops::softmax(b, x, y);
    out.add("out", y);
  }
};
struct softmax_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto y = in.read<T, 2>("y"), dout = in.read<T, 2>("dout");
    auto dx = like(y);
    ds::ops::softmax_backward(b, y, dout, dx);
    out.add("dx", dx);
  }
};

struct rms_norm {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x");
    const auto w = in.read<T, 1>("w");
    auto y = like(x);
    ds::ops::rms_norm(b, x, w, y, in.number("eps"));
    out.add("out", y);
  }
};
struct rms_norm_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x"), dout = in.read<T, 2>("dout");
    const auto w = in.read<T, 1>("w");
    auto dx = like(x);
    auto dw = like(w);
    ds::ops::rms_norm_backward(b, ds::rms_norm_inputs{x, w}, dout, ds::rms_norm_gradients{dx, dw},
                               in.number("eps"));
    out.add("dx", dx);
    out.add("dw", dw);
  }
};

struct layer_norm {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x");
    const auto w = in.read<T, 1>("w"), bias = in.read<T, 1>("bias");
    auto y = like(x);
    ds::ops::layer_norm(b, x, ds::layer_norm_affine{w, bias}, y, in.number("eps"));
    out.add("out", y);
  }
};
struct layer_norm_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x"), dout = in.read<T, 2>("dout");
    const auto w = in.read<T, 1>("w");
    auto dx = like(x);
    auto dw = like(w), dbias = like(w);
    ds::ops::layer_norm_backward(b, ds::layer_norm_inputs{x, w}, dout,
                                 ds::layer_norm_gradients{dx, dw, dbias}, in.number("eps"));
    out.add("dx", dx);
    out.add("dw", dw);
    out.add("dbias", dbias);
  }
};

}  // namespace

std::span<const op_row> norm_rows() {
  static constexpr op_row rows[] = {
      row_of<softmax>("softmax"),       row_of<softmax_backward>("softmax_backward"),
      row_of<rms_norm>("rmsnorm"),      row_of<rms_norm_backward>("rmsnorm_backward"),
      row_of<layer_norm>("layer_norm"), row_of<layer_norm_backward>("layer_norm_backward"),
  };
  return rows;
}

}  // namespace run_op
