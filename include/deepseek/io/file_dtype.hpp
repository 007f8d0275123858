// SPDX-License-Identifier: Apache-2.0
// Element types as files name them, and the one size computation that readers and writers use.
// Formula: bytes = shape[0] * shape[1] * ... * bits / 8, every step checked.
// Errors: overflow (a product exceeds 64 bits), sub_byte (no whole number of bytes),
// invalid_argument (a negative extent). Independent of the types a tensor can hold in memory.
// Source: safetensors format, "Format" section of its README.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "deepseek/core/error.hpp"

namespace deepseek {

enum class file_dtype : std::uint8_t {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64
};

struct file_dtype_row {
  std::string_view name;
  unsigned bits;
};

// In the order of the enumerators.
inline constexpr file_dtype_row file_dtype_rows[] = {
    {"BOOL", 8}, {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"I16", 16},
    {"U16", 16}, {"F16", 16},    {"BF16", 16},   {"I32", 32},    {"U32", 32},
    {"F32", 32}, {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64}};

constexpr std::string_view to_string(file_dtype type) {
  return file_dtype_rows[static_cast<int>(type)].name;
}

constexpr unsigned bits_of(file_dtype type) {
  return file_dtype_rows[static_cast<int>(type)].bits;
}

// The type of that exact name, nothing if there is none ("f32" and "F32 " are none).
constexpr std::optional<file_dtype> file_dtype_named(std::string_view name) {
  for (std::uint8_t i = 0; i < std::size(file_dtype_rows); ++i) {
    if (file_dtype_rows[i].name == name) return static_cast<file_dtype>(i);
  }
  return std::nullopt;
}

inline std::string known_file_dtypes() {
  std::string all;
  for (const auto& row : file_dtype_rows) (all += all.empty() ? "" : " ") += row.name;
  return all;
}

inline std::string file_shape_text(std::span<const std::int64_t> shape) {
  constexpr std::size_t shown = 16;
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size() && i < shown; ++i) {
    (text += i == 0 ? "" : ", ") += std::to_string(shape[i]);
  }
  return text += shape.size() > shown ? ", ...]" : "]";
}

namespace detail {

constexpr std::uint64_t largest_u64 = std::numeric_limits<std::uint64_t>::max();

// a * b, or nothing if 64 bits are too few.
constexpr std::optional<std::uint64_t> checked_product(std::uint64_t a, std::uint64_t b) {
  if (b != 0 && a > largest_u64 / b) return std::nullopt;
  return a * b;
}

}  // namespace detail

// Bytes of a tensor; `name` only serves the message. The factors are taken from the left, so
// [0, 2^40, 2^40] is empty and [2^40, 2^40, 0] overflows, as in the format's own reader.
inline std::uint64_t byte_count(std::string_view name, file_dtype type,
                                std::span<const std::int64_t> shape) {
  std::optional<std::uint64_t> bits = 1;
  for (std::int64_t extent : shape) {
    require(extent >= 0, error_code::invalid_argument, "tensor ", deepseek::escaped(name),
            ": shape ", file_shape_text(shape), " has the negative extent ", extent,
            "; extents count elements");
    bits = detail::checked_product(*bits, static_cast<std::uint64_t>(extent));
    if (!bits) break;
  }
  if (bits) bits = detail::checked_product(*bits, bits_of(type));
  require(bits.has_value(), error_code::overflow, "tensor ", deepseek::escaped(name), ": shape ",
          file_shape_text(shape), " of ", to_string(type),
          " needs more than 2^64 bits; no file holds such a tensor");
  require(*bits % 8 == 0, error_code::sub_byte, "tensor ", deepseek::escaped(name), ": shape ",
          file_shape_text(shape), " of ", to_string(type), " is ", *bits,
          " bits, not whole bytes; pad the last extent");
  return *bits / 8;
}

}  // namespace deepseek
