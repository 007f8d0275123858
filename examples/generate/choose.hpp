// SPDX-License-Identifier: Apache-2.0
// Which of the models of this build runs a checkpoint folder: the one whose config says the same as
// config.json. Where none does, the error names the nearest model and every key that differs.
#pragma once

#include <deepseek/io/model_check.hpp>

#include <algorithm>
#include <string>

#include "runner.hpp"

namespace generate {

inline std::string names_of(const std::vector<built_in_model>& models,
                            std::string_view built_in_model::*name) {
  std::string all;
  std::vector<std::string_view> seen;
  for (const auto& m : models) {
    if (std::find(seen.begin(), seen.end(), m.*name) != seen.end()) continue;
    seen.push_back(m.*name);
    (all += all.empty() ? "" : ", ") += m.*name;
  }
  return all;
}

// The model of that name in that format.
inline const built_in_model& find_model(const std::vector<built_in_model>& models,
                                        std::string_view preset, std::string_view format) {
  bool known = false;
  for (const auto& m : models) {
    if (m.preset != preset) continue;
    known = true;
    if (m.format == format) return m;
  }
  if (known) {
    ds::fail(ds::error_code::unsupported, "generate: this build has no format ",
             ds::escaped(format), "; it has ", names_of(models, &built_in_model::format),
             "; build with -DDEEPSEEK_GENERATE_FORMATS=\"...\"");
  }
  ds::fail(ds::error_code::unsupported, "generate: this build has no model ", ds::escaped(preset),
           "; it has ", names_of(models, &built_in_model::preset),
           "; build with -DDEEPSEEK_GENERATE_PRESETS=", preset);
}

// The preset whose config is the file's.
inline std::string_view preset_of(const std::vector<built_in_model>& models,
                                  const ds::checkpoint_config& file, const std::string& name) {
  const built_in_model* nearest = nullptr;
  std::vector<ds::config_difference> fewest;
  for (const auto& m : models) {
    auto found = ds::differences(file, *m.config);
    if (found.empty()) return m.preset;
    if (nearest == nullptr || found.size() < fewest.size()) {
      nearest = &m;
      fewest = std::move(found);
    }
  }
  std::string keys;
  for (const auto& d : fewest) {
    keys += (keys.empty() ? "" : ", ") + d.key + " is " + d.file + " and not " + d.model;
  }
  ds::fail(ds::error_code::unsupported, "generate: no model of this build (",
           names_of(models, &built_in_model::preset), ") fits ", name, "; the nearest is ",
           nearest->preset, ", but ", keys,
           "; build with -DDEEPSEEK_GENERATE_PRESETS=\"...\" (docs/models.md lists the presets)");
}

}  // namespace generate
