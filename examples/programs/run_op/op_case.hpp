// SPDX-License-Identifier: Apache-2.0
// One case of run_op: the tensors, the attributes and the element type that a safetensors file
// names. Every tensor and attribute is asked for by name; what nobody asked for is an error, so
// that a misspelled input never passes in silence. Tensors named expected... or scale... are not
// inputs. Errors: missing_tensor, unexpected_tensor, shape_mismatch, dtype, index_range, config.
#pragma once

#include "run_op/attributes.hpp"

#include "deepseek/core/dtype.hpp"
#include "deepseek/core/tensor.hpp"
#include "deepseek/io/safetensors.hpp"

#include <limits>
#include <set>
#include <utility>

namespace run_op {

namespace detail {
template <class T, class Dimensions>
struct array_choice;
template <class T, std::size_t... D>
struct array_choice<T, std::index_sequence<D...>> {
  using type = ds::tensor<T, ds::host, (static_cast<void>(D), ds::dyn)...>;
};
}  // namespace detail

// A tensor of which every extent is known at run time only.
template <class T, std::size_t Rank>
using array = typename detail::array_choice<T, std::make_index_sequence<Rank>>::type;

class op_case {
 public:
  explicit op_case(const std::string& path) : file_(path) {
    const auto& text = file_.metadata();
    op_ = entry_of("op");
    const auto attrs = text.find("attrs");
    if (attrs != text.end()) attrs_ = attributes(attrs->second, file_.name());
    read_type(entry_of("dtype"));
  }

  const std::string& op() const { return op_; }
  bool is_int8() const { return type_ == ds::dtype::i8; }
  ds::dtype type() const { return type_; }

  // Floating input rounded to T. Stored as F32, or as F64 where `widest` is F64.
  template <class T, std::size_t Rank>
  array<T, Rank> read(const char* name) {
    return read_as<T, Rank>(name, {"F32", "BF16", "F16", type_ == ds::dtype::f64 ? "F64" : "F32"});
  }
  template <std::size_t Rank>
  array<double, Rank> read_f64(const char* name) {
    return read_as<double, Rank>(name, {"F64", "F32"});
  }
  template <std::size_t Rank>
  array<std::int8_t, Rank> read_int8(const char* name) {
    return read_as<std::int8_t, Rank>(name, {"I8"});
  }
  template <std::size_t Rank>
  array<std::uint8_t, Rank> read_mask(const char* name) {
    return read_as<std::uint8_t, Rank>(name, {"U8", "BOOL"});
  }
  // Positions and indices: stored as I64, used as int32.
  template <std::size_t Rank>
  array<std::int32_t, Rank> read_ids(const char* name) {
    return read_as<std::int32_t, Rank>(name, {"I64", "I32"});
  }

  bool gives(const char* name) const { return file_.find(name) != nullptr; }

  // Attributes: see attributes.hpp.
  bool has(const char* key) const { return attrs_.has(key); }
  double number(const char* key, auto... otherwise) { return attrs_.number(key, otherwise...); }
  index_t integer(const char* key, auto... otherwise) {
    return attrs_.integer(key, static_cast<index_t>(otherwise)...);
  }
  bool flag(const char* key, bool otherwise) { return attrs_.flag(key, otherwise); }
  std::string word(const char* key, const std::string& otherwise) {
    return attrs_.word(key, otherwise);
  }

  // After the op has asked for all it needs.
  void require_all_used() const {
    for (const auto& tensor : file_.tensors()) {
      const bool apart = tensor.name.starts_with("expected") || tensor.name.starts_with("scale");
      ds::require(apart || used_.contains(tensor.name), error_code::unexpected_tensor, op_,
                  ": the file has a tensor ", ds::escaped(tensor.name),
                  " that is not an input of this op; remove or rename it");
    }
    attrs_.require_all_used();
  }

