// SPDX-License-Identifier: Apache-2.0
// Rows of products with weights in a format. Codes is made of (case, plain weights [experts, N, K])
// and has operand(); Product is an op on (backend, x, operand, y), or with offsets before y.
#pragma once

#include "run_op/op_rows.hpp"

namespace run_op {

template <class W>
auto as_stack(const W& w) {
  using T = typename W::value_type;
  return ds::view<const T, ds::host, ds::dyn, ds::dyn, ds::dyn>(w.data(),
                                                                {1, w.extent(0), w.extent(1)});
}

template <class Codes, class Product>
struct plain_product {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x"), w = in.read<T, 2>("w");
    const Codes codes(in, as_stack(w));
    array<T, 2> y({x.extent(0), w.extent(0)});
    Product{}(b, x, codes.operand(), y);
    out.add("out", y);
  }
};
template <class Codes, class Product>
struct grouped_product {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x");
    const auto w = in.read<T, 3>("w");
    const auto offsets = read_offsets(in, x.extent(0));
    const Codes codes(in, w.view());
    array<T, 2> y({x.extent(0), w.extent(1)});
    Product{}(b, x, codes.operand(), offsets, y);
    out.add("out", y);
  }
};

}  // namespace run_op
