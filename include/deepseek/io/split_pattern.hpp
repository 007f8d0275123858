// SPDX-License-Identifier: Apache-2.0
// translate_pattern: a pattern of tokenizer.json, which is written for Oniguruma (Ruby's syntax),
// as the same pattern for PCRE2. What the two read differently is rewritten or refused:
//   \s \S -> \p{White_Space}, \P{White_Space}; \w -> letters, marks, digits, connectors;
//   \uHHHH -> \x{HHHH}; a brace that begins no interval -> \{.
// Errors: unsupported, naming the construct (nested sets, &&, [:name:], \b \h \v \R \k \g and other
// escapes, back references, (?i) and other groups than (?: (?= (?! (?<= (?<! (?> (?i:, {,n}, {n}?,
// {n,m}+, \xHH from 80 up). Anything else is left to the compiler.
// Source: Oniguruma's doc/RE, section "Syntax depend options", ONIG_SYNTAX_RUBY.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

#include "deepseek/core/error.hpp"

namespace deepseek {

namespace detail {

class pattern_translator {
 public:
  pattern_translator(std::string_view pattern, std::string_view what)
      : pattern_(pattern), what_(what) {}

  std::string run() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '\\') {
        escape();
      } else if (in_class_) {
        member(c);
      } else if (c == '[') {
        open_class();
      } else if (c == '(') {
        group();
      } else if (c == '{') {
        interval();
      } else {
        copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  static constexpr std::string_view word = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";

  bool next_is(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  void copy(std::size_t n) {
    out_ += pattern_.substr(at_, n);
    at_ += n;
  }
  void write(std::string_view text, std::size_t read) {
    out_ += text;
    at_ += read;
  }
  [[noreturn]] void refuse(std::string_view construct) const {
    fail(error_code::unsupported, what_, ": pattern ", deepseek::escaped(pattern_), ", byte ", at_,
         ": ", construct, " is not read; write it another way");
  }
  void refuse_if(bool holds, std::string_view construct) const {
    if (holds) refuse(construct);
  }

  void escape() {
    refuse_if(at_ + 1 == pattern_.size(), "a backslash at the end");
    const char c = pattern_[at_ + 1];
    constexpr std::string_view same = "dDnrtfaeAzZ";  // as is
    if (c == 's' || c == 'S') {
      write(c == 's' ? "\\p{White_Space}" : "\\P{White_Space}", 2);
    } else if (c == 'w' || c == 'W') {
      refuse_if(in_class_ && c == 'W', "\\W in a set");
      if (!in_class_) out_ += c == 'w' ? "[" : "[^";
      write(word, 2);
      if (!in_class_) out_ += ']';
    } else if (c == 'p' || c == 'P') {
      const std::size_t end = pattern_.find('}', at_);
      refuse_if(!pattern_.substr(at_ + 2).starts_with('{') || end == std::string_view::npos,
                "\\p without {name}");
      copy(end + 1 - at_);
    } else if (c == 'u' || c == 'x') {
      code_point(c);
    } else {
      const bool alphanumeric = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
                                (c >= 'a' && c <= 'z') || static_cast<unsigned char>(c) >= 0x80;
      const bool anchor = in_class_ && (c == 'A' || c == 'z' || c == 'Z');
      refuse_if(anchor || (alphanumeric && same.find(c) == std::string_view::npos),
                std::string("the escape \\") + c);
      copy(2);
    }
  }

  std::size_t hex_digits(std::size_t from, std::size_t most) const {
    std::size_t n = 0;
    while (n < most && from + n < pattern_.size() &&
           std::string_view("0123456789abcdefABCDEF").find(pattern_[from + n]) !=
               std::string_view::npos) {
      ++n;
    }
    return n;
  }

  void code_point(char c) {
    if (c == 'x' && pattern_.substr(at_ + 2).starts_with('{')) {
      const std::size_t n = hex_digits(at_ + 3, 8);
      refuse_if(n == 0 || !pattern_.substr(at_ + 3 + n).starts_with('}'), "\\x{} without a number");
      return copy(n + 4);
    }
    const std::size_t digits = c == 'u' ? 4 : 2;
    refuse_if(hex_digits(at_ + 2, digits) != digits, "\\u or \\x without its digits");
    refuse_if(c == 'x' && pattern_[at_ + 2] >= '8', "\\x for a byte from 80 up");
    out_ += "\\x{";
    out_ += pattern_.substr(at_ + 2, digits);
    write("}", digits + 2);
  }

  void open_class() {
    in_class_ = true;
    copy(next_is("[^") ? 2 : 1);
    refuse_if(next_is("]"), "a set that begins with ]");
  }
  void member(char c) {
    refuse_if(c == '[', "[ in a set (write \\[)");
    refuse_if(next_is("&&"), "&& in a set");
    in_class_ = c != ']';
    copy(1);
  }

  void group() {
    refuse_if(next_is("(*"), "(*");
    if (!next_is("(?")) return copy(1);
    for (std::string_view head : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"}) {
      if (next_is(head)) return copy(head.size());
    }
    refuse("this kind of group");
  }

  void interval() {
    const std::size_t end = pattern_.find('}', at_);
    const std::string_view inside =
        end == std::string_view::npos ? "" : pattern_.substr(at_ + 1, end - at_ - 1);
    const std::size_t commas = static_cast<std::size_t>(std::ranges::count(inside, ','));
    if (inside.empty() || commas > 1 ||
        inside.find_first_not_of("0123456789,") != std::string_view::npos) {
      return write("\\{", 1);
    }
    refuse_if(inside.front() == ',', "an interval without its lower end");
    copy(inside.size() + 2);
    refuse_if(next_is("+"), "+ after an interval");
    refuse_if(next_is("?") && commas == 0, "? after {n}");
  }

  std::string_view pattern_;
  std::string_view what_;
  std::size_t at_ = 0;
  bool in_class_ = false;
  std::string out_;
};

}  // namespace detail

inline std::string translate_pattern(std::string_view pattern, std::string_view what) {
  return detail::pattern_translator(pattern, what).run();
}

// A pattern that matches `text` itself.
inline std::string literal_pattern(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x80) {
      constexpr char hex[] = "0123456789abcdef";
      const auto byte = static_cast<unsigned char>(c);
      ((((out += "\\x{") += hex[byte >> 4]) += hex[byte & 15])) += '}';
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace deepseek
