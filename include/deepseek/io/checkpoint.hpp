// SPDX-License-Identifier: Apache-2.0
// Parameters to and from one safetensors file, by the paths that visit() gives.
// A checkpoint collects tensors (prefix + path) and strings, and is written whole or not at all.
// Loading is strict and all or nothing: every tensor is checked and read before the target changes.
// Errors: missing_tensor, unexpected_tensor (up to 20 names), dtype, shape_mismatch, and those of
// safetensors.hpp. Host memory only.
#pragma once

#include <memory>
#include <set>

#include "deepseek/core/dtype.hpp"
#include "deepseek/core/float8.hpp"
#include "deepseek/core/parameters.hpp"
#include "deepseek/io/safetensors.hpp"
#include "deepseek/io/safetensors_writer.hpp"

namespace deepseek {

template <class T>
constexpr file_dtype file_dtype_of() {
  if constexpr (std::is_same_v<T, double>) return file_dtype::f64;
  if constexpr (std::is_same_v<T, float>) return file_dtype::f32;
  if constexpr (std::is_same_v<T, f16>) return file_dtype::f16;
  if constexpr (std::is_same_v<T, bf16>) return file_dtype::bf16;
  if constexpr (std::is_same_v<T, std::int64_t>) return file_dtype::i64;
  if constexpr (std::is_same_v<T, std::int32_t>) return file_dtype::i32;
  if constexpr (std::is_same_v<T, std::int8_t>) return file_dtype::i8;
  if constexpr (std::is_same_v<T, std::uint8_t>) return file_dtype::u8;
  if constexpr (std::is_same_v<T, f8_e4m3>) return file_dtype::f8_e4m3;
  if constexpr (std::is_same_v<T, f8_e8m0>) return file_dtype::f8_e8m0;
}

template <class Tensor>
std::vector<std::int64_t> file_shape_of(const Tensor& t) {
  std::vector<std::int64_t> shape;
  for (int i = 0; i < t.view().rank; ++i) shape.push_back(t.view().extent(i));
  return shape;
}

// Borrows the tensors until it is written.
class checkpoint_writer {
 public:
  void set(const std::string& key, const std::string& text) { metadata_[key] = text; }
  template <class Tensor>
  void add(const std::string& name, const Tensor& t) {
    using T = typename Tensor::value_type;
    static_assert(std::is_same_v<typename Tensor::space, host>,
                  "deepseek::checkpoint: the tensor is not in host memory; copy it first");
    const auto bytes = static_cast<std::size_t>(t.size()) * sizeof(T);
    sources_.push_back({name,
                        file_dtype_of<T>(),
                        file_shape_of(t),
                        {reinterpret_cast<const std::byte*>(t.data()), bytes}});
  }
  template <class P>
  void add_parameters(const std::string& prefix, const P& p) {
    visit([&](const tensor_name& at, const auto& t) { add(join_path(prefix, at.path), t); }, p);
  }
  void write(const std::filesystem::path& path) const {
    write_safetensors(path, metadata_, sources_);
  }

 private:
  file_metadata metadata_;
  std::vector<tensor_source> sources_;
};

class checkpoint_reader {
 public:
  explicit checkpoint_reader(const std::filesystem::path& path) : file_(path) {}

  const std::string& get(const std::string& key) const {
    const auto it = file_.metadata().find(key);
    require(it != file_.metadata().end(), error_code::not_this_format, "checkpoint ", file_.name(),
            ": no metadata ", deepseek::escaped(key), "; it was not written by this program");
    return it->second;
  }
  template <class Tensor>
  void read(const std::string& name, Tensor& t) {
    using T = typename Tensor::value_type;
    static_assert(std::is_same_v<typename Tensor::space, host>,
                  "deepseek::checkpoint: the tensor is not in host memory; read into host "
                  "parameters and transfer_all them");
    const tensor_entry& entry = file_.at(name);
    require(entry.dtype == file_dtype_of<T>(), error_code::dtype, "checkpoint ", file_.name(),
            ": tensor ", deepseek::escaped(name), " is ", to_string(entry.dtype), ", expected ",
            to_string(file_dtype_of<T>()), "; convert the file or choose another element type");
    require(entry.shape == file_shape_of(t), error_code::shape_mismatch, "checkpoint ",
            file_.name(), ": tensor ", deepseek::escaped(name), " is ",
            file_shape_text(entry.shape), ", expected ", file_shape_text(file_shape_of(t)),
            "; the file belongs to another model");
    file_.read(entry, {reinterpret_cast<std::byte*>(t.data()),
                       static_cast<std::size_t>(t.size()) * sizeof(T)});
    used_.insert(name);
  }
  template <class P>
  void read_parameters(const std::string& prefix, P& p) {
    require_all(prefix, p);
    visit([&](const tensor_name& at, auto& t) { read(join_path(prefix, at.path), t); }, p);
  }
  // Every tensor of the file was asked for.
  void require_nothing_left() const {
    std::string names;
    int left = 0;
    for (const auto& entry : file_.tensors()) {
      if (used_.contains(entry.name)) continue;
      if (++left <= 20) names += (left > 1 ? ", " : "") + deepseek::escaped(entry.name);
    }
    require(left == 0, error_code::unexpected_tensor, "checkpoint ", file_.name(), ": ", left,
            " tensors are not of this model: ", names, "; the file belongs to another model");
  }

 private:
  template <class P>
  void require_all(const std::string& prefix, const P& p) const {
    std::string names;
    int missing = 0;
    visit(
        [&](const tensor_name& at, const auto&) {
          const std::string name = join_path(prefix, at.path);
          if (file_.find(name) != nullptr) return;
          if (++missing <= 20) names += (missing > 1 ? ", " : "") + deepseek::escaped(name);
        },
        p);
    require(missing == 0, error_code::missing_tensor, "checkpoint ", file_.name(), ": ", missing,
            " tensors are missing: ", names, "; the file belongs to another model");
  }

  safetensors_file file_;
  std::set<std::string> used_;
};

// One model, one file.
template <class P>
void save_parameters(const std::filesystem::path& path, const P& p) {
  checkpoint_writer file;
  file.add_parameters("", p);
  file.write(path);
}
// The target is unchanged when anything is wrong with the file.
template <class P>
void load_parameters(const std::filesystem::path& path, P& p) {
  checkpoint_reader file(path);
  auto loaded = std::make_unique<P>();
  file.read_parameters("", *loaded);
  file.require_nothing_left();
  p = std::move(*loaded);
}

}  // namespace deepseek
