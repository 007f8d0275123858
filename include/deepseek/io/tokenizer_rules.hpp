// SPDX-License-Identifier: Apache-2.0
// The pre-tokenizer of tokenizer.json as split rules:
//   Split {pattern: {Regex | String}, behavior, invert}; Digits {individual_digits};
//   ByteLevel {add_prefix_space, use_regex}, which comes last; Sequence {pretokenizers} of these.
// Errors: unsupported (another type or behavior, named; text removed; no ByteLevel at the end;
// patterns: split_pattern.hpp), regex (a pattern that does not compile), schema.
// Source: the pre-tokenizers of the package tokenizers, 0.23; ByteLevel's pattern: Radford 2019.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "deepseek/io/json_fields.hpp"
#include "deepseek/io/split_pattern.hpp"
#include "deepseek/io/split_rules.hpp"

namespace deepseek {

namespace detail {

inline constexpr std::string_view byte_level_pattern =
    R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// The objects of a Sequence in order, or the one object.
template <class F>
void for_each_stage(const nlohmann::json& stage, const std::string& what, const char* list_name,
                    const F& f) {
  json_fields fields(stage, what);
  if (fields.text("type") != "Sequence") return f(stage, what);
  std::size_t i = 0;
  for (const auto& inner : fields.list(list_name)) {
    for_each_stage(inner, what + "." + list_name + "[" + std::to_string(i++) + "]", list_name, f);
  }
  fields.finish();
}

inline split_behavior read_behavior(json_fields& fields) {
  const std::string& name = fields.text("behavior");
  if (name == "Isolated") return split_behavior::isolated;
  if (name == "Contiguous") return split_behavior::contiguous;
  if (name == "MergedWithPrevious") return split_behavior::merged_with_previous;
  if (name == "MergedWithNext") return split_behavior::merged_with_next;
  fail(error_code::unsupported, fields.what(), ": behavior is ", deepseek::escaped(name),
       name == "Removed" ? ", which loses text" : "",
       "; Isolated, Contiguous, MergedWithPrevious and MergedWithNext are read");
}

inline split_rule read_split(json_fields& fields) {
  json_fields pattern = fields.object("pattern");
  const bool literal = pattern.find("String") != nullptr;
  const std::string& text = pattern.text(literal ? "String" : "Regex");
  pattern.check(!text.empty(), error_code::regex, "is empty; write a pattern");
  pattern.finish();
  regex compiled(literal ? literal_pattern(text) : translate_pattern(text, pattern.what()),
                 pattern.what());
  return {std::move(compiled), read_behavior(fields), fields.flag("invert", false)};
}

inline split_rule read_digits(json_fields& fields) {
  const bool each = fields.flag("individual_digits", false);
  return {regex("\\p{N}", fields.what()),
          each ? split_behavior::isolated : split_behavior::contiguous};
}

// Nothing where ByteLevel only maps bytes.
inline std::optional<split_rule> read_byte_level(json_fields& fields) {
  const bool prefix = fields.flag("add_prefix_space", true);
  fields.flag("trim_offsets", true);
  const bool cuts = fields.flag("use_regex", true);
  if (!cuts && !prefix) return std::nullopt;
  const std::string pattern =
      cuts ? translate_pattern(byte_level_pattern, fields.what()) : "(?s:.+)";
  return split_rule{regex(pattern, fields.what()), split_behavior::isolated, false, prefix};
}

}  // namespace detail

inline std::vector<split_rule> read_split_rules(json_fields& root) {
  std::vector<split_rule> rules;
  bool mapped = false;  // ByteLevel seen
  const std::string name = "pre_tokenizer";
  const auto read = [&](const nlohmann::json& stage, const std::string& what) {
    json_fields fields(stage, what);
    const std::string& type = fields.text("type");
    fields.check(!mapped, error_code::unsupported, deepseek::escaped(type),
                 " comes after ByteLevel; put ByteLevel last");
    mapped = type == "ByteLevel";
    fields.check(mapped || type == "Split" || type == "Digits", error_code::unsupported, "type is ",
                 deepseek::escaped(type), "; Sequence, Split, Digits and ByteLevel are read");
    if (type == "Split") rules.push_back(detail::read_split(fields));
    if (type == "Digits") rules.push_back(detail::read_digits(fields));
    if (auto last = mapped ? detail::read_byte_level(fields) : std::nullopt) {
      rules.push_back(std::move(*last));
    }
    fields.finish();
  };
  const auto* stage = root.find(name);
  if (stage != nullptr) {
    detail::for_each_stage(*stage, root.what() + ": " + name, "pretokenizers", read);
  }
  root.check(mapped, error_code::unsupported, name,
             " does not end in ByteLevel; only byte-level vocabularies are read");
  return rules;
}

}  // namespace deepseek
