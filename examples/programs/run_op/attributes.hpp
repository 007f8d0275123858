// SPDX-License-Identifier: Apache-2.0
// The attributes of a case: one JSON object, asked for by name, with or without a value to take
// where it is absent. Which were asked for is remembered: the others are an error in the end.
// Errors: config (absent, of another type, not whole, not an attribute of the op).
#pragma once

#include "deepseek/core/space.hpp"
#include "deepseek/io/json_text.hpp"

#include <set>

namespace run_op {

namespace ds = deepseek;
using ds::error_code;
using ds::index_t;

class attributes {
 public:
  attributes() = default;
  attributes(const std::string& text, const std::string& where)
      : object_(ds::parse_json(text, "attrs of " + where)) {
    ds::require(object_.is_object(), error_code::config, "attrs of ", where,
                ": not a JSON object; write for example {\"eps\": 1e-6}");
  }

  bool has(const char* key) const { return object_.contains(key); }
  double number(const char* key) { return as_number(key, wanted(key)); }
  double number(const char* key, double otherwise) {
    const auto* value = find(key);
    return value == nullptr ? otherwise : as_number(key, *value);
  }
  index_t integer(const char* key) { return as_integer(key, wanted(key)); }
  index_t integer(const char* key, index_t otherwise) {
    const auto* value = find(key);
    return value == nullptr ? otherwise : as_integer(key, *value);
  }
  bool flag(const char* key, bool otherwise) {
    const auto* value = find(key);
    if (value == nullptr) return otherwise;
    if (value->is_number_integer()) return *value != 0;
    ds::require(value->is_boolean(), error_code::config, "attrs: ", ds::escaped(key),
                " is not true or false; write one of them");
    return value->get<bool>();
  }
  std::string word(const char* key, const std::string& otherwise) {
    const auto* value = find(key);
    if (value == nullptr) return otherwise;
    ds::require(value->is_string(), error_code::config, "attrs: ", ds::escaped(key),
                " is not a text; write one in quotes");
    return value->get<std::string>();
  }

  void require_all_used() const {
    for (const auto& [key, value] : object_.items()) {
      ds::require(used_.contains(key), error_code::config, "attrs: ", ds::escaped(key),
                  " is not an attribute of this op; remove it");
    }
  }

 private:
  const nlohmann::json* find(const char* key) {
    used_.insert(key);
    const auto at = object_.find(key);
    return at == object_.end() ? nullptr : &*at;
  }
  const nlohmann::json& wanted(const char* key) {
    const auto* value = find(key);
    ds::require(value != nullptr, error_code::config, "attrs: there is no ", ds::escaped(key),
                "; write it");
    return *value;
  }
  static double as_number(const char* key, const nlohmann::json& value) {
    ds::require(value.is_number(), error_code::config, "attrs: ", ds::escaped(key),
                " is not a number; write one");
    return value.get<double>();
  }
  static index_t as_integer(const char* key, const nlohmann::json& value) {
    constexpr double most = 0x1p53;
    const double x = as_number(key, value);
    ds::require(x >= -most && x <= most && x == static_cast<double>(static_cast<index_t>(x)),
                error_code::config, "attrs: ", ds::escaped(key), " is ", x,
                "; write a whole number below 2^53");
    return static_cast<index_t>(x);
  }

  nlohmann::json object_ = nlohmann::json::object();
  std::set<std::string, std::less<>> used_;
};

}  // namespace run_op
