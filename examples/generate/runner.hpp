// SPDX-License-Identifier: Apache-2.0
// What generate needs of a model, whatever its type: each preset in each weight format is compiled
// once, in a file of its own (runner.cpp.in), and listed by built_in_models().
#pragma once

#include <deepseek/core/space.hpp>
#include <deepseek/io/checkpoint_directory.hpp>
#include <deepseek/models/config.hpp>
#include <deepseek/serve/generate.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace generate {

namespace ds = deepseek;

using token_sink = std::function<bool(std::int32_t)>;  // false: enough

class runner {
 public:
  virtual ~runner() = default;
  // One of the two comes first: weights of a folder, or numbers drawn from a seed.
  virtual void load(const ds::checkpoint_directory& from) = 0;
  virtual void draw(std::uint64_t seed) = 0;
  virtual ds::generation run(std::span<const std::int32_t> prompt,
                             const ds::generate_options& options, const token_sink& sink) = 0;
  virtual ds::index_t weight_bytes() const = 0;
  virtual ds::index_t parameters() const = 0;         // trained numbers
  virtual ds::index_t active_parameters() const = 0;  // of them, those that a token meets
  virtual ds::index_t cache_bytes_per_token() const = 0;
};

struct built_in_model {
  std::string_view preset, format;  // "v2_lite", "int4"
  const ds::model_config* config;
  std::unique_ptr<runner> (*make)(int threads);
};

// In the order of the build's lists of presets and formats.
std::vector<built_in_model> built_in_models();

}  // namespace generate
