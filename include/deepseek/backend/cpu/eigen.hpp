// SPDX-License-Identifier: Apache-2.0
// as_eigen(view): our data seen as an Eigen matrix [rows, columns] or column vector [n], row-major,
// any strides, no copy; of float, double and integers. A view of const gives a read-only map.
// The cpu backend uses maps for plain element-wise work only: one rounding an element, so that
// alignment cannot change a bit. No other header of the library includes Eigen.
#pragma once

#include "deepseek/core/tensor.hpp"

#include <Eigen/Core>

namespace deepseek {

namespace detail {
template <class T, class Plain>
using constant_like = std::conditional_t<std::is_const_v<T>, const Plain, Plain>;
}  // namespace detail

template <class T, index_t R, index_t C>
auto as_eigen(const view<T, host, R, C>& v) {
  using value = std::remove_const_t<T>;
  using strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  constexpr int rows = R == dyn ? Eigen::Dynamic : static_cast<int>(R);
  constexpr int columns = C == dyn ? Eigen::Dynamic : static_cast<int>(C);
  // Eigen wants a fixed single column to be column-major; the strides say the rest.
  constexpr int order = columns == 1 && rows != 1 ? Eigen::ColMajor : Eigen::RowMajor;
  using matrix = Eigen::Matrix<value, rows, columns, order>;
  using map = Eigen::Map<detail::constant_like<T, matrix>, Eigen::Unaligned, strides>;
  const auto step = order == Eigen::RowMajor ? strides(v.stride(0), v.stride(1))
                                             : strides(v.stride(1), v.stride(0));
  return map(v.data(), v.extent(0), v.extent(1), step);
}

template <class T, index_t N>
auto as_eigen(const view<T, host, N>& v) {
  using value = std::remove_const_t<T>;
  using strides = Eigen::InnerStride<Eigen::Dynamic>;
  using vector = Eigen::Matrix<value, N == dyn ? Eigen::Dynamic : static_cast<int>(N), 1>;
  using map = Eigen::Map<detail::constant_like<T, vector>, Eigen::Unaligned, strides>;
  return map(v.data(), v.extent(0), strides(v.stride(0)));
}

template <class T, class S, index_t... E>
auto as_eigen(tensor<T, S, E...>& t) {
  return as_eigen(t.view());
}
template <class T, class S, index_t... E>
auto as_eigen(const tensor<T, S, E...>& t) {
  return as_eigen(t.view());
}

// n neighbouring elements as an Eigen array.
template <class T>
auto as_array(T* p, index_t n) {
  using array = Eigen::Array<std::remove_const_t<T>, Eigen::Dynamic, 1>;
  return Eigen::Map<detail::constant_like<T, array>>(p, n);
}

}  // namespace deepseek
