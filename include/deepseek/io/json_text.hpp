// SPDX-License-Identifier: Apache-2.0
// Strict JSON for files from outside: what the parser library would let pass is refused here.
// Refused beyond the grammar: invalid UTF-8 (utf8, with the byte), a byte order mark, NUL bytes
// (the parser takes one for the end of the text), nesting deeper than 128 (json), a key given twice
// in one object (duplicate_key). White space around the value is fine.
// Memory of parse_json: at most 40 times the text, so callers bound the text first.
// Source: RFC 8259; RFC 3629 section 4 (UTF-8).
#pragma once

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "deepseek/core/error.hpp"

namespace deepseek {

namespace detail {

constexpr int json_nesting_limit = 128;

// Length of the UTF-8 sequence at the start of `text`, 0 if there is no valid one.
inline std::size_t utf8_sequence(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead < 0xc2   ? 0
                             : lead < 0xe0 ? 2
                             : lead < 0xf0 ? 3
                             : lead < 0xf5 ? 4
                                           : 0;
  if (length == 0 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const unsigned second = byte(1);
  const bool overlong = (lead == 0xe0 && second < 0xa0) || (lead == 0xf0 && second < 0x90);
  const bool surrogate = lead == 0xed && second > 0x9f;
  const bool beyond = lead == 0xf4 && second > 0x8f;
  return overlong || surrogate || beyond ? 0 : length;
}

}  // namespace detail

// Position of the first byte that is not UTF-8, or text.size().
inline std::size_t first_invalid_utf8(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t length = detail::utf8_sequence(text.substr(at));
    if (length == 0) break;
    at += length;
  }
  return at;
}

// The checks that come before the grammar. `what` names the text in messages.
inline void check_json_text(std::string_view text, std::string_view what) {
  for (std::string_view mark : {"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"}) {
    require(!text.starts_with(mark), error_code::json, what,
            ": begins with a byte order mark; write plain UTF-8 without one");
  }
  const std::size_t bad = first_invalid_utf8(text);
  require(bad == text.size(), error_code::utf8, what, ": byte ", bad, " of ", text.size(),
          " is not UTF-8; write the text as UTF-8");
  const std::size_t nul = text.find('\0');
  require(nul == std::string_view::npos, error_code::json, what, ": byte ", nul, " of ",
          text.size(), " is NUL; JSON text has none (pad with spaces)");
}

namespace detail {

// `count` is how many bytes the parser had taken.
[[noreturn]] inline void fail_json(std::string_view what, std::size_t count,
                                   std::string_view text) {
  const std::size_t byte = std::min(count == 0 ? 0 : count - 1, text.size());
  fail(error_code::json, what, ": no valid JSON at byte ", byte, " of ", text.size(), ", near ",
       deepseek::escaped(text.substr(byte < 20 ? 0 : byte - 20, 40)), "; write one JSON value");
}

// Keys seen in each open object, kept while a document is read.
class key_watch {
 public:
  explicit key_watch(std::string_view what) : what_(what) {}

  bool operator()(int depth, nlohmann::json::parse_event_t event, nlohmann::json& value) {
    using event_t = nlohmann::json::parse_event_t;  // depth counts what is open around the value
    const bool opens = event == event_t::object_start || event == event_t::array_start;
    require(!opens || depth < json_nesting_limit, error_code::json, what_, ": nested deeper than ",
            json_nesting_limit, "; flatten it");
    if (event == event_t::object_start) open_.emplace_back();
    if (event == event_t::object_end) open_.pop_back();
    if (event == event_t::key) {
      const auto& key = value.get_ref<const std::string&>();
      require(open_.back().insert(key).second, error_code::duplicate_key, what_, ": key ",
              deepseek::escaped(key), " is given twice in one object; keep one");
    }
    return true;
  }

 private:
  std::string_view what_;
  std::vector<std::set<std::string>> open_;
};

}  // namespace detail

// One JSON document, strictly read.
inline nlohmann::json parse_json(std::string_view text, std::string_view what) {
  check_json_text(text, what);
  detail::key_watch watch(what);
  try {
    return nlohmann::json::parse(
        text, [&watch](int depth, nlohmann::json::parse_event_t event, nlohmann::json& value) {
          return watch(depth, event, value);
        });
  } catch (const nlohmann::json::parse_error& problem) {
    detail::fail_json(what, problem.byte, text);
  } catch (const nlohmann::json::out_of_range&) {
    fail(error_code::json, what, ": a number is too large for double; write a finite number");
  }
}

}  // namespace deepseek
