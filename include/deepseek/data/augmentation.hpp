// SPDX-License-Identifier: Apache-2.0
// replace_synonyms: a text with up to n of its words replaced by synonyms from a table; all else,
// spaces and punctuation too, stays. Places are drawn without repeats among the words that the
// table knows, then a synonym for each; a word with a capital first letter gets a synonym with one.
// Words are runs of ASCII letters, apostrophes and bytes >= 0x80, looked up in lower case.
// Stream (seed, step, random_use::data), lane `example`: depends on nothing else.
// Source: Wei and Zou 2019 (EDA), section 2, "synonym replacement".
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "deepseek/data/masking.hpp"

namespace deepseek {

using synonym_table = std::map<std::string, std::vector<std::string>, std::less<>>;

struct synonym_config {
  std::size_t replacements = 3;
  std::uint64_t seed = 0;
  std::uint32_t step = 0, example = 0;
};

namespace detail {

constexpr bool is_word_byte(char ch) {
  const auto c = static_cast<unsigned char>(ch);
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '\'' || c >= 0x80;
}
constexpr bool is_capital(char ch) {
  return ch >= 'A' && ch <= 'Z';
}

struct known_word {
  std::size_t first, length;
  const std::vector<std::string>* synonyms;
};
inline std::vector<known_word> known_words(std::string_view text, const synonym_table& table) {
  std::vector<known_word> out;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t n = 0;
    while (i + n < text.size() && is_word_byte(text[i + n])) ++n;
    std::string word(text.substr(i, n));
    for (char& ch : word) ch = is_capital(ch) ? static_cast<char>(ch + ('a' - 'A')) : ch;
    const auto found = table.find(word);
    if (n > 0 && found != table.end() && !found->second.empty()) {
      out.push_back({i, n, &found->second});
    }
    i += n > 0 ? n : 1;
  }
  return out;
}

}  // namespace detail

inline std::string replace_synonyms(std::string_view text, const synonym_table& table,
                                    const synonym_config& config) {
  const auto words = detail::known_words(text, table);
  const stream_key key{config.seed, config.step, 0, config.example, random_use::data};
  const auto n = static_cast<std::uint32_t>(words.size());
  std::vector<std::uint32_t> chosen(std::min(config.replacements, words.size()));
  sample_without_replacement(key, n, static_cast<std::uint32_t>(chosen.size()), chosen.data());
  random_stream random({config.seed, config.step, 1, config.example, random_use::data});
  std::vector<const std::string*> by_word(words.size(), nullptr);
  for (const std::uint32_t w : chosen) {
    const auto& choices = *words[w].synonyms;
    by_word[w] = &choices[random.below(static_cast<std::uint32_t>(choices.size()))];
  }
  std::string out;
  std::size_t done = 0;
  for (std::size_t w = 0; w < words.size(); ++w) {
    if (by_word[w] == nullptr) continue;
    out += text.substr(done, words[w].first - done);
    std::string word = *by_word[w];
    const bool small = !word.empty() && word[0] >= 'a' && word[0] <= 'z';
    if (small && detail::is_capital(text[words[w].first])) {
      word[0] = static_cast<char>(word[0] - ('a' - 'A'));
    }
    out += word;
    done = words[w].first + words[w].length;
  }
  return out += text.substr(done);
}

}  // namespace deepseek
