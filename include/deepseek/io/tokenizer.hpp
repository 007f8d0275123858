// SPDX-License-Identifier: Apache-2.0
// tokenizer: text <-> token ids by a tokenizer.json of a byte-level BPE model.
//   encode: added tokens are cut out, then NFC if the file asks for it, the split rules, BPE of the
//   bytes of each piece. decode: the bytes of the tokens, one after the other.
// Every byte of the text is in some token or encode fails; decode(encode(x)) == x for every x,
// valid UTF-8 or not, where the file has neither NFC nor a prefix space nor stripping tokens. Runs
// of bytes that are no UTF-8 are pieces of their own. All ids are in [0, size()). Immutable and
// cheap to copy; many threads may use one. Errors: those of tokenizer_json.hpp, encode (a byte
// without a token), regex (a rule past its limits), index_range (decode), vocab.
#pragma once

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "deepseek/io/byte_level.hpp"
#include "deepseek/io/file.hpp"
#include "deepseek/io/tokenizer_json.hpp"

namespace deepseek {

struct encode_options {
  bool add_special = false;                // what the file's template puts around a text
  std::span<const token_id> as_text = {};  // added tokens that are not cut out, only spelled
};

enum class special_tokens { keep, drop };

class tokenizer {
 public:
  static constexpr std::uint64_t largest_file = 1 << 26;

  static tokenizer load(const std::filesystem::path& path) {
    return tokenizer(read_text(path, largest_file),
                     "tokenizer " + deepseek::escaped(path.string()));
  }
  static tokenizer parse(std::string_view text) { return tokenizer(text, "tokenizer"); }

  token_id size() const { return static_cast<token_id>(state_->tokens().size()); }
  // A model has `rows` rows of embeddings: no token may lie beyond.
  void check_rows(std::int64_t rows) const {
    require(size() <= rows, error_code::vocab, "tokenizer: has ", size(),
            " tokens, the model has rows for ", rows, "; use the model's own tokenizer");
  }

  // As the file spells it; nothing where there is no such token.
  std::optional<token_id> find(std::string_view token) const {
    const auto at = state_->ids.find(token);
    return at == state_->ids.end() ? std::nullopt : std::optional(at->second);
  }
  token_id id(std::string_view token) const {
    const auto found = find(token);
    require(found.has_value(), error_code::vocab, "tokenizer: has no token ",
            deepseek::escaped(token), "; use the tokenizer that the model came with");
    return *found;
  }
  const std::string& token(token_id id) const { return state_->tokens()[checked(id)]; }
  // What the token stands for in a text: bytes, not always whole characters.
  const std::string& bytes(token_id id) const { return state_->bytes[checked(id)]; }
  bool is_special(token_id id) const { return state_->special[checked(id)]; }

  std::vector<token_id> encode(std::string_view text, const encode_options& options = {}) const {
    std::vector<token_id> ids;
    if (options.add_special) ids = state_->file.before;
    encoding(*state_, text, options, ids).run();
    const auto& behind = state_->file.behind;
    if (options.add_special) ids.insert(ids.end(), behind.begin(), behind.end());
    return ids;
  }

  std::string decode(std::span<const token_id> ids,
                     special_tokens what = special_tokens::keep) const {
    std::string text;
    for (const token_id id : ids) {
      if (what == special_tokens::keep || !is_special(id)) text += bytes(id);
    }
    return text;
  }

 private:
  struct state {
    tokenizer_description file;
    std::unordered_map<std::string_view, token_id> ids;     // into file.vocab.tokens
    std::vector<std::string> bytes;                         // by id
    std::vector<bool> special;                              // by id
    std::array<token_id, 256> of_byte;                      // -1: none
    std::unordered_map<std::string_view, token_id> wholes;  // of bytes, with ignore_merges
    merge_table merges;
    added_token_set raw, normalized;

    explicit state(tokenizer_description read)
        : file(std::move(read)), merges(std::move(file.vocab.merges)) {
      fill_tokens();
      fill_added();
    }
    const std::vector<std::string>& tokens() const { return file.vocab.tokens; }

