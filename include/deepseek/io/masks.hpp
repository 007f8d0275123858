// SPDX-License-Identifier: Apache-2.0
// Masks of pruned weights to and from one safetensors file: a tensor of U8, 0 or 1, for each masked
// weight, by its path. Written whole or not at all; on reading everything is checked before a mask
// is returned. Whether they fit a model is checked by weight_masks::apply.
// Errors: dtype, shape_mismatch (rank), config (a byte that is neither 0 nor 1), and those of
// safetensors.hpp.
#pragma once

#include "deepseek/io/safetensors.hpp"
#include "deepseek/io/safetensors_writer.hpp"
#include "deepseek/train/pruning.hpp"

namespace deepseek {

inline void save_masks(const std::filesystem::path& path, const weight_masks& masks) {
  std::vector<tensor_source> sources;
  for (const auto& [name, mask] : masks.all()) {
    sources.push_back({name,
                       file_dtype::u8,
                       {static_cast<std::int64_t>(mask.size())},
                       std::as_bytes(std::span(mask))});
  }
  write_safetensors(path, {}, sources);
}

inline weight_masks load_masks(const std::filesystem::path& path) {
  safetensors_file file(path);
  weight_masks masks;
  for (const auto& entry : file.tensors()) {
    require(entry.dtype == file_dtype::u8, error_code::dtype, "masks ", file.name(), ": tensor ",
            escaped(entry.name), " is ", to_string(entry.dtype), ", expected ",
            to_string(file_dtype::u8), "; the file holds no masks");
    require(entry.shape.size() == 1, error_code::shape_mismatch, "masks ", file.name(), ": tensor ",
            escaped(entry.name), " is ", file_shape_text(entry.shape),
            ", expected one extent; the file holds no masks");
    auto& mask = masks.at(entry.name, entry.shape[0]);
    file.read(entry, std::as_writable_bytes(std::span(mask)));
    for (std::size_t i = 0; i < mask.size(); ++i) {
      require(mask[i] <= 1, error_code::config, "masks ", file.name(), ": tensor ",
              escaped(entry.name), " has ", static_cast<int>(mask[i]), " at ", i,
              "; a mask is made of 0 and 1");
    }
  }
  return masks;
}

}  // namespace deepseek
