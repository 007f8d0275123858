// SPDX-License-Identifier: Apache-2.0
// What both translation units do with the library. Included by first.cpp and second.cpp or .cu
// only; everything here has internal linkage, so that only the library's own functions are merged.
#pragma once

#include "odr.hpp"

#if defined(__CUDACC__)
#include <deepseek/cuda.cuh>
#else
#include <deepseek/deepseek.hpp>
#endif

namespace {

namespace ds = deepseek;

template <class Backend>
std::vector<float> product(const Backend& b) {
  ds::tensor<float, ds::host, rows, inner> x;
  ds::tensor<float, ds::host, inner, columns> w;
  ds::tensor<float, ds::host, rows, columns> y;
  for (int i = 0; i < rows * inner; ++i) x.data()[i] = left_element(i);
  for (int i = 0; i < inner * columns; ++i) w.data()[i] = right_element(i);
  ds::ops::gemm(b, x, w, y);
  return {y.data(), y.data() + y.size()};
}

// Sizes and alignments of what crosses translation units: flags must not change them.
std::vector<std::size_t> layouts() {
  using matrix = ds::tensor<float, ds::host, rows, columns>;
  using any_view = ds::view<const float, ds::host, ds::dyn, columns>;
  return {
      sizeof(matrix),        alignof(matrix),        sizeof(any_view),           alignof(any_view),
      sizeof(ds::reference), alignof(ds::reference), sizeof(ds::arena<ds::host>)};
}

#if defined(__CUDACC__)
// Only .cpp files see ds::cpu: here the product is the reference's, compiled by nvcc's host side.
std::vector<float> machine_product() {
  return product(ds::reference{});
}
std::vector<std::size_t> cpu_layouts() {
  return {};
}
#else
std::vector<float> machine_product() {
  return product(ds::cpu{ds::cpu_config{.threads = 2}});
}
std::vector<std::size_t> cpu_layouts() {
  return {sizeof(ds::cpu), alignof(ds::cpu)};
}
#endif

std::string refusal() {
  try {
    ds::tensor<float, ds::host, ds::dyn> negative({-1});
  } catch (const ds::error& caught) {
    return std::string(ds::to_string(caught.code())) + ": " + caught.what();
  }
  return "nothing was thrown";
}

answers ask() {
  return {product(ds::reference{}), machine_product(), layouts(), cpu_layouts(), refusal()};
}

}  // namespace
