// SPDX-License-Identifier: Apache-2.0
// The results of one op, kept until all are there and then written as one safetensors file:
// floating ones as F32 (F64 from double), integers as I64.
#pragma once

#include "deepseek/core/tensor.hpp"
#include "deepseek/io/safetensors_writer.hpp"

#include <vector>

namespace run_op {

class results {
 public:
  template <class T, ds::index_t... E>
  void add(const std::string& name, const ds::tensor<T, ds::host, E...>& t) {
    std::vector<std::int64_t> shape;
    for (int i = 0; i < t.rank; ++i) shape.push_back(t.extent(i));
    if constexpr (std::is_integral_v<T>) {
      store<std::int64_t>(name, ds::file_dtype::i64, shape, t);
    } else if constexpr (std::is_same_v<T, double>) {
      store<double>(name, ds::file_dtype::f64, shape, t);
    } else {
      store<float>(name, ds::file_dtype::f32, shape, t);
    }
  }

  void write(const std::string& path) const {
    std::vector<ds::tensor_source> sources;
    for (const auto& r : kept_) sources.push_back({r.name, r.type, r.shape, r.bytes});
    ds::write_safetensors(path, {}, sources);
  }

 private:
  struct result {
    std::string name;
    ds::file_dtype type;
    std::vector<std::int64_t> shape;
    std::vector<std::byte> bytes;
  };

  template <class Stored, class Tensor>
  void store(const std::string& name, ds::file_dtype type, const std::vector<std::int64_t>& shape,
             const Tensor& t) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(t.size()) * sizeof(Stored));
    for (ds::index_t i = 0; i < t.size(); ++i) {
      const auto x = static_cast<Stored>(t.data()[i]);
      std::memcpy(bytes.data() + static_cast<std::size_t>(i) * sizeof(Stored), &x, sizeof(Stored));
    }
    kept_.push_back({name, type, shape, std::move(bytes)});
  }

  std::vector<result> kept_;
};

}  // namespace run_op
