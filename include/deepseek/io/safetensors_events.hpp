// SPDX-License-Identifier: Apache-2.0
// The JSON of a safetensors header as parser events: entries and metadata, or the first problem.
// Nothing is built from what is refused. A syntax error anywhere wins over a problem of content;
// of those the first in the text counts. Fields of a tensor may come in any order.
// Errors: json (syntax, root, nesting), duplicate_key, schema (missing, unknown or wrong field),
// dtype (unknown name), overflow (a number beyond 64 bits, an extent beyond 63), limit (rank).
// Source: safetensors README, "Format"; stricter as listed in safetensors_header.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deepseek/core/error.hpp"
#include "deepseek/io/file_dtype.hpp"
#include "deepseek/io/json_text.hpp"

namespace deepseek {

inline constexpr std::size_t safetensors_highest_rank = 1024;
inline constexpr std::string_view safetensors_metadata_key = "__metadata__";

struct tensor_entry {
  std::string name;
  file_dtype dtype{};
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;  // bytes [begin, end) of the data, which starts after the header
  std::uint64_t end = 0;

  std::uint64_t bytes() const { return end - begin; }
  bool operator==(const tensor_entry&) const = default;
};

using file_metadata = std::map<std::string, std::string, std::less<>>;

namespace detail {

// Takes the parser's events. The first problem of content is kept until the syntax is known to be
// right; from then on nothing is stored any more.
class header_events {
 public:
  explicit header_events(std::string_view what) : what_(what) {}

  bool null() { return value(kind::other), true; }
  bool boolean(bool) { return value(kind::other), true; }
  bool number_integer(std::int64_t) { return value(kind::other), true; }
  bool number_unsigned(std::uint64_t number) { return value(kind::whole, number), true; }
  bool number_float(double, const std::string& digits) {
    const bool whole = digits.find_first_not_of("0123456789") == std::string::npos;
    return value(whole ? kind::too_large : kind::other), true;
  }
  bool string(std::string& text) { return value(kind::text, 0, &text), true; }
  bool binary(nlohmann::json::binary_t&) { return false; }  // JSON text has none
  bool start_object(std::size_t) { return value(kind::object), deeper(); }
  bool start_array(std::size_t) { return value(kind::array), deeper(); }
  bool end_array() { return --depth_, true; }
  bool end_object() {
    if (--depth_ == 1 && !in_metadata_ && !problem_) finish_entry();
    return true;
  }
  bool key(std::string& name) {
    if (!problem_ && depth_ == 1) top_key(std::move(name));
    if (!problem_ && depth_ == 2) in_metadata_ ? metadata_key(std::move(name)) : field_key(name);
    return true;
  }
  bool parse_error(std::size_t byte, const std::string&, const nlohmann::json::exception&) {
    syntax_error_at_ = byte;
    return false;
  }

  // What was read, or the error.
  void check(std::string_view text) const {
    if (syntax_error_at_) fail_json(what_, *syntax_error_at_, text);
    require(depth_ <= json_nesting_limit, error_code::json, what_, ": nested deeper than ",
            json_nesting_limit, "; a header needs 3 levels");
    if (problem_) throw *problem_;
  }
  std::vector<tensor_entry> take_entries() { return std::move(entries_); }
  file_metadata take_metadata() { return std::move(metadata_); }

 private:
  enum class kind { object, array, text, whole, too_large, other };
  enum field : unsigned { dtype = 1, shape = 2, offsets = 4 };
  static constexpr std::array<std::pair<std::string_view, field>, 3> fields{
      {{"dtype", dtype}, {"shape", shape}, {"data_offsets", offsets}}};

  template <class... Parts>
  void note(error_code code, const Parts&... parts) {
    try {
      fail(code, what_, ": ", parts...);
    } catch (const error& first) {
      problem_ = first;
    }
  }
  template <class... Parts>
  void note_entry(error_code code, const Parts&... parts) {
    note(code, "tensor ", deepseek::escaped(entry_.name), ": ", parts...);
  }

  bool deeper() { return ++depth_ <= json_nesting_limit; }

  void top_key(std::string name) {
    in_metadata_ = name == safetensors_metadata_key;
    if (!in_metadata_) {
      entry_ = {};
      entry_.name = std::move(name);
      seen_ = 0;
      offsets_.clear();
    } else if (std::exchange(metadata_seen_, true)) {
      note(error_code::duplicate_key, "__metadata__ is given twice; keep one");
    }
  }

