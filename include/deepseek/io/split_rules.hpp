// SPDX-License-Identifier: Apache-2.0
// The pre-tokenizer: rules that cut a text into pieces, one after the other, each on the pieces of
// the one before it; BPE never merges across a cut.
//   isolated: matches and what lies between them; contiguous: matches in a row are one piece;
//   merged_with_previous, merged_with_next: a match joins the piece before, or after it.
// for_each_piece hands out the pieces in order; no byte is lost. Errors: those of regex.
// Source: the behaviour of `Split` in the package tokenizers, 0.23.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "deepseek/io/regex.hpp"

namespace deepseek {

enum class split_behavior { isolated, contiguous, merged_with_previous, merged_with_next };

struct split_rule {
  regex pattern;
  split_behavior behavior = split_behavior::isolated;
  bool inverted = false;      // what does not match counts as the match
  bool prefix_space = false;  // before the pattern: a space before a piece that has none
};

namespace detail {

// What regex::find sees of an empty match right behind the last match: nothing.
class match_walk {
 public:
  match_walk(const regex& pattern, std::string_view text, regex_scratch& scratch)
      : pattern_(pattern), text_(text), scratch_(scratch) {}

  std::optional<text_span> next() {
    while (from_ <= text_.size()) {
      const auto found = pattern_.find(text_, from_, scratch_);
      if (!found) break;
      const bool again = found->begin == found->end && last_end_ == found->end;
      from_ = found->end;
      if (again) {
        from_ += from_ < text_.size() ? first_length(text_.substr(from_)) : 1;
        continue;
      }
      last_end_ = found->end;
      return found;
    }
    return std::nullopt;
  }

 private:
  static std::size_t first_length(std::string_view text) {
    std::size_t n = 1;
    while (n < text.size() && (static_cast<unsigned char>(text[n]) & 0xc0) == 0x80) ++n;
    return n;
  }

  const regex& pattern_;
  std::string_view text_;
  regex_scratch& scratch_;
  std::size_t from_ = 0;
  std::size_t last_end_ = std::string_view::npos;  // before the first match
};

struct marked_span {
  text_span span;
  bool match;
};

// Calls f(span, is_match) for the matches and what lies between them.
template <class F>
void for_each_part(const split_rule& rule, std::string_view text, regex_scratch& scratch,
                   const F& f) {
  match_walk walk(rule.pattern, text, scratch);
  std::size_t done = 0;
  while (const auto found = walk.next()) {
    if (found->begin > done) f(text_span{done, found->begin}, rule.inverted);
    f(*found, !rule.inverted);
    done = found->end;
  }
  if (done < text.size()) f(text_span{done, text.size()}, rule.inverted);
}

inline std::vector<text_span> merged(const std::vector<marked_span>& parts, split_behavior how) {
  std::vector<text_span> out;
  const std::size_t n = parts.size();
  const bool backwards = how == split_behavior::merged_with_next;
  bool before = false;  // was the part visited before a match?
  for (std::size_t k = 0; k < n; ++k) {
    const auto& [span, match] = parts[backwards ? n - 1 - k : k];
    const bool joins = how == split_behavior::contiguous ? match == before : match && !before;
    before = match;
    if (!joins || out.empty()) {
      out.push_back(span);
    } else if (backwards) {
      out.back().begin = span.begin;
    } else {
      out.back().end = span.end;
    }
  }
  if (backwards) std::ranges::reverse(out);
  return out;
}

}  // namespace detail

// Calls f(piece) for the pieces of `text` (valid UTF-8) under rules[first], rules[first + 1], ...
template <class F>
void for_each_piece(const std::vector<split_rule>& rules, std::size_t first, std::string_view text,
                    regex_scratch& scratch, const F& f) {
  if (text.empty()) return;
  if (first == rules.size()) return f(text);
  const split_rule& rule = rules[first];
  std::string longer;
  if (rule.prefix_space && text.front() != ' ') {
    (longer = ' ') += text;
    text = longer;
  }
  const auto piece = [&](const text_span& span) {
    for_each_piece(rules, first + 1, text.substr(span.begin, span.end - span.begin), scratch, f);
  };
  if (rule.behavior == split_behavior::isolated) {
    detail::for_each_part(rule, text, scratch, [&](text_span span, bool) { piece(span); });
  } else {
    std::vector<detail::marked_span> parts;
    detail::for_each_part(rule, text, scratch, [&parts](text_span span, bool match) {
      parts.push_back({span, match});
    });
    for (const text_span& span : detail::merged(parts, rule.behavior)) piece(span);
  }
}

}  // namespace deepseek
