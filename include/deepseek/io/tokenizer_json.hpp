// SPDX-License-Identifier: Apache-2.0
// tokenizer.json as one checked value: {version, truncation, padding, added_tokens, normalizer,
// pre_tokenizer, post_processor, decoder, model}.
// Read: version "1.0"; normalizer null, NFC or a Sequence of these; decoder ByteLevel;
// post_processor null, ByteLevel, TemplateProcessing (its single form), or a Sequence of these;
// truncation and padding null. Errors: version_mismatch, unsupported (another type, named), schema,
// vocab (a template's token), those of tokenizer_vocab.hpp, tokenizer_rules.hpp and parse_json.
// Memory while reading: at most 60 times the text. Source: the package tokenizers, 0.23.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "deepseek/io/nfc.hpp"
#include "deepseek/io/tokenizer_rules.hpp"
#include "deepseek/io/tokenizer_vocab.hpp"

namespace deepseek {

struct tokenizer_description {
  tokenizer_vocab vocab;
  std::vector<split_rule> rules;
  bool composes = false;         // NFC before the rules
  std::vector<token_id> before;  // around one text, from the post-processor
  std::vector<token_id> behind;
};

namespace detail {

inline void check_version(json_fields& root) {
  const nlohmann::json* version = root.find("version");
  root.check(version != nullptr && *version == "1.0", error_code::version_mismatch, "version is ",
             version == nullptr ? "absent" : deepseek::escaped(version->dump()),
             "; \"1.0\" is read");
}

inline bool read_normalizer(json_fields& root) {
  bool composes = false;
  if (const auto* stage = root.find("normalizer")) {
    for_each_stage(*stage, root.what() + ": normalizer", "normalizers",
                   [&](const nlohmann::json& inner, const std::string& what) {
                     json_fields fields(inner, what);
                     const std::string& type = fields.text("type");
                     fields.check(type == "NFC", error_code::unsupported, "type is ",
                                  deepseek::escaped(type), "; null and NFC are read");
                     fields.check(nfc_available, error_code::unsupported,
                                  "NFC needs utf8proc; install libutf8proc-dev and build again");
                     fields.finish();
                     composes = true;
                   });
  }
  return composes;
}

inline void check_decoder(json_fields& root) {
  std::size_t stages = 0;
  if (const auto* stage = root.find("decoder")) {
    for_each_stage(*stage, root.what() + ": decoder", "decoders",
                   [&](const nlohmann::json& inner, const std::string& what) {
                     json_fields fields(inner, what);
                     fields.check(fields.text("type") == "ByteLevel" && ++stages == 1,
                                  error_code::unsupported, "type is ",
                                  deepseek::escaped(fields.text("type")),
                                  "; one ByteLevel is read");
                     for (const char* flag : {"add_prefix_space", "trim_offsets", "use_regex"}) {
                       fields.flag(flag, true);
                     }
                     fields.finish();
                   });
  }
  root.check(stages == 1, error_code::unsupported,
             "decoder is no ByteLevel; only byte-level vocabularies are read");
}

// The ids that a template's name stands for.
inline std::vector<token_id> template_ids(json_fields& processor, const tokenizer_vocab& vocab,
                                          const std::string& name) {
  json_fields tokens = processor.object("special_tokens");
  json_fields token = tokens.object(name);
  std::vector<token_id> ids;
  for (const auto& id : token.list("ids")) {
    const token_id number = read_id(id, token.what(), name);
    token.check(static_cast<std::size_t>(number) < vocab.tokens.size(), error_code::vocab, "id ",
                number, " is none of the ", vocab.tokens.size(), " tokens; write one that is");
    ids.push_back(number);
  }
  const auto& spelled = token.list("tokens");
  token.check(spelled.size() == ids.size(), error_code::schema, "has ", ids.size(), " ids and ",
              spelled.size(), " tokens; write as many");
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::string& actual = vocab.tokens[static_cast<std::size_t>(ids[i])];
    token.check(spelled[i] == actual, error_code::vocab, "id ", ids[i], " is the token ",
                deepseek::escaped(actual), ", not ", deepseek::escaped(spelled[i].dump()),
                "; write the same");
  }
  token.text("id");
  token.finish();
  return ids;
}

inline void read_template(json_fields& processor, tokenizer_description& out) {
  bool text_seen = false;
  std::vector<token_id> before, behind;
  for (const auto& entry : processor.list("single")) {
    json_fields piece(entry, processor.what() + ".single");
    const bool is_text = piece.find("Sequence") != nullptr;
    json_fields fields = piece.object(is_text ? "Sequence" : "SpecialToken");
    fields.find("type_id");
    const std::string& name = fields.text("id");
    fields.finish();
    piece.finish();
    if (is_text) {
      piece.check(name == "A" && !text_seen, error_code::schema, "has Sequence ",
                  deepseek::escaped(name), "; write A, once");
      text_seen = true;
    } else {
      auto& side = text_seen ? behind : before;
      for (const token_id id : template_ids(processor, out.vocab, name)) side.push_back(id);
    }
  }
  processor.check(text_seen, error_code::schema, "single has no Sequence A; add it");
  processor.check(out.before.empty() && out.behind.empty(), error_code::unsupported,
                  "is the second template; write one");
  out.before = std::move(before);
  out.behind = std::move(behind);
}

inline void read_post_processor(json_fields& root, tokenizer_description& out) {
  const auto* stage = root.find("post_processor");
  if (stage == nullptr) return;
  for_each_stage(*stage, root.what() + ": post_processor", "processors",
                 [&](const nlohmann::json& inner, const std::string& what) {
                   json_fields fields(inner, what);
                   const std::string& type = fields.text("type");
                   if (type == "TemplateProcessing") {
                     read_template(fields, out);
                     fields.find("pair");  // two texts at once are not encoded
                   } else {
                     fields.check(type == "ByteLevel", error_code::unsupported, "type is ",
                                  deepseek::escaped(type),
                                  "; ByteLevel and TemplateProcessing are read");
                     for (const char* flag : {"add_prefix_space", "trim_offsets", "use_regex"}) {
                       fields.flag(flag, true);
                     }
                   }
                   fields.finish();
                 });
}

}  // namespace detail

// `what` names the text in messages.
inline tokenizer_description parse_tokenizer_json(std::string_view text, const std::string& what) {
  const nlohmann::json document = parse_json(text, what);
  json_fields root(document, what);
  detail::check_version(root);
  for (const char* name : {"truncation", "padding"}) {
    root.check(root.find(name) == nullptr, error_code::unsupported, name,
               " is set, which changes what encode gives; write null");
  }
  tokenizer_description out;
  out.vocab = read_tokenizer_vocab(root);
  out.composes = detail::read_normalizer(root);
  out.rules = read_split_rules(root);
  detail::read_post_processor(root, out);
  detail::check_decoder(root);
  root.finish();
  return out;
}

}  // namespace deepseek
