// SPDX-License-Identifier: Apache-2.0
// First values of parameters. normal_init: every weight ~ N(0, stddev^2). scaled_init: every weight
// ~ N(0, gain^2 / fan_in), fan_in the last extent. What a leaf says is fixed starts there (norm
// weights at 1, biases at 0), buffers at 0.
// Element i of a tensor depends on (seed, path, i) alone: adding a layer changes no other.
#pragma once

#include "deepseek/core/call.hpp"
#include "deepseek/core/dtype.hpp"
#include "deepseek/core/parameters.hpp"
#include "deepseek/core/random.hpp"

#include <cmath>
#include <string_view>

namespace deepseek {

struct normal_init {
  double stddev = 0.02;
  std::uint64_t seed = 0;
  double deviation(index_t) const { return stddev; }
};
struct scaled_init {
  double gain = 1;
  std::uint64_t seed = 0;
  double deviation(index_t fan_in) const { return gain / std::sqrt(static_cast<double>(fan_in)); }
};

constexpr std::uint32_t path_site(std::string_view path) {
  std::uint32_t site = 0;
  for (char ch : path) site = mix_site(site, static_cast<unsigned char>(ch));
  return site;
}

// A host tensor filled with normal numbers of its own stream; integers and empty ones are left.
template <class Init, class Tensor>
void initialize_tensor(const Init& init, const std::string& path, Tensor& t) {
  using T = typename Tensor::value_type;
  if constexpr (!std::is_integral_v<T>) {
    const auto v = t.view();
    if (v.size() == 0) return;
    const double deviation = init.deviation(v.rank > 1 ? v.extent(v.rank - 1) : v.extent(0));
    const stream_key key{init.seed, 0, path_site(path), 0, random_use::initial_values};
    for (index_t i = 0; i < v.size(); ++i) {
      const double x = static_cast<double>(normal(key, static_cast<std::uint64_t>(i)));
      v.data()[i] = static_cast<T>(deviation * x);
    }
  }
}

inline bool path_ends_with(std::string_view path, std::string_view end) {
  return path.size() >= end.size() && path.substr(path.size() - end.size()) == end;
}

// By the first_value that the leaf gave each tensor; names do not matter.
template <class Init, class P>
void initialize(const Init& init, P& p) {
  visit(
      [&](const tensor_name& at, auto& t) {
        if (at.role == field_role::state || at.start == first_value::zero) {
          t.zero();
        } else if (at.start == first_value::one) {
          for (index_t i = 0; i < t.size(); ++i)
            t.data()[i] = typename std::remove_cvref_t<decltype(t)>::value_type(1);
        } else {
          initialize_tensor(init, at.path, t);
        }
      },
      p);
}

}  // namespace deepseek
