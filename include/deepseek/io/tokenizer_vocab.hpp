// SPDX-License-Identifier: Apache-2.0
// The vocabulary of tokenizer.json: model.vocab, model.merges and added_tokens, checked.
// All ids together are 0, 1, ... size - 1, each once; a token in both lists has one id. Merges join
// tokens of model.vocab to a token of model.vocab, no pair twice.
// Errors: vocab (ids, added tokens, unknown token), merges (with the line, from 1), config
// (dropout), unsupported (byte fallback, fused unknown tokens, prefixes, dropout), schema.
// Source: the BPE model of the package tokenizers, 0.23; stricter where that renumbers in silence.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "deepseek/io/added_tokens.hpp"
#include "deepseek/io/bpe.hpp"
#include "deepseek/io/json_fields.hpp"

namespace deepseek {

struct tokenizer_vocab {
  std::vector<std::string> tokens;  // by id, as the file spells them
  std::vector<bool> in_model;       // by id: listed in model.vocab
  std::vector<added_token> added;
  std::vector<merge_rule> merges;
  std::optional<token_id> unknown;
  bool whole_pieces = false;  // ignore_merges: a piece that is a token stays one
};

namespace detail {

using id_map = std::unordered_map<std::string_view, token_id>;

inline token_id read_id(const nlohmann::json& id, const std::string& what,
                        const std::string& token) {
  constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<token_id>::max());
  if (id.is_number_unsigned() && id.get<std::uint64_t>() < most) return id.get<token_id>();
  fail(error_code::vocab, what, ": token ", deepseek::escaped(token), " has the id ",
       deepseek::escaped(id.dump()), "; write a whole number from 0 up and below ", most);
}

inline id_map read_vocab(json_fields& model) {
  const nlohmann::json* vocab = model.find("vocab");
  model.check(vocab != nullptr && vocab->is_object(), error_code::vocab, "vocab is ",
              vocab == nullptr ? "absent" : vocab->type_name(), "; write {token: id}");
  model.check(!vocab->empty(), error_code::vocab, "vocab is empty; list the tokens");
  id_map ids;
  for (const auto& [token, id] : vocab->get_ref<const nlohmann::json::object_t&>()) {
    model.check(!token.empty(), error_code::vocab, "vocab has an empty token; remove it");
    ids.emplace(token, read_id(id, model.what(), token));
  }
  return ids;
}

inline std::vector<added_token> read_added(json_fields& root) {
  std::vector<added_token> tokens;
  if (root.find("added_tokens") == nullptr) return tokens;
  for (const auto& entry : root.list("added_tokens")) {
    json_fields fields(entry,
                       root.what() + ": added_tokens[" + std::to_string(tokens.size()) + "]");
    added_token token;
    token.content = fields.text("content");
    fields.check(!token.content.empty(), error_code::vocab, "content is empty; remove the token");
    token.id = read_id(fields.value("id"), fields.what(), token.content);
    token.special = fields.flag("special", false);
    token.normalized = fields.flag("normalized", !token.special);
    token.lstrip = fields.flag("lstrip", false);
    token.rstrip = fields.flag("rstrip", false);
    token.single_word = fields.flag("single_word", false);
    fields.finish();
    tokens.push_back(std::move(token));
  }
  return tokens;
}

// Puts every token at its id; ids are below the number of tokens, so nothing large is allocated.
inline void place(tokenizer_vocab& out, const id_map& ids, const std::string& what) {
  std::size_t count = ids.size();
  id_map added;
  for (const auto& token : out.added) {
    require(added.emplace(token.content, token.id).second, error_code::vocab, what,
            ": added_tokens has ", deepseek::escaped(token.content), " twice; keep one");
    const auto known = ids.find(token.content);
    require(known == ids.end() || known->second == token.id, error_code::vocab, what, ": token ",
            deepseek::escaped(token.content), " has the id ", token.id,
            " in added_tokens and another in model.vocab; write the same");
    count += known == ids.end() ? 1 : 0;
  }
  out.tokens.resize(count);
  out.in_model.resize(count);
  const auto put = [&](std::string_view token, token_id id) {
    if (static_cast<std::size_t>(id) >= count) {
      fail(error_code::vocab, what, ": token ", deepseek::escaped(token), " has the id ", id,
           ", but there are only ", count, " tokens; number them 0, 1, ... without a gap");
    }
    std::string& home = out.tokens[static_cast<std::size_t>(id)];
    if (!home.empty() && home != token) {
      fail(error_code::vocab, what, ": tokens ", deepseek::escaped(home), " and ",
           deepseek::escaped(token), " both have the id ", id, "; give each its own");
    }
    home = token;
  };
  for (const auto& [token, id] : ids) put(token, id);
  for (const auto& [token, id] : ids) out.in_model[static_cast<std::size_t>(id)] = true;
  for (const auto& [token, id] : added) put(token, id);
}

class merge_reader {
 public:
  merge_reader(json_fields& model, const id_map& ids)
      : model_(model), ids_(ids), list_(model.list("merges")) {}

