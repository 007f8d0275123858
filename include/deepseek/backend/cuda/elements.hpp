// SPDX-License-Identifier: Apache-2.0
// fill, copy, scale, add on the device, element by element over views of any strides; see
// ops/fill.hpp, copy.hpp, scale.hpp, add.hpp.
#pragma once

#include "deepseek/backend/cuda/elementwise.hpp"
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

template <class Y>
struct set {
  Y y;
  typename Y::value_type value;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const { element_at(y, i) = value; }
};
template <class X, class Y>
struct copied {
  X x;
  Y y;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    element_at(y, i) = convert_to<typename Y::value_type>(element_at(x, i));
  }
};
template <class Y, class A>
struct scaled {
  Y y;
  A factor;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    auto& to = element_at(y, i);
    to = convert_to<typename Y::value_type>(factor * convert_to<A>(to));
  }
};
template <class X, class Y, class A>
struct added {
  X x;
  Y y;
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    auto& to = element_at(y, i);
    to = convert_to<typename Y::value_type>(convert_to<A>(to) + convert_to<A>(element_at(x, i)));
  }
};

}  // namespace cuda_elements

template <DeviceBackend B, class Y>
void fill_impl(const B& b, double value, const Y& y) {
  run_each_element(b, y.size(),
                   cuda_elements::set<Y>{y, static_cast<typename Y::value_type>(value)});
}
template <DeviceBackend B, class X, class Y>
void copy_impl(const B& b, const X& x, const Y& y) {
  run_each_element(b, y.size(), cuda_elements::copied<X, Y>{x, y});
}
template <DeviceBackend B, class Y>
void scale_impl(const B& b, double factor, const Y& y) {
  using A = accumulate_t<typename Y::value_type>;
  run_each_element(b, y.size(), cuda_elements::scaled<Y, A>{y, static_cast<A>(factor)});
}
template <DeviceBackend B, class X, class Y>
void add_impl(const B& b, const X& x, const Y& y) {
  using A = accumulate_t<typename Y::value_type>;
  run_each_element(b, y.size(), cuda_elements::added<X, Y, A>{x, y});
}

}  // namespace deepseek