 private:
  std::string entry_of(const char* key) const {
    const auto at = file_.metadata().find(key);
    ds::require(at != file_.metadata().end(), error_code::config, "file ", file_.name(),
                ": __metadata__ has no \"", key, "\"; write op, attrs and dtype there");
    return at->second;
  }
  void read_type(const std::string& name) {
    constexpr std::pair<std::string_view, ds::dtype> types[] = {{"f64", ds::dtype::f64},
                                                                {"f32", ds::dtype::f32},
                                                                {"bf16", ds::dtype::bf16},
                                                                {"f16", ds::dtype::f16},
                                                                {"int8", ds::dtype::i8}};
    for (const auto& [text, type] : types) {
      if (name == text) return void(type_ = type);
    }
    ds::fail(error_code::dtype, "file ", file_.name(), ": dtype is ", ds::escaped(name),
             "; write one of f64 f32 bf16 f16 int8");
  }

  template <class T, std::size_t Rank>
  array<T, Rank> read_as(const char* name, std::initializer_list<std::string_view> stored) {
    used_.insert(name);
    const ds::tensor_entry& entry = file_.at(name);
    typename array<T, Rank>::extents_array extents = {};
    ds::require(entry.shape.size() == Rank, error_code::shape_mismatch, op_, ": ", name,
                ds::file_shape_text(entry.shape), " has ", entry.shape.size(),
                " extents, expected ", Rank, "; write the shape that docs/run_op.md gives");
    for (std::size_t i = 0; i < Rank; ++i) extents[i] = entry.shape[i];
    bool fits = false;
    for (std::string_view one : stored) fits = fits || one == ds::to_string(entry.dtype);
    ds::require(fits, error_code::dtype, op_, ": ", name, " is stored as ",
                ds::to_string(entry.dtype), ", expected ", *stored.begin(), "; store it as that");
    array<T, Rank> out(extents);
    std::vector<std::byte> bytes(entry.bytes());
    file_.read(entry, bytes);
    convert(entry.dtype, bytes, out);
    return out;
  }

  template <class Array>
  void convert(ds::file_dtype from, const std::vector<std::byte>& bytes, Array& out) const {
    switch (from) {
      case ds::file_dtype::f64:
        return copy_from<double>(bytes, out);
      case ds::file_dtype::f32:
        return copy_from<float>(bytes, out);
      case ds::file_dtype::bf16:
        return copy_from<ds::bf16>(bytes, out);
      case ds::file_dtype::f16:
        return copy_from<ds::f16>(bytes, out);
      case ds::file_dtype::i64:
        return copy_from<std::int64_t>(bytes, out);
      case ds::file_dtype::i32:
        return copy_from<std::int32_t>(bytes, out);
      case ds::file_dtype::i8:
        return copy_from<std::int8_t>(bytes, out);
      default:
        return copy_from<std::uint8_t>(bytes, out);
    }
  }
  template <class From, class Array>
  void copy_from(const std::vector<std::byte>& bytes, Array& out) const {
    using T = typename Array::value_type;
    for (index_t i = 0; i < out.size(); ++i) {
      From x;
      std::memcpy(&x, bytes.data() + static_cast<std::size_t>(i) * sizeof(From), sizeof(From));
      if constexpr (std::is_same_v<T, std::int32_t>) {
        using limits = std::numeric_limits<std::int32_t>;
        const auto wide = static_cast<std::int64_t>(x);
        ds::require(wide >= limits::min() && wide <= limits::max(), error_code::index_range, op_,
                    ": element ", i, " is ", wide, ", outside 32 bits; indices are int32");
      }
      if constexpr (std::is_arithmetic_v<From>) {
        out.data()[i] = static_cast<T>(x);
      } else {
        out.data()[i] = static_cast<T>(static_cast<float>(x));
      }
    }
  }

  ds::safetensors_file file_;
  attributes attrs_;
  std::string op_;
  ds::dtype type_ = ds::dtype::f32;
  std::set<std::string, std::less<>> used_;
};

}  // namespace run_op
