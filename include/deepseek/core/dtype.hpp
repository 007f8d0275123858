// SPDX-License-Identifier: Apache-2.0
// Element types: 16-bit floats of our own (storage only), their names at run time, and what they
// are summed in.
//
// f16  = sign, 5 bits exponent, 10 bits fraction (IEEE 754 binary16); bf16 = the upper half of a
// binary32. Conversion to float is exact and implicit, so arithmetic happens in float. Conversion
// from a number is explicit, rounds once to nearest, ties to even (also from double), overflows to
// infinity, keeps subnormals and the sign of zero; a NaN stays a quiet NaN with its sign and the
// upper bits of its payload. All of it is constexpr and host-device. Source: IEEE 754-2019, 3.4
// and 4.3.1.
#pragma once

#include <deepseek/config.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace deepseek {

// The element types, named at run time.
enum class dtype { f64, f32, bf16, f16, i8, u8, i32, i64, f8_e4m3, f8_e8m0 };

namespace detail {

// std::bit_cast is a host function to nvcc; the builtin is not.
template <class To, class From>
DEEPSEEK_HOST_DEVICE constexpr To bits_as(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, from);
}

// Cuts a double to float so that one more rounding to at most 22 bits is the rounding of the double
// itself: truncates, and marks what was cut off in the last bit ("round to odd"). Infinity where
// float has no room.
DEEPSEEK_HOST_DEVICE constexpr float float_to_odd(double x) {
  constexpr double largest_float = 0x1.fffffep127;
  if (x > largest_float) return __builtin_huge_valf();
  if (x < -largest_float) return -__builtin_huge_valf();
  const float near = static_cast<float>(x);
  const double back = static_cast<double>(near);
  if (back == x || x != x) return near;
  auto bits = bits_as<std::uint32_t>(near);
  if (back < 0 ? back < x : back > x) --bits;
  return bits_as<float>(bits | 1U);
}

template <class Number>
DEEPSEEK_HOST_DEVICE constexpr float float_for_rounding(Number x) {
  if constexpr (std::is_same_v<Number, float>) {
    return x;
  } else {
    return float_to_odd(static_cast<double>(x));
  }
}

// value >> shift, rounded to nearest, ties to even; 1 <= shift <= 31.
DEEPSEEK_HOST_DEVICE constexpr std::uint32_t shift_to_even(std::uint32_t value, unsigned shift) {
  const std::uint32_t kept = value >> shift;
  const std::uint32_t cut = value & ((1U << shift) - 1U);
  const std::uint32_t half = 1U << (shift - 1U);
  return kept + (cut > half || (cut == half && (kept & 1U) != 0) ? 1U : 0U);
}

DEEPSEEK_HOST_DEVICE constexpr std::uint16_t encode_f16(float x) {
  const auto bits = bits_as<std::uint32_t>(x);
  const std::uint32_t sign = (bits >> 16U) & 0x8000U;
  const std::uint32_t size = bits & 0x7fffffffU;
  std::uint32_t code = 0;
  if (size > 0x7f800000U) {  // NaN: quiet, payload cut
    code = 0x7e00U | ((size >> 13U) & 0x3ffU);
  } else if (size >= 0x477ff000U) {  // 65520 and above round to infinity
    code = 0x7c00U;
  } else if (size >= 0x38800000U) {  // 2^-14 and above: normal; the exponent bias falls by 112
    code = shift_to_even(size - 0x38000000U, 13U);
  } else if (size >= 0x33000000U) {  // 2^-25 and above: a multiple of 2^-24
    code = shift_to_even((size & 0x7fffffU) | 0x800000U, 126U - (size >> 23U));
  }
  return static_cast<std::uint16_t>(sign | code);
}

DEEPSEEK_HOST_DEVICE constexpr float decode_f16(std::uint16_t code) {
  const std::uint32_t sign = (code & 0x8000U) << 16U;
  const std::uint32_t exponent = (code >> 10U) & 0x1fU;
  const std::uint32_t fraction = code & 0x3ffU;
  if (exponent == 0) {  // a multiple of 2^-24, exact in float
    const auto size = bits_as<std::uint32_t>(static_cast<float>(fraction) * 0x1p-24F);
    return bits_as<float>(sign | size);
  }
  const std::uint32_t wide = exponent == 31U ? 255U : exponent + 112U;
  return bits_as<float>(sign | (wide << 23U) | (fraction << 13U));
}

DEEPSEEK_HOST_DEVICE constexpr std::uint16_t encode_bf16(float x) {
  const auto bits = bits_as<std::uint32_t>(x);
  const bool is_nan = (bits & 0x7fffffffU) > 0x7f800000U;
  // The carry of the rounding walks into the exponent and, at the end, to infinity.
  return static_cast<std::uint16_t>(is_nan ? (bits >> 16U) | 0x40U : shift_to_even(bits, 16U));
}

