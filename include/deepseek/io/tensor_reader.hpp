// SPDX-License-Identifier: Apache-2.0
// One tensor of a checkpoint, read row by row as elements of T through a small buffer: its own
// elements, or for 8-bit floats W[i, j] = q[i, j] * scale[i / rows, j / columns], computed in
// float. Memory besides the target: 1 MB or one row, and the scales of the tensor. Errors: dtype
// (not convertible, or not without rounding), shape_mismatch, missing_tensor (8-bit elements
// without scales), and those of reading.
#pragma once

#include <vector>

#include "deepseek/io/checkpoint.hpp"
#include "deepseek/io/checkpoint_directory.hpp"
#include "deepseek/io/element_conversion.hpp"

namespace deepseek {

enum class conversion { none, exact, rounded };  // of elements: same type, wider types, any
enum class f8_meaning { scaled, codes };  // 8-bit floats times their scales, or by themselves

class tensor_reader {
 public:
  // Finds the tensor and its scales; reads nothing.
  tensor_reader(const checkpoint_directory& from, const std::string& path,
                const std::vector<std::int64_t>& shape, f8_meaning meaning = f8_meaning::scaled)
      : path_(path), name_(from.name()) {
    const stored_tensor* found = from.find(path);
    require(found != nullptr, error_code::missing_tensor, what(), " is missing; ",
            "the files belong to another model");
    tensor_ = *found;
    require(entry().shape == shape, error_code::shape_mismatch, what(), " is ",
            file_shape_text(entry().shape), ", expected ", file_shape_text(shape),
            "; the files belong to another model");
    if (entry().dtype == file_dtype::f8_e4m3 && meaning == f8_meaning::scaled) find_scales(from);
  }

  const tensor_entry& entry() const { return *tensor_.entry; }
  const std::string& scale_path() const { return scale_path_; }  // empty where there are none
  // 8-bit floats in blocks of that size.
  bool has_blocks_of(index_t rows, index_t columns) const {
    return scales_.entry != nullptr && block_rows_ == rows && block_columns_ == columns;
  }

  // T can be filled from this tensor under that rule.
  template <class T>
  void require_convertible(conversion rule) const {
    const file_dtype from = entry().dtype;
    if constexpr (Floating<T>) {
      const bool fits = from == file_dtype_of<T>() ||
                        (rule == conversion::exact && holds_exactly<T>(from)) ||
                        (rule == conversion::rounded && significand_bits(from) > 0);
      require(
          fits, error_code::dtype, what(), " is ", to_string(from), ", expected ",
          to_string(file_dtype_of<T>()),
          rule == conversion::none
              ? "; allow conversion::exact or conversion::rounded, or choose another element type"
              : "; allow conversion::rounded or choose another element type");
    } else {
      require(from == file_dtype_of<T>(), error_code::dtype, what(), " is ", to_string(from),
              ", expected ", to_string(file_dtype_of<T>()), "; the files belong to another model");
    }
  }

  // The scales of the blocks, row by row; none for other elements.
  std::vector<float> read_scales() const {
    if (scales_.entry == nullptr) return {};
    std::vector<std::byte> bytes(static_cast<std::size_t>(scales_.entry->bytes()));
    scales_.file->read(*scales_.entry, bytes);
    std::vector<float> scale(bytes.size() * 8 / bits_of(scales_.entry->dtype));
    convert_scales(scales_.entry->dtype, bytes.data(), scale);
    return scale;
  }
  // All elements in order; 8-bit floats as T = f8_e4m3 without their scales.
  template <class T>
  void read(T* out) const {
    if constexpr (!Floating<T>) {
      read_bytes(out);
    } else if (entry().dtype == file_dtype_of<T>()) {
      read_bytes(out);
    } else {
      read_converted(out);
    }
  }

 private:
  std::string what() const {
    return "checkpoint " + name_ + ": tensor " + deepseek::escaped(path_);
  }

