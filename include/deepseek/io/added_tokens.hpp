// SPDX-License-Identifier: Apache-2.0
// Tokens that are cut out of a text before anything else: of those that begin leftmost the longest,
// then on behind it. single_word: only between characters that are no word characters; lstrip,
// rstrip: with the white space before, after it; normalized: looked for in the normalized text.
// A match that a flag or `skipped` forbids is passed over whole. Errors: regex.
// Source: the added vocabulary of the package tokenizers, 0.23 (Aho-Corasick, leftmost-longest).
#pragma once

#include <algorithm>
#include <array>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "deepseek/io/bpe.hpp"
#include "deepseek/io/json_text.hpp"
#include "deepseek/io/regex.hpp"

namespace deepseek {

struct added_token {
  token_id id = 0;
  std::string content;
  bool special = false;  // dropped by decode on request
  bool normalized = false;
  bool lstrip = false, rstrip = false;
  bool single_word = false;
};

class added_token_set {
 public:
  added_token_set() = default;
  explicit added_token_set(std::vector<added_token> tokens) : tokens_(std::move(tokens)) {
    nodes_.emplace_back();
    for (std::size_t i = 0; i < tokens_.size(); ++i) insert(tokens_[i].content, i);
  }

  bool empty() const { return tokens_.empty(); }

  // Calls text(part) and token(id) in the order of `text`, which is valid UTF-8.
  template <class Text, class Token>
  void cut(std::string_view text, std::span<const token_id> skipped, regex_scratch& scratch,
           const Text& on_text, const Token& on_token) const {
    std::size_t done = 0;
    for (std::size_t at = 0; at < text.size();) {
      const auto [token, length] = longest(text.substr(at));
      if (token == nullptr) {
        at = next_start(text, at + 1);
        continue;
      }
      text_span span{at, at + length};
      at = span.end;
      if (std::ranges::find(skipped, token->id) != skipped.end()) continue;
      if (token->single_word && !stands_alone(text, span, scratch)) continue;
      if (token->lstrip) span.begin = std::max(blanks_before(text, span.begin), done);
      if (token->rstrip) span.end = blanks_after(text, span.end);
      if (done < span.begin) on_text(text.substr(done, span.begin - done));
      on_token(token->id);
      done = std::max(done, span.end);
    }
    if (done < text.size()) on_text(text.substr(done));
  }

 private:
  struct node {
    std::map<char, std::size_t> next;
    std::size_t token = static_cast<std::size_t>(-1);
  };

  void insert(std::string_view content, std::size_t token) {
    std::size_t at = 0;
    for (const char byte : content) {
      const auto [place, is_new] = nodes_[at].next.emplace(byte, nodes_.size());
      at = place->second;
      if (is_new) nodes_.emplace_back();
    }
    nodes_[at].token = token;
    starts_[static_cast<unsigned char>(content.front())] = true;
  }

  std::size_t next_start(std::string_view text, std::size_t at) const {
    while (at < text.size() && !starts_[static_cast<unsigned char>(text[at])]) ++at;
    return at;
  }

  std::pair<const added_token*, std::size_t> longest(std::string_view text) const {
    std::pair<const added_token*, std::size_t> best{nullptr, 0};
    if (nodes_.empty() || !starts_[static_cast<unsigned char>(text.front())]) return best;
    std::size_t at = 0;
    for (std::size_t n = 0; n < text.size(); ++n) {
      const auto place = nodes_[at].next.find(text[n]);
      if (place == nodes_[at].next.end()) break;
      at = place->second;
      if (nodes_[at].token < tokens_.size()) best = {&tokens_[nodes_[at].token], n + 1};
    }
    return best;
  }

  static const regex& blank() {
    static const regex pattern("\\p{White_Space}", "added tokens");
    return pattern;
  }
  static const regex& word() {
    static const regex pattern("[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]",
                               "added tokens");
    return pattern;
  }
  static bool begins(const regex& pattern, std::string_view text, regex_scratch& scratch) {
    if (text.empty()) return false;
    const std::size_t length = detail::utf8_sequence(text);
    return pattern.find(text.substr(0, length), 0, scratch).has_value();
  }
  static std::string_view last_character(std::string_view text) {
    std::size_t at = text.size() - 1;
    while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) --at;
    return text.substr(at);
  }

  static bool stands_alone(std::string_view text, text_span span, regex_scratch& scratch) {
    return (span.begin == 0 ||
            !begins(word(), last_character(text.substr(0, span.begin)), scratch)) &&
           !begins(word(), text.substr(span.end), scratch);
  }
  static std::size_t blanks_before(std::string_view text, std::size_t end) {
    regex_scratch scratch;
    while (end > 0) {
      const std::string_view last = last_character(text.substr(0, end));
      if (!begins(blank(), last, scratch)) break;
      end -= last.size();
    }
    return end;
  }
  static std::size_t blanks_after(std::string_view text, std::size_t begin) {
    regex_scratch scratch;
    while (begins(blank(), text.substr(begin), scratch)) {
      begin += detail::utf8_sequence(text.substr(begin));
    }
    return begin;
  }

  std::vector<added_token> tokens_;
  std::vector<node> nodes_;
  std::array<bool, 256> starts_{};
};

}  // namespace deepseek