DEEPSEEK_HOST_DEVICE constexpr float decode_bf16(std::uint16_t code) {
  return bits_as<float>(static_cast<std::uint32_t>(code) << 16U);
}

}  // namespace detail

struct f16 {
  std::uint16_t bits = 0;

  constexpr f16() = default;
  template <class Number>
  requires std::is_arithmetic_v<Number> DEEPSEEK_HOST_DEVICE explicit constexpr f16(Number x)
      : bits(detail::encode_f16(detail::float_for_rounding(x))) {}
  DEEPSEEK_HOST_DEVICE constexpr operator float() const { return detail::decode_f16(bits); }
  DEEPSEEK_HOST_DEVICE static constexpr f16 from_bits(std::uint16_t code) {
    f16 x;
    x.bits = code;
    return x;
  }
};

struct bf16 {
  std::uint16_t bits = 0;

  constexpr bf16() = default;
  template <class Number>
  requires std::is_arithmetic_v<Number> DEEPSEEK_HOST_DEVICE explicit constexpr bf16(Number x)
      : bits(detail::encode_bf16(detail::float_for_rounding(x))) {}
  DEEPSEEK_HOST_DEVICE constexpr operator float() const { return detail::decode_bf16(bits); }
  DEEPSEEK_HOST_DEVICE static constexpr bf16 from_bits(std::uint16_t code) {
    bf16 x;
    x.bits = code;
    return x;
  }
};

static_assert(sizeof(f16) == 2 && sizeof(bf16) == 2);
static_assert(std::is_trivially_copyable_v<f16> && std::is_trivially_copyable_v<bf16>);

template <class T>
concept Floating = std::same_as<T, double> || std::same_as<T, float> || std::same_as<T, bf16> ||
    std::same_as<T, f16>;

// What sums of T are kept in: float for the 16-bit types and float, double for double.
template <Floating T>
using accumulate_t = std::conditional_t<std::is_same_v<T, double>, double, float>;

// The constants of a floating type, as double (all of them are exact there).
template <Floating T>
struct float_traits;
template <>
struct float_traits<double> {
  static constexpr int digits = 53;
  static constexpr double unit_roundoff = 0x1p-53, largest = 0x1.fffffffffffffp1023;
  static constexpr double smallest_normal = 0x1p-1022, smallest = 0x1p-1074;
};
template <>
struct float_traits<float> {
  static constexpr int digits = 24;
  static constexpr double unit_roundoff = 0x1p-24, largest = 0x1.fffffep127;
  static constexpr double smallest_normal = 0x1p-126, smallest = 0x1p-149;
};
template <>
struct float_traits<bf16> {
  static constexpr int digits = 8;
  static constexpr double unit_roundoff = 0x1p-8, largest = 0x1.fep127;
  static constexpr double smallest_normal = 0x1p-126, smallest = 0x1p-133;
};
template <>
struct float_traits<f16> {
  static constexpr int digits = 11;
  static constexpr double unit_roundoff = 0x1p-11, largest = 65504;
  static constexpr double smallest_normal = 0x1p-14, smallest = 0x1p-24;
};

// Largest relative error of one rounding to T: half the distance from 1 to the next number.
template <Floating T>
inline constexpr double unit_roundoff = float_traits<T>::unit_roundoff;

constexpr std::string_view to_string(dtype type) {
  constexpr std::string_view names[] = {"f64", "f32", "bf16", "f16",     "i8",
                                        "u8",  "i32", "i64",  "f8_e4m3", "f8_e8m0"};
  return names[static_cast<int>(type)];
}

// Bytes of one element.
constexpr std::size_t size_of(dtype type) {
  constexpr std::size_t bytes[] = {8, 4, 2, 2, 1, 1, 4, 8, 1, 1};
  return bytes[static_cast<int>(type)];
}

namespace detail {
template <class T>
struct dtype_of_type;
template <dtype Value>
using dtype_constant = std::integral_constant<dtype, Value>;
template <>
struct dtype_of_type<double> : dtype_constant<dtype::f64> {};
template <>
struct dtype_of_type<float> : dtype_constant<dtype::f32> {};
template <>
struct dtype_of_type<bf16> : dtype_constant<dtype::bf16> {};
template <>
struct dtype_of_type<f16> : dtype_constant<dtype::f16> {};
template <>
struct dtype_of_type<std::int8_t> : dtype_constant<dtype::i8> {};
template <>
struct dtype_of_type<std::uint8_t> : dtype_constant<dtype::u8> {};
template <>
struct dtype_of_type<std::int32_t> : dtype_constant<dtype::i32> {};
template <>
struct dtype_of_type<std::int64_t> : dtype_constant<dtype::i64> {};
}  // namespace detail

template <class T>
concept Element = requires {
  detail::dtype_of_type<T>::value;
};

template <Element T>
inline constexpr dtype dtype_of = detail::dtype_of_type<T>::value;

}  // namespace deepseek
