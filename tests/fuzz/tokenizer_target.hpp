// SPDX-License-Identifier: Apache-2.0
// Any bytes, read as tokenizer.json, then five texts through it: every id is below size(), a stream
// shows what decode gives, and the text comes back where nothing in the file changes texts; or a
// deepseek::error. Anything else is a defect.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include <deepseek/io/chat.hpp>

namespace fuzz {

// No normal form, prefix space, unknown token or token that takes white space with it.
inline bool keeps_texts(const deepseek::tokenizer_description& file) {
  return !file.composes && !file.vocab.unknown &&
         std::ranges::none_of(file.rules, &deepseek::split_rule::prefix_space) &&
         std::ranges::none_of(file.vocab.added, [](const deepseek::added_token& token) {
           return token.lstrip || token.rstrip;
         });
}

inline bool holds(const deepseek::tokenizer& tokenizer, std::string_view text, bool keeps) {
  try {
    const auto ids = tokenizer.encode(text);
    for (const auto id : ids) {
      if (id < 0 || id >= tokenizer.size()) return false;
    }
    deepseek::token_stream stream(tokenizer);
    std::string shown;
    for (const auto id : ids) shown += stream.push(id);
    shown += stream.finish();
    const std::string back = tokenizer.decode(ids);
    return shown == deepseek::replace_invalid_utf8(back) && (!keeps || back == text);
  } catch (const deepseek::error&) {
    return true;
  }
}

inline bool read_tokenizer(std::string_view file) {
  try {
    const bool keeps = keeps_texts(deepseek::parse_tokenizer_json(file, "input"));
    const auto tokenizer = deepseek::tokenizer::parse(file);
    const std::string_view own = file.substr(0, 200);
    for (std::string_view text : {std::string_view("Hello, it's 2024:\r\n\t  fn(x) += 1;  "),
                                  std::string_view("\xe6\xb7\xb1\xe5\xba\xa6 \xc3\xa9\xcc\x81<e>"),
                                  std::string_view("\xff\xc3 a\0b", 6), own,
                                  std::string_view("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!")}) {
      if (!holds(tokenizer, text, keeps)) return false;
    }
    deepseek::prompt_ids(tokenizer,
                         deepseek::chat(deepseek::chat_format::deepseek_v3, {{{}, "Hi <e>"}}));
    return true;
  } catch (const deepseek::error&) {
    return true;
  }
}

}  // namespace fuzz