    void fill_tokens() {
      of_byte.fill(-1);
      bytes.reserve(tokens().size());
      for (const auto& token : tokens()) {
        const auto id = static_cast<token_id>(bytes.size());
        ids.emplace(token, id);
        const auto mapped = byte_level_bytes(token);
        bytes.push_back(mapped.value_or(token));
        if (!mapped || !file.vocab.in_model[static_cast<std::size_t>(id)]) continue;
        if (mapped->size() == 1) of_byte[static_cast<unsigned char>(mapped->front())] = id;
        if (file.vocab.whole_pieces) wholes.emplace(bytes.back(), id);
      }
    }
    void fill_added() {
      special.resize(tokens().size());
      std::vector<added_token> raw_tokens, normalized_tokens;
      for (auto& token : file.vocab.added) {
        const auto at = static_cast<std::size_t>(token.id);
        special[at] = token.special;
        require(!file.vocab.in_model[at] || token.content == bytes[at], error_code::vocab,
                "tokenizer: added token ", deepseek::escaped(token.content),
                " is in model.vocab too, where its letters stand for other bytes; take it out of ",
                "one of the two");
        bytes[at] = token.content;
        if (token.normalized && file.composes) token.content = nfc(token.content);
        (token.normalized ? normalized_tokens : raw_tokens).push_back(token);
      }
      raw = added_token_set(std::move(raw_tokens));
      normalized = added_token_set(std::move(normalized_tokens));
    }
  };

  // One text on its way to ids.
  class encoding {
   public:
    encoding(const state& s, std::string_view text, const encode_options& options,
             std::vector<token_id>& ids)
        : s_(s), text_(text), options_(options), ids_(ids), cache_(text.size()) {}

    void run() {
      for_each_utf8_run(text_, [this](std::string_view run, bool valid) {
        if (!valid) return merge(run);
        s_.raw.cut(
            run, options_.as_text, scratch_, [this](std::string_view part) { normalize(part); },
            [this](token_id id) { ids_.push_back(id); });
      });
    }

   private:
    void normalize(std::string_view part) {
      std::string composed;
      if (s_.file.composes) {
        composed = nfc(part);
        part = composed;
      }
      s_.normalized.cut(
          part, options_.as_text, scratch_,
          [this](std::string_view text) {
            for_each_piece(s_.file.rules, 0, text, scratch_,
                           [this](std::string_view piece) { merge(piece); });
          },
          [this](token_id id) { ids_.push_back(id); });
    }

    void merge(std::string_view piece) {
      if (cache_.append(piece, ids_)) return;
      const auto whole = s_.wholes.find(piece);
      if (whole != s_.wholes.end()) {
        ids_.push_back(whole->second);
        return;
      }
      tokens_.clear();
      for (const char& byte : piece) tokens_.push_back(first_token(byte));
      merger_.merge(s_.merges, tokens_);
      cache_.keep(piece, tokens_);
      ids_.insert(ids_.end(), tokens_.begin(), tokens_.end());
    }

    token_id first_token(const char& byte) const {
      const auto value = static_cast<unsigned char>(byte);
      const token_id id = s_.of_byte[value];
      if (id >= 0) return id;
      if (s_.file.vocab.unknown) return *s_.file.vocab.unknown;
      const bool ours =
          !std::less<>()(&byte, text_.data()) && std::less<>()(&byte, text_.data() + text_.size());
      fail(error_code::encode, "tokenizer: byte ", int{value},
           ours ? " at position " + std::to_string(&byte - text_.data()) : std::string(),
           " of a text of ", text_.size(),
           " bytes has no token; use a vocabulary with all 256 bytes or an unknown token");
    }

    const state& s_;
    std::string_view text_;
    const encode_options& options_;
    std::vector<token_id>& ids_;
    piece_cache cache_;
    regex_scratch scratch_;
    bpe_merger merger_;
    std::vector<token_id> tokens_;
  };

  tokenizer(std::string_view text, const std::string& what)
      : state_(std::make_shared<const state>(parse_tokenizer_json(text, what))) {}

  std::size_t checked(token_id id) const {
    require(id >= 0 && id < size(), error_code::index_range, "tokenizer: id ", id,
            " is outside [0, ", size(), "); pass ids of this tokenizer");
    return static_cast<std::size_t>(id);
  }

  std::shared_ptr<const state> state_;
};

// Ids in, whole characters out, as they come: U+FFFD only for bytes that can never be a character.
class token_stream {
 public:
  explicit token_stream(tokenizer from, special_tokens what = special_tokens::keep)
      : tokenizer_(std::move(from)), what_(what) {}

  std::string push(token_id id) {
    const std::string& bytes = tokenizer_.bytes(id);
    return what_ == special_tokens::drop && tokenizer_.is_special(id) ? "" : text_.push(bytes);
  }
  // The end: what was held back of a character is shown as U+FFFD.
  std::string finish() { return text_.finish(); }

 private:
  tokenizer tokenizer_;
  special_tokens what_;
  utf8_stream text_;
};

}  // namespace deepseek