  std::vector<merge_rule> run() {
    std::vector<merge_rule> merges;
    merges.reserve(list_.size());
    for (const auto& entry : list_) {
      ++line_;
      check(entry.type() == list_.front().type(), "is written in another style than the first");
      const auto parts =
          entry.is_string() ? spelled(entry.get_ref<const std::string&>()) : listed_parts(entry);
      if (!parts) continue;
      merges.push_back({id_of(parts->first), id_of(parts->second), 0});
      merges.back().result = id_of(std::string(parts->first).append(parts->second));
    }
    return merges;
  }

 private:
  using pair = std::pair<std::string_view, std::string_view>;

  void check(bool holds, std::string_view problem) const {
    model_.check(holds, error_code::merges, "merge ", line_, " ", problem,
                 "; write the two tokens it joins");
  }

  // "left right"; a line that begins with #version says nothing.
  std::optional<pair> spelled(std::string_view text) const {
    if (text.starts_with("#version")) return std::nullopt;
    const std::size_t space = text.find(' ');
    check(space != std::string_view::npos, "has no space");
    check(text.find(' ', space + 1) == std::string_view::npos, "has more than one space");
    return both(text.substr(0, space), text.substr(space + 1));
  }
  std::optional<pair> listed_parts(const nlohmann::json& entry) const {
    check(entry.is_array() && entry.size() == 2, "is no list of two tokens");
    check(entry[0].is_string() && entry[1].is_string(), "has a part that is no text");
    return both(entry[0].get_ref<const std::string&>(), entry[1].get_ref<const std::string&>());
  }
  pair both(std::string_view left, std::string_view right) const {
    check(!left.empty() && !right.empty(), "has an empty part");
    return {left, right};
  }

  token_id id_of(std::string_view token) const {
    const auto at = ids_.find(token);
    if (at != ids_.end()) return at->second;
    fail(error_code::merges, model_.what(), ": merge ", line_, " needs the token ",
         deepseek::escaped(token), ", which vocab has not; add it or remove the merge");
  }

  const json_fields& model_;
  const id_map& ids_;
  const nlohmann::json& list_;
  std::size_t line_ = 0;
};

inline void check_merges_differ(const json_fields& model, const std::vector<merge_rule>& merges) {
  const merge_table table(merges);
  for (std::uint32_t rank = 0; rank < merges.size(); ++rank) {
    const std::uint32_t first = table.rank(merges[rank].left, merges[rank].right);
    model.check(first == rank, error_code::merges, "merge ", rank + 1, " is given before, as ",
                first + 1, "; keep one");
  }
}

// What would give other tokens than plain BPE is refused.
inline void check_plain(json_fields& model) {
  if (const nlohmann::json* dropout = model.find("dropout")) {
    const double rate = dropout->is_number() ? dropout->get<double>() : -1;
    model.check(rate >= 0 && rate <= 1, error_code::config, "dropout is ",
                deepseek::escaped(dropout->dump()), "; write null or a number from 0 to 1");
    model.check(rate == 0, error_code::unsupported, "dropout is ", rate,
                ": random merges are not made; write null");
  }
  for (const char* name : {"fuse_unk", "byte_fallback"}) {
    model.check(!model.flag(name, false), error_code::unsupported, name,
                " is true, which byte-level BPE never needs; write false");
  }
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    model.check(model.find(name) == nullptr || model.text(name).empty(), error_code::unsupported,
                name, " is not empty, which byte-level BPE never needs; write null");
  }
}

}  // namespace detail

// From the document's root object.
inline tokenizer_vocab read_tokenizer_vocab(json_fields& root) {
  json_fields model = root.object("model");
  const std::string& type = model.text("type");
  model.check(type == "BPE", error_code::unsupported, "type is ", deepseek::escaped(type),
              "; only BPE is read");
  const auto ids = detail::read_vocab(model);
  tokenizer_vocab out;
  out.added = detail::read_added(root);
  detail::place(out, ids, root.what());
  out.merges = detail::merge_reader(model, ids).run();
  detail::check_merges_differ(model, out.merges);
  detail::check_plain(model);
  out.whole_pieces = model.flag("ignore_merges", false);
  if (model.find("unk_token") != nullptr) {
    const auto at = ids.find(model.text("unk_token"));
    model.check(at != ids.end(), error_code::vocab, "unk_token is ",
                deepseek::escaped(model.text("unk_token")), ", which vocab has not; add it");
    out.unknown = at->second;
  }
  model.finish();
  return out;
}

}  // namespace deepseek
