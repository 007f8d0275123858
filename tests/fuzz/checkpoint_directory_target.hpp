// SPDX-License-Identifier: Apache-2.0
// Any bytes, taken as a folder's config.json and, after the first NUL, its index: values that are
// sound and names that translate back, or a deepseek::error. Anything else is a defect.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include <deepseek/io/model_check.hpp>
#include <deepseek/models/deepseek.hpp>

namespace fuzz {

// What a configuration that was read promises to those who build by it.
inline bool sound(const deepseek::checkpoint_config& c) {
  for (const auto& row : deepseek::config_size_rows) {
    const auto value = c.*row.member;
    if (value < 0 || value > deepseek::largest_config_size) return false;
    if (row.required && value < row.least) return false;
  }
  if (c.num_attention_heads % c.num_key_value_heads != 0) return false;
  if (!c.is_latent() && (c.head_dim < 2 || c.head_dim % 2 != 0)) return false;
  if (c.is_sparse() && c.n_routed_experts % c.n_group != 0) return false;
  return deepseek::rope_scaling_problem(c.scaling, c.rope_theta) == nullptr;
}

inline bool config_holds(std::string_view text) {
  try {
    const auto c = deepseek::parse_checkpoint_config(text, "config");
    static_cast<void>(deepseek::differences(c, deepseek::v3_2));
    return sound(c);
  } catch (const deepseek::error&) {
    return true;
  }
}

inline bool index_holds(std::string_view text) {
  try {
    for (const auto& [tensor, shard] : deepseek::detail::parse_weight_map(text, "index")) {
      if (shard.empty() || shard.find('/') != std::string::npos || shard == "..") return false;
      const std::string ours = deepseek::our_name(tensor);
      if (ours != tensor && deepseek::hugging_face_name(ours) != tensor) return false;
      static_cast<void>(deepseek::mtp_path(ours, 3, 1));
    }
    return true;
  } catch (const deepseek::error&) {
    return true;
  }
}

inline bool checkpoint_directory_holds(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::size_t end = text.find('\0');
  const bool config = config_holds(text.substr(0, end));
  return config && (end == std::string_view::npos || index_holds(text.substr(end + 1)));
}

}  // namespace fuzz
