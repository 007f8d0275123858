// SPDX-License-Identifier: Apache-2.0
// Elements of a file as elements of another type. F64, F32, F16, BF16 and F8_E4M3 are read; to a
// wider type exactly, to a narrower one rounded to nearest, ties to even. F8_E8M0, of scales only:
// powers of two. Errors: dtype (another type). Source: IEEE 754-2019; core/float8.hpp for 8 bits.
#pragma once

#include <cstddef>
#include <cstring>
#include <span>

#include "deepseek/core/dtype.hpp"
#include "deepseek/core/float8.hpp"
#include "deepseek/io/file_dtype.hpp"

namespace deepseek {

// Bits of significand and exponent range that a file's floating type has; none for other types.
constexpr int significand_bits(file_dtype type) {
  switch (type) {
    case file_dtype::f64:
      return 53;
    case file_dtype::f32:
      return 24;
    case file_dtype::f16:
      return 11;
    case file_dtype::bf16:
      return 8;
    case file_dtype::f8_e4m3:
      return 4;
    default:
      return 0;
  }
}

// Every value of `from` is one of T.
template <Floating T>
constexpr bool holds_exactly(file_dtype from) {
  if (std::is_same_v<T, f16>) return from == file_dtype::f16 || from == file_dtype::f8_e4m3;
  if (std::is_same_v<T, bf16>) return from == file_dtype::bf16 || from == file_dtype::f8_e4m3;
  return significand_bits(from) > 0 && significand_bits(from) <= float_traits<T>::digits;
}

namespace detail {

template <class From>
From element_at(const std::byte* bytes, std::size_t i) {
  From x;
  std::memcpy(&x, bytes + i * sizeof(From), sizeof(From));
  return x;
}

}  // namespace detail

// out[i] = element i of `bytes`, which holds out.size() elements of `from`, one of those above.
template <Floating T>
void convert_elements(file_dtype from, const std::byte* bytes, std::span<T> out) {
  const auto put = [&](const auto& value_at) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<T>(value_at(i));
  };
  switch (from) {
    case file_dtype::f64:
      return put([&](std::size_t i) { return detail::element_at<double>(bytes, i); });
    case file_dtype::f32:
      return put([&](std::size_t i) { return detail::element_at<float>(bytes, i); });
    case file_dtype::f16:
      return put(
          [&](std::size_t i) { return static_cast<float>(detail::element_at<f16>(bytes, i)); });
    case file_dtype::bf16:
      return put(
          [&](std::size_t i) { return static_cast<float>(detail::element_at<bf16>(bytes, i)); });
    case file_dtype::f8_e4m3:
      return put(
          [&](std::size_t i) { return static_cast<float>(detail::element_at<f8_e4m3>(bytes, i)); });
    default:
      fail(error_code::dtype, "elements: ", to_string(from),
           " is not converted; F64, F32, F16, BF16 and F8_E4M3 are");
  }
}

// The scales of 8-bit blocks: F32, BF16, or F8_E8M0 powers of two.
inline void convert_scales(file_dtype from, const std::byte* bytes, std::span<float> out) {
  if (from != file_dtype::f8_e8m0) return convert_elements<float>(from, bytes, out);
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<float>(detail::element_at<f8_e8m0>(bytes, i));
  }
}

}  // namespace deepseek
