// SPDX-License-Identifier: Apache-2.0
// A small tokenizer.json as text, whose fields a test replaces: tokenizer_text().with("version",
// "2").with("model.merges", "[]"). An empty text takes a field away.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <deepseek/io/byte_level.hpp>

class tokenizer_text {
 public:
  tokenizer_text with(const std::string& name, const std::string& value) const {
    tokenizer_text copy = *this;
    for (auto* list : {&copy.root_, &copy.model_}) {
      for (auto& [field, text] : *list) {
        if (field == name) {
          text = value;
          return copy;
        }
      }
    }
    (name.starts_with("model.") ? copy.model_ : copy.root_).emplace_back(name, value);
    return copy;
  }
  // Every byte is a token, ids 0 ... 255; `more` goes on from 256: "\"ab\":256".
  tokenizer_text with_bytes(const std::string& more = "") const {
    std::string vocab;
    for (int byte = 0; byte < 256; ++byte) {
      const std::string letter =
          deepseek::byte_level_letters(std::string(1, static_cast<char>(byte)));
      vocab += byte == 0 ? "{" : ",";
      vocab += letter == "\"" || letter == "\\" ? "\"\\" + letter : "\"" + letter;
      vocab += "\":" + std::to_string(byte);
    }
    return with("model.vocab", vocab + (more.empty() ? "" : "," + more) + "}");
  }

  std::string text() const {
    return "{" + joined(root_, 0) + ",\"model\":{" + joined(model_, 6) + "}}";
  }

 private:
  using fields = std::vector<std::pair<std::string, std::string>>;

  static std::string joined(const fields& all, std::size_t prefix) {
    std::string text;
    for (const auto& [name, value] : all) {
      if (value.empty()) continue;
      text += (text.empty() ? "\"" : ",\"") + name.substr(prefix) + "\":" + value;
    }
    return text;
  }

  fields root_ = {
      {"version", "\"1.0\""},
      {"truncation", "null"},
      {"padding", "null"},
      {"added_tokens", R"([{"id":3,"content":"<e>","special":true}])"},
      {"normalizer", "null"},
      {"pre_tokenizer", R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":false})"},
      {"post_processor", "null"},
      {"decoder", R"({"type":"ByteLevel"})"}};
  fields model_ = {{"model.type", "\"BPE\""},
                   {"model.vocab", R"({"a":0,"b":1,"ab":2})"},
                   {"model.merges", R"(["a b"])"}};
};
