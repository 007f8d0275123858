// SPDX-License-Identifier: Apache-2.0
// Typed values of one JSON object of a configuration file. Every refusal is a deepseek::error of
// code config that names the file, the key, what was found and what is expected; nothing is
// allocated by a number that a file gives. null counts as absent only where a caller says so.
#pragma once

#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "deepseek/core/error.hpp"

namespace deepseek {

inline constexpr std::int64_t largest_config_size = (std::int64_t{1} << 31) - 1;

enum class null_value { refused, absent };

class config_values {
 public:
  // `what` names the file, `prefix` the object inside it ("rope_scaling."); both are kept.
  config_values(const nlohmann::json& object, std::string what, std::string prefix = "")
      : object_(&object), what_(std::move(what)), prefix_(std::move(prefix)) {}

  bool has(const char* key) const { return object_->contains(key); }
  bool given(const char* key) const { return has(key) && !(*object_)[key].is_null(); }

  // A whole number from `low` to 2^31 - 1.
  std::optional<std::int64_t> size(const char* key, std::int64_t low, null_value null) const {
    const nlohmann::json* value = find(key, null);
    if (value == nullptr) return std::nullopt;
    if (!value->is_number_integer() || !in_range(*value, low))
      refuse(key, *value, "a whole number from " + std::to_string(low) + " to 2147483647");
    return value->get<std::int64_t>();
  }
  // A finite number from `low` to `high`.
  std::optional<double> number(const char* key, double low, double high, null_value null) const {
    const nlohmann::json* value = find(key, null);
    if (value == nullptr) return std::nullopt;
    const double x = value->is_number() ? value->get<double>() : 0;
    if (!value->is_number() || !(x >= low && x <= high)) {
      refuse(key, *value,
             "a number from " + nlohmann::json(low).dump() + " to " + nlohmann::json(high).dump());
    }
    return x;
  }
  std::optional<bool> flag(const char* key, null_value null) const {
    const nlohmann::json* value = find(key, null);
    if (value == nullptr) return std::nullopt;
    if (!value->is_boolean()) refuse(key, *value, "true or false");
    return value->get<bool>();
  }
  std::optional<std::string> text(const char* key, null_value null) const {
    const nlohmann::json* value = find(key, null);
    if (value == nullptr) return std::nullopt;
    if (!value->is_string()) refuse(key, *value, "a text");
    return value->get<std::string>();
  }
  std::optional<config_values> object(const char* key, null_value null) const {
    const nlohmann::json* value = find(key, null);
    if (value == nullptr) return std::nullopt;
    if (!value->is_object()) refuse(key, *value, "an object");
    return config_values(*value, what_, prefix_ + key + ".");
  }
  const nlohmann::json& raw(const char* key) const { return (*object_)[key]; }

  // A value that is right for some model, but not one that is read here.
  [[noreturn]] void not_read(const char* key, const std::string& found,
                             const char* supported) const {
    fail(error_code::unsupported, what_, ": ", prefix_, key, " ", deepseek::escaped(found),
         " is not read; ", supported);
  }
  [[noreturn]] void missing(const char* key, const char* reason) const {
    fail(error_code::config, what_, ": ", prefix_, key, " is missing; ", reason);
  }
  [[noreturn]] void refuse(const char* key, const nlohmann::json& found,
                           const std::string& expected) const {
    fail(error_code::config, what_, ": ", prefix_, key, " is ", shown(found), "; write ", expected);
  }

 private:
  const nlohmann::json* find(const char* key, null_value null) const {
    const auto at = object_->find(key);
    if (at == object_->end() || (null == null_value::absent && at->is_null())) return nullptr;
    return &*at;
  }
  static bool in_range(const nlohmann::json& value, std::int64_t low) {
    if (value.is_number_unsigned()) {
      const auto x = value.get<std::uint64_t>();
      return x <= static_cast<std::uint64_t>(largest_config_size) &&
             static_cast<std::int64_t>(x) >= low;
    }
    const auto x = value.get<std::int64_t>();
    return x >= low && x <= largest_config_size;
  }
  static std::string shown(const nlohmann::json& value) {
    if (value.is_string()) return deepseek::escaped(value.get_ref<const std::string&>());
    if (value.is_object()) return "an object";
    if (value.is_array()) return "an array";
    return value.dump();
  }

  const nlohmann::json* object_;
  std::string what_, prefix_;
};

}  // namespace deepseek