  void metadata_key(std::string name) {
    if (metadata_.contains(name)) {
      note(error_code::duplicate_key, "__metadata__ has ", deepseek::escaped(name),
           " twice; keep one");
    } else {
      metadata_at_ = metadata_.emplace(std::move(name), "").first;
    }
  }

  void field_key(const std::string& name) {
    const auto found = std::ranges::find(fields, std::string_view(name),
                                         &std::pair<std::string_view, field>::first);
    if (found == fields.end()) {
      note_entry(error_code::schema, "has the unknown field ", deepseek::escaped(name),
                 "; a tensor has dtype, shape and data_offsets");
    } else if ((seen_ & found->second) != 0) {
      note_entry(error_code::duplicate_key, "has ", deepseek::escaped(name), " twice; keep one");
    } else {
      seen_ |= field_ = found->second;
    }
  }

  void value(kind what, std::uint64_t number = 0, std::string* text = nullptr) {
    if (problem_) return;
    if (depth_ == 0 && what != kind::object) {
      note(error_code::json, "the header is no JSON object; write {name: {...}, ...}");
    } else if (depth_ == 1 && what != kind::object) {
      in_metadata_
          ? note(error_code::schema, "__metadata__ is no object; write {text: text}")
          : note_entry(error_code::schema, "is no object; write {dtype, shape, ", "data_offsets}");
    } else if (depth_ == 2) {
      in_metadata_ ? metadata_value(text) : field_value(what, text);
    } else if (depth_ == 3) {
      element(what, number);
    }
  }

  void metadata_value(std::string* text) {
    if (text == nullptr) {
      note(error_code::schema, "__metadata__ ", deepseek::escaped(metadata_at_->first),
           " is no text; metadata maps text to text");
    } else {
      metadata_at_->second = std::move(*text);
    }
  }

  void field_value(kind what, const std::string* text) {
    if (field_ != dtype && what != kind::array) {
      note_entry(error_code::schema, field_ == shape ? "shape" : "data_offsets",
                 " is no list; write a list of whole numbers");
    } else if (field_ == dtype) {
      const auto type = text != nullptr ? file_dtype_named(*text) : std::nullopt;
      if (!type) {
        note_entry(error_code::dtype, "dtype ",
                   text != nullptr ? deepseek::escaped(*text) : std::string("that is no text"),
                   " is not known; give one of ", known_file_dtypes());
      } else {
        entry_.dtype = *type;
      }
    }
  }

  void element(kind what, std::uint64_t number) {
    const std::string_view name = field_ == shape ? "shape" : "data_offsets";
    constexpr std::uint64_t largest_extent = detail::largest_u64 / 2;
    if (what == kind::too_large || (field_ == shape && number > largest_extent)) {
      note_entry(error_code::overflow, name, " has a number beyond ",
                 field_ == shape ? largest_extent : detail::largest_u64, "; no file is that large");
    } else if (what != kind::whole) {
      note_entry(error_code::schema, name, " has an element that is no whole number from 0 up; ",
                 "write digits only");
    } else if (field_ == shape && entry_.shape.size() == safetensors_highest_rank) {
      note_entry(error_code::limit, "shape has more than ", safetensors_highest_rank,
                 " extents; merge some");
    } else if (field_ == shape) {
      entry_.shape.push_back(static_cast<std::int64_t>(number));
    } else if (offsets_.size() < 3) {  // the third only tells that there are too many
      offsets_.push_back(number);
    }
  }

  void finish_entry() {
    for (const auto& [name, bit] : fields) {
      if ((seen_ & bit) == 0) {
        return note_entry(error_code::schema, "has no ", name, "; give dtype, shape, data_offsets");
      }
    }
    if (offsets_.size() != 2) {
      return note_entry(error_code::schema, "data_offsets has ",
                        offsets_.size() < 2 ? "fewer" : "more", " than 2 numbers; write [begin, ",
                        "end]");
    }
    entry_.begin = offsets_[0];
    entry_.end = offsets_[1];
    entry_.shape.shrink_to_fit();
    entries_.push_back(std::move(entry_));
  }

  std::string_view what_;
  int depth_ = 0;
  bool in_metadata_ = false;
  bool metadata_seen_ = false;
  tensor_entry entry_;   // the one being read,
  unsigned seen_ = 0;    // its fields so far,
  field field_ = dtype;  // and the one whose value comes
  std::vector<std::uint64_t> offsets_;
  file_metadata metadata_;
  file_metadata::iterator metadata_at_;
  std::vector<tensor_entry> entries_;
  std::optional<error> problem_;
  std::optional<std::size_t> syntax_error_at_;
};

}  // namespace detail

}  // namespace deepseek