  template <class T>
  void read_bytes(T* out) const {
    tensor_.file->read(
        entry(), {reinterpret_cast<std::byte*>(out), static_cast<std::size_t>(entry().bytes())});
  }

  index_t columns() const { return entry().shape.empty() ? 1 : entry().shape.back(); }

  template <class T>
  void read_converted(T* out) const {
    constexpr std::size_t piece = std::size_t{1} << 20;
    const auto width = static_cast<std::size_t>(columns());
    const std::size_t element = bits_of(entry().dtype) / 8;
    const std::size_t total = static_cast<std::size_t>(entry().bytes()) / element;
    if (total == 0) return;
    const std::size_t rows_at_once = std::max<std::size_t>(1, piece / (width * element));
    std::vector<std::byte> buffer(std::min(total, rows_at_once * width) * element);
    const std::vector<float> scale = read_scales();
    for (std::size_t at = 0; at < total; at += buffer.size() / element) {
      const std::size_t n = std::min(buffer.size() / element, total - at);
      tensor_.file->read_part(entry(), at * element, std::span(buffer).first(n * element));
      convert_elements(entry().dtype, buffer.data(), std::span(out + at, n));
      if (!scale.empty()) apply_scales(scale, at / width, std::span(out + at, n));
    }
  }

  // ---- blocks of 8-bit floats
  void find_scales(const checkpoint_directory& from) {
    const std::string stem = path_.substr(0, path_.rfind('.') + 1);
    for (const char* name : {"weight_scale_inv", "scale"}) {
      const stored_tensor* found = from.find(stem + name);
      if (found == nullptr) continue;
      scales_ = *found;
      scale_path_ = stem + name;
    }
    require(scales_.entry != nullptr, error_code::missing_tensor, what(),
            " has 8-bit elements but no ", deepseek::escaped(stem + "weight_scale_inv"),
            "; fetch the files again");
    require(entry().shape.size() == 2, error_code::shape_mismatch, what(), " is ",
            file_shape_text(entry().shape), ", but only matrices have scales of blocks");
    if (from.config() && from.config()->fp8_block_rows > 0) {
      block_rows_ = from.config()->fp8_block_rows;
      block_columns_ = from.config()->fp8_block_columns;
    }
    const std::vector<std::int64_t> grid{ceil_div(entry().shape[0], block_rows_),
                                         ceil_div(entry().shape[1], block_columns_)};
    require(scales_.entry->shape == grid, error_code::shape_mismatch, what(), " of ",
            file_shape_text(entry().shape), " has scales ", file_shape_text(scales_.entry->shape),
            ", expected ", file_shape_text(grid), " for blocks of ", block_rows_, " x ",
            block_columns_, "; check quantization_config");
    const file_dtype type = scales_.entry->dtype;
    require(type == file_dtype::f8_e8m0 ||
                (significand_bits(type) > 0 && significand_bits(type) <= 24 &&
                 type != file_dtype::f8_e4m3),
            error_code::dtype, what(), " has scales of ", to_string(type),
            "; F32, BF16, F16 and F8_E8M0 are read");
  }
  static constexpr index_t ceil_div(index_t a, index_t b) { return a / b + (a % b != 0 ? 1 : 0); }

  template <class T>
  void apply_scales(const std::vector<float>& scale, std::size_t first_row,
                    std::span<T> out) const {
    const auto width = static_cast<std::size_t>(columns());
    const auto grid = static_cast<std::size_t>(scales_.entry->shape[1]);
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::size_t row = first_row + i / width, column = i % width;
      const float s = scale[row / static_cast<std::size_t>(block_rows_) * grid +
                            column / static_cast<std::size_t>(block_columns_)];
      out[i] =
          static_cast<T>(static_cast<accumulate_t<T>>(out[i]) * static_cast<accumulate_t<T>>(s));
    }
  }

  std::string path_, name_, scale_path_;
  stored_tensor tensor_, scales_;
  index_t block_rows_ = 128, block_columns_ = 128;
};

}  // namespace deepseek
