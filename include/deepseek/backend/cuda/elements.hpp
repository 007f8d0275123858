// SPDX-License-Identifier: Apache-2.0
// fill, copy, scale, add on the device over views of any strides (map.hpp); see ops/fill.hpp,
// copy.hpp, scale.hpp, add.hpp.
#pragma once

#include "deepseek/backend/cuda/elementwise.hpp"
#include "deepseek/backend/cuda/map.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/ops/add.hpp"
#include "deepseek/ops/copy.hpp"
#include "deepseek/ops/fill.hpp"
#include "deepseek/ops/scale.hpp"

namespace deepseek {

// Element i of a view in row-major order.
template <class View>
DEEPSEEK_HOST_DEVICE typename View::element_type& element_at(const View& v, index_t i) {
  index_t offset = 0;
  for (int d = View::rank - 1; d > 0; --d) {
    offset += i % v.extent(d) * v.stride(d);
    i /= v.extent(d);
  }
  if constexpr (View::rank > 0) offset += i * v.stride(0);
  return v.data()[offset];
}

namespace cuda_elements {

template <class T>
struct set {
  T value;
  DEEPSEEK_HOST_DEVICE void operator()(index_t, T& y) const { y = value; }
};
struct copied {
  template <class X, class Y>
  DEEPSEEK_HOST_DEVICE void operator()(index_t, const X& x, Y& y) const {
    y = convert_to<Y>(x);
  }
};
template <class A>
struct scaled {
  A factor;
  template <class Y>
  DEEPSEEK_HOST_DEVICE void operator()(index_t, Y& y) const {
    y = convert_to<Y>(factor * convert_to<A>(y));
  }
};
template <class A>
struct added {
  template <class X, class Y>
  DEEPSEEK_HOST_DEVICE void operator()(index_t, const X& x, Y& y) const {
    y = convert_to<Y>(convert_to<A>(y) + convert_to<A>(x));
  }
};

}  // namespace cuda_elements

template <DeviceBackend B, class Y>
void fill_impl(const B& b, double value, const Y& y) {
  using T = typename Y::value_type;
  run_map(b, cuda_elements::set<T>{static_cast<T>(value)}, writes(y));
}
template <DeviceBackend B, class X, class Y>
void copy_impl(const B& b, const X& x, const Y& y) {
  run_map(b, cuda_elements::copied{}, reads(x), writes(y));
}
template <DeviceBackend B, class Y>
void scale_impl(const B& b, double factor, const Y& y) {
  using A = accumulate_t<typename Y::value_type>;
  run_map(b, cuda_elements::scaled<A>{static_cast<A>(factor)}, changes(y));
}
template <DeviceBackend B, class X, class Y>
void add_impl(const B& b, const X& x, const Y& y) {
  using A = accumulate_t<typename Y::value_type>;
  run_map(b, cuda_elements::added<A>{}, reads(x), changes(y));
}

}  // namespace deepseek
