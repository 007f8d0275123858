// SPDX-License-Identifier: Apache-2.0
// run_op: windows of images as rows, one row of each sequence; with their gradients.
#include "run_op/op_rows.hpp"

#include <algorithm>

namespace run_op {
namespace {

ds::unfold_spec spec_of(op_case& in) {
  const index_t height = in.integer("height"), width = in.integer("width");
  return {height, width, in.integer("down", height), in.integer("across", width)};
}

struct unfold {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 4>("x");
    const auto spec = spec_of(in);
    const index_t windows = spec.down > 0 && spec.across > 0
                                ? ds::unfold_windows(x.extent(2), x.extent(3), spec).size()
                                : 0;
    array<T, 2> y({x.extent(0) * windows, x.extent(1) * spec.height * spec.width});
    ds::ops::unfold(b, x, spec, y);
    out.add("out", y);
  }
};
struct unfold_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto dout = in.read<T, 2>("dout");
    array<T, 4> dx({in.integer("images"), in.integer("channels"), in.integer("image_height"),
                    in.integer("image_width")});
    ds::ops::unfold_backward(b, dout, spec_of(in), dx);
    out.add("dx", dx);
  }
};

ds::pooled_row how_of(op_case& in) {
  const auto how = in.word("how", "mean");
  if (how == "first") return ds::pooled_row::first;
  if (how == "last") return ds::pooled_row::last;
  ds::require(how == "mean", error_code::invalid_argument, in.op(), ": how is ", ds::escaped(how),
              "; write first, mean or last");
  return ds::pooled_row::mean;
}
index_t sequences(const array<std::int32_t, 1>& offsets) {
  return std::max<index_t>(offsets.extent(0) - 1, 0);
}

struct pool {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x");
    const auto offsets = in.read_ids<1>("offsets");
    array<T, 2> y({sequences(offsets), x.extent(1)});
    ds::ops::pool(b, x, offsets, how_of(in), y);
    out.add("out", y);
  }
};
struct pool_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto dout = in.read<T, 2>("dout");
    const auto offsets = read_offsets(in, in.integer("rows"));
    array<T, 2> dx({in.integer("rows"), dout.extent(1)});
    ds::ops::pool_backward(b, dout, offsets, how_of(in), dx);
    out.add("dx", dx);
  }
};

}  // namespace

std::span<const op_row> window_rows() {
  static constexpr op_row rows[] = {row_of<unfold>("unfold"),
                                    row_of<unfold_backward>("unfold_backward"),
                                    row_of<pool>("pool"), row_of<pool_backward>("pool_backward")};
  return rows;
}

}  // namespace run_op
