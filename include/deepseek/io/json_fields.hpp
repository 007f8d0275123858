// SPDX-License-Identifier: Apache-2.0
// The fields of one JSON object, read by name: each must have the right kind, and none may be left
// over, because a field that nobody reads could change what the file means.
// Errors: schema, naming the object, the field and what is wanted. Absent and null are the same.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "deepseek/core/error.hpp"
#include "deepseek/io/json_text.hpp"

namespace deepseek {

// Refers to the object, which must outlive it.
class json_fields {
 public:
  json_fields(const nlohmann::json& object, std::string what)
      : object_(object), what_(std::move(what)) {
    require(object.is_object(), error_code::schema, what_, ": is ", object.type_name(),
            "; write an object");
  }

  const std::string& what() const { return what_; }
  template <class... Parts>
  void check(bool holds, error_code code, const Parts&... parts) const {
    require(holds, code, what_, ": ", parts...);
  }

  // The value, or nothing where the field is absent or null.
  const nlohmann::json* find(const std::string& name) {
    seen_.insert(name);
    const auto at = object_.find(name);
    return at == object_.end() || at->is_null() ? nullptr : &*at;
  }
  const nlohmann::json& value(const std::string& name) {
    const nlohmann::json* found = find(name);
    check(found != nullptr, error_code::schema, "has no ", name, "; add it");
    return *found;
  }
  json_fields object(const std::string& name) { return {value(name), what_ + "." + name}; }
  const nlohmann::json& list(const std::string& name) {
    const nlohmann::json& found = value(name);
    check(found.is_array(), error_code::schema, name, " is ", found.type_name(), "; write a list");
    return found;
  }
  const std::string& text(const std::string& name) {
    const nlohmann::json& found = value(name);
    check(found.is_string(), error_code::schema, name, " is ", found.type_name(), "; write text");
    return found.get_ref<const std::string&>();
  }
  bool flag(const std::string& name, bool absent) {
    const nlohmann::json* found = find(name);
    check(found == nullptr || found->is_boolean(), error_code::schema, name,
          " is neither true nor false; write one");
    return found == nullptr ? absent : found->get<bool>();
  }

  // After the last field: nothing else may be there.
  void finish() const {
    for (const auto& [name, ignored] : object_.items()) {
      check(seen_.contains(name), error_code::schema, "has the unknown field ",
            deepseek::escaped(name), "; remove it");
    }
  }

 private:
  const nlohmann::json& object_;
  std::string what_;
  std::set<std::string, std::less<>> seen_;
};

}  // namespace deepseek
