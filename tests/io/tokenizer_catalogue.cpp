// SPDX-License-Identifier: Apache-2.0
// tokenizer.json files that are damaged, foreign or sly, one row each: every refused one has its
// code and names what is wrong; beside it stand those just inside the limit that must be read.
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <deepseek/io/tokenizer.hpp>

#include "support/temp_dir.hpp"
#include "support/throws.hpp"
#include "tokenizer_text.hpp"

namespace {

namespace ds = deepseek;
using ds::error_code;

void check_refused(const std::string& row, const std::string& text, error_code code,
                   const std::string& part) {
  CAPTURE(row);
  try {
    const auto tokenizer = ds::tokenizer::parse(text);
    FAIL_CHECK("was accepted, expected " << to_string(code));
  } catch (const ds::error& e) {
    const std::string message = e.what();
    CAPTURE(message);
    CHECK(to_string(e.code()) == to_string(code));
    CHECK(message.find(part) != std::string::npos);
    CHECK(message.find("; ") != std::string::npos);
    CHECK(message.size() < 1500);
  }
}

// One field of the small file is replaced.
struct replaced {
  std::string field, value;
  error_code code;
  std::string part = "";
};
void check_refused(const std::vector<replaced>& rows) {
  for (const auto& row : rows) {
    check_refused(row.field + " = " + row.value, tokenizer_text().with(row.field, row.value).text(),
                  row.code, row.part);
  }
}

std::string split(const std::string& pattern, const std::string& behavior = "\"Isolated\"") {
  return R"({"type":"Sequence","pretokenizers":[{"type":"Split","pattern":)" + pattern +
         ",\"behavior\":" + behavior + R"(,"invert":false},{"type":"ByteLevel",)" +
         R"("add_prefix_space":false,"use_regex":false}]})";
}
std::string regex_rule(const std::string& pattern) {
  return split("{\"Regex\":\"" + pattern + "\"}");
}

std::string templated(const std::string& single, const std::string& ids = "[3]",
                      const std::string& tokens = "[\"<e>\"]") {
  return R"({"type":"TemplateProcessing","single":)" + single +
         R"(,"pair":[],"special_tokens":{"<e>":{"id":"<e>","ids":)" + ids +
         ",\"tokens\":" + tokens + "}}}";
}
const std::string special = R"({"SpecialToken":{"id":"<e>","type_id":0}})";
const std::string sequence = R"({"Sequence":{"id":"A","type_id":0}})";

}  // namespace

TEST_CASE("tokenizer.json: what is no document (T01)") {
  const std::string good = tokenizer_text().text();
  std::string wide;
  for (const char c : good) (wide += c) += '\0';
  check_refused("empty", "", error_code::json, "byte 0");
  check_refused("cut", good.substr(0, good.size() - 1), error_code::json, "valid JSON");
  check_refused("byte order mark", "\xef\xbb\xbf" + good, error_code::json, "mark");
  check_refused("UTF-16 with mark", "\xff\xfe" + wide, error_code::json, "mark");
  check_refused("UTF-16", wide, error_code::json, "NUL");
  check_refused("Latin-1",
                R"({"version":")"
                "\xe9"
                "\"}",
                error_code::utf8, "UTF-8");
  check_refused("NUL inside", good.substr(0, 5) + '\0' + good.substr(5), error_code::json, "NUL");
  check_refused("HTML", "<!DOCTYPE html><html>404</html>", error_code::json, "byte 0");
  check_refused("trailing text", good + "x", error_code::json, "valid JSON");
  check_refused("twice", good + good, error_code::json, "valid JSON");
  check_refused("half a surrogate", R"({"version":"\ud800"})", error_code::json, "valid JSON");
  check_refused("deep", std::string(100'000, '['), error_code::json, "nested");
}

TEST_CASE("tokenizer.json: roots and versions (T02, T03)") {
  check_refused("list", "[]", error_code::schema, "object");
  check_refused("null", "null", error_code::schema, "object");
  check_refused("text", "\"x\"", error_code::schema, "object");
  check_refused("no model", R"({"version":"1.0"})", error_code::schema, "no model");
  check_refused("model null", R"({"version":"1.0","model":null})", error_code::schema, "no model");
  check_refused("model list", R"({"version":"1.0","model":[]})", error_code::schema, "object");
  check_refused(
      {{"model.type", "", error_code::schema, "no type"},
       {"model.type", "7", error_code::schema, "text"},
       {"model.type", "\"Unigram\"", error_code::unsupported, "Unigram"},
       {"model.type", "\"WordPiece\"", error_code::unsupported, "WordPiece"},
       {"version", "\"9.9\"", error_code::version_mismatch, "9.9"},
       {"version", "1.0", error_code::version_mismatch, "1.0"},
       {"version", "", error_code::version_mismatch, "absent"},
       {"more", "1", error_code::schema, "\"more\""},
       {"truncation", R"({"max_length":0})", error_code::unsupported, "truncation"},
       {"padding", R"({"strategy":{"Fixed":1000000000000}})", error_code::unsupported, "padding"}});
  check_refused("two versions", R"({"version":"1.0","version":"1.0"})", error_code::duplicate_key,
                "version");
}

TEST_CASE("tokenizer.json: vocabularies (T04, T05)") {
  check_refused(
      {{"model.vocab", "", error_code::vocab, "absent"},
       {"model.vocab", "null", error_code::vocab, "absent"},
       {"model.vocab", "[]", error_code::vocab, "array"},
       {"model.vocab", "{}", error_code::vocab, "empty"},
       {"model.vocab", R"({"a":-1,"b":1,"ab":2})", error_code::vocab, "-1"},
       {"model.vocab", R"({"a":1.5,"b":1,"ab":2})", error_code::vocab, "1.5"},
       {"model.vocab", R"({"a":"7","b":1,"ab":2})", error_code::vocab, "7"},
       {"model.vocab", R"({"a":null,"b":1,"ab":2})", error_code::vocab, "null"},
       {"model.vocab", R"({"a":true,"b":1,"ab":2})", error_code::vocab, "true"},
       {"model.vocab", R"({"a":2147483647,"b":1,"ab":2})", error_code::vocab, "2147"},
       {"model.vocab", R"({"a":4294967296,"b":1,"ab":2})", error_code::vocab, "4294"},
       {"model.vocab", R"({"a":18446744073709551616,"b":1,"ab":2})", error_code::vocab, "1.8446"},
       {"model.vocab", R"({"a":1,"b":1,"ab":2})", error_code::vocab, "both"},
       {"model.vocab", R"({"a":9,"b":1,"ab":2})", error_code::vocab, "gap"},
       {"model.vocab", R"({"a":0,"b":1,"ab":2,"":3})", error_code::vocab, "empty"},
       {"model.vocab", R"({"a":0,"b":1,"ab":2,"a":0})", error_code::duplicate_key, "\"a\""},
       {"model.unk_token", "\"?\"", error_code::vocab, "unk_token"},
       {"model.unk_token", "0", error_code::schema, "unk_token"},
       {"model.more", "0", error_code::schema, "\"more\""}});
}

TEST_CASE("tokenizer.json: added tokens") {
  check_refused(
      {{"added_tokens", "{}", error_code::schema, "list"},
       {"added_tokens", "[7]", error_code::schema, "added_tokens[0]"},
       {"added_tokens", R"([{"id":3}])", error_code::schema, "content"},
       {"added_tokens", R"([{"content":"x"}])", error_code::schema, "id"},
       {"added_tokens", R"([{"id":3,"content":""}])", error_code::vocab, "empty"},
       {"added_tokens", R"([{"id":-3,"content":"x"}])", error_code::vocab, "-3"},
       {"added_tokens", R"([{"id":4,"content":"x"}])", error_code::vocab, "gap"},
       {"added_tokens", R"([{"id":99999999,"content":"x"}])", error_code::vocab, "gap"},
       {"added_tokens", R"([{"id":0,"content":"x"}])", error_code::vocab, "id 0"},
       {"added_tokens", R"([{"id":1,"content":"a"}])", error_code::vocab, "another"},
       {"added_tokens", R"([{"id":3,"content":"x"},{"id":3,"content":"y"}])", error_code::vocab,
        ""},
       {"added_tokens", R"([{"id":3,"content":"x"},{"id":3,"content":"x"}])", error_code::vocab,
        "twice"},
       {"added_tokens", R"([{"id":3,"content":"x","special":1}])", error_code::schema, "special"},
       {"added_tokens", R"([{"id":3,"content":"x","lstrip":"no"}])", error_code::schema, "lstrip"},
       {"added_tokens", R"([{"id":3,"content":"x","more":true}])", error_code::schema, "more"}});
  const auto twofold = tokenizer_text()
                           .with("model.vocab", R"({"a":0,"b":1,"ab":2,"õ":3})")
                           .with("added_tokens", R"([{"id":3,"content":"õ"}])");
  check_refused("letter of a byte", twofold.text(), error_code::vocab, "other bytes");
}

TEST_CASE("tokenizer.json: merges (T11, T12)") {
  check_refused({{"model.merges", "", error_code::schema, "merges"},
                 {"model.merges", "{}", error_code::schema, "list"},
                 {"model.merges", R"(["a b","x b"])", error_code::merges, "merge 2"},
                 {"model.merges", R"(["a x"])", error_code::merges, "\"x\""},
                 {"model.merges", R"(["b a"])", error_code::merges, "\"ba\""},
                 {"model.merges", R"([["a"]])", error_code::merges, "merge 1"},
                 {"model.merges", R"([["a","b","a"]])", error_code::merges, "two"},
                 {"model.merges", R"([["a",""]])", error_code::merges, "empty"},
                 {"model.merges", R"([["","b"]])", error_code::merges, "empty"},
                 {"model.merges", R"([["a",1]])", error_code::merges, "text"},
                 {"model.merges", R"(["a b",["a","ab"]])", error_code::merges, "merge 2"},
                 {"model.merges", R"([["a","b"],"a b"])", error_code::merges, "style"},
                 {"model.merges", R"([7])", error_code::merges, "merge 1"},
                 {"model.merges", R"([null])", error_code::merges, "merge 1"},
                 {"model.merges", R"(["ab"])", error_code::merges, "no space"},
                 {"model.merges", R"(["a  b"])", error_code::merges, "space"},
                 {"model.merges", R"(["a b a"])", error_code::merges, "space"},
                 {"model.merges", R"([""])", error_code::merges, "no space"},
                 {"model.merges", R"([" "])", error_code::merges, "empty"},
                 {"model.merges", R"(["a "])", error_code::merges, "empty"},
                 {"model.merges", R"(["a b","a b"])", error_code::merges, "before"}});
}

TEST_CASE("tokenizer.json: options of the model (T15)") {
  check_refused({{"model.dropout", "1.5", error_code::config, "1.5"},
                 {"model.dropout", "-0.1", error_code::config, "-0.1"},
                 {"model.dropout", "\"x\"", error_code::config, "x"},
                 {"model.dropout", "1e999", error_code::json, "too large"},
                 {"model.dropout", "0.1", error_code::unsupported, "random"},
                 {"model.fuse_unk", "true", error_code::unsupported, "fuse_unk"},
                 {"model.fuse_unk", "1", error_code::schema, "fuse_unk"},
                 {"model.byte_fallback", "true", error_code::unsupported, "byte_fallback"},
                 {"model.continuing_subword_prefix", "\"##\"", error_code::unsupported, "prefix"},
                 {"model.end_of_word_suffix", "\"</w>\"", error_code::unsupported, "suffix"},
                 {"model.ignore_merges", "\"yes\"", error_code::schema, "ignore_merges"}});
}

TEST_CASE("tokenizer.json: stages of other kinds are named") {
  check_refused(
      {{"normalizer", "7", error_code::schema, "normalizer"},
       {"normalizer", R"({"type":"NFKC"})", error_code::unsupported, "NFKC"},
       {"normalizer", R"({"type":"Precompiled","precompiled_charsmap":"AA=="})",
        error_code::unsupported, "Precompiled"},
       {"normalizer", R"({"type":"Sequence","normalizers":[{"type":"Lowercase"}]})",
        error_code::unsupported, "normalizers[0]"},
       {"decoder", "null", error_code::unsupported, "decoder"},
       {"decoder", R"({"type":"WordPiece"})", error_code::unsupported, "WordPiece"},
       {"pre_tokenizer", "null", error_code::unsupported, "ByteLevel"},
       {"pre_tokenizer", R"({"type":"Whitespace"})", error_code::unsupported, "Whitespace"},
       {"pre_tokenizer", R"({"type":"Metaspace"})", error_code::unsupported, "Metaspace"},
       {"pre_tokenizer", R"({"type":"Digits"})", error_code::unsupported, "ByteLevel"},
       {"pre_tokenizer", R"({"type":"Sequence"})", error_code::schema, "pretokenizers"},
       {"pre_tokenizer",
        R"({"type":"Sequence","pretokenizers":[{"type":"ByteLevel"},{"type":"Digits"}]})",
        error_code::unsupported, "last"},
       {"post_processor", R"({"type":"RobertaProcessing"})", error_code::unsupported, "Roberta"}});
}

TEST_CASE("tokenizer.json: split rules") {
  const std::string text = "pre_tokenizer";
  check_refused(
      {{text, split("{\"Regex\":\"a\"}", "\"Removed\""), error_code::unsupported, "loses"},
       {text, split("{\"Regex\":\"a\"}", "\"Other\""), error_code::unsupported, "Other"},
       {text, split("\"a\""), error_code::schema, "object"},
       {text, split("{}"), error_code::schema, "Regex"},
       {text, split("{\"Regex\":\"\"}"), error_code::regex, "empty"},
       {text, regex_rule("("), error_code::regex, "byte 1"},
       {text, regex_rule("[a"), error_code::regex, "compile"},
       {text, regex_rule("a{3,2}"), error_code::regex, "compile"},
       {text, regex_rule("\\\\p{Nothing}"), error_code::regex, "compile"},
       {text, regex_rule("(?<=a+)b"), error_code::regex, "compile"},
       {text, regex_rule(std::string(300, '(') + std::string(300, ')')), error_code::regex,
        "compile"},
       {text, regex_rule("[[:alpha:]]"), error_code::unsupported, "["},
       {text, regex_rule("\\\\bx"), error_code::unsupported, "\\b"}});
}

TEST_CASE("tokenizer.json: templates") {
  const std::string text = "post_processor";
  check_refused(
      {{text, templated("[]"), error_code::schema, "no Sequence A"},
       {text, templated("[" + special + "]"), error_code::schema, "no Sequence A"},
       {text, templated("[" + sequence + "," + sequence + "]"), error_code::schema, "once"},
       {text, templated(R"([{"Sequence":{"id":"B","type_id":0}}])"), error_code::schema, "\"B\""},
       {text, templated(R"([{"SpecialToken":{"id":"<x>","type_id":0}},)" + sequence + "]"),
        error_code::schema, "<x>"},
       {text, templated("[" + special + "," + sequence + "]", "[99999999]"), error_code::vocab,
        "99999999"},
       {text, templated("[" + special + "," + sequence + "]", "[-1]"), error_code::vocab, "-1"},
       {text, templated("[" + special + "," + sequence + "]", "[2]"), error_code::vocab, "\"ab\""},
       {text, templated("[" + special + "," + sequence + "]", "[3,3]"), error_code::schema,
        "2 ids"},
       {text, templated("7"), error_code::schema, "list"},
       {text, templated("[" + sequence + "]") + ",\"post_processor\":null",
        error_code::duplicate_key, "post_processor"}});
}

TEST_CASE("tokenizer.json: files just inside the limits are read") {
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"truncation", ""},
      {"added_tokens", "[]"},
      {"added_tokens", ""},
      {"added_tokens", R"([{"id":2,"content":"ab","special":true}])"},
      {"normalizer", R"({"type":"Sequence","normalizers":[]})"},
      {"model.merges", "[]"},
      {"model.merges", R"(["#version: 0.2","a b"])"},
      {"model.merges", R"([["a","b"]])"},
      {"model.dropout", "0.0"},
      {"model.dropout", "null"},
      {"model.continuing_subword_prefix", "\"\""},
      {"model.unk_token", "\"a\""},
      {"post_processor", R"({"type":"ByteLevel","trim_offsets":false})"},
      {"post_processor", templated("[" + special + "," + sequence + "]")},
      {"decoder", R"({"type":"Sequence","decoders":[{"type":"ByteLevel"}]})"},
      {"pre_tokenizer", R"({"type":"ByteLevel"})"},
      {"pre_tokenizer", regex_rule("\\\\s+|\\\\p{L}{1,2}")},
      {"pre_tokenizer", split("{\"String\":\"(*[\\\\\"}")},
  };
  for (const auto& row : rows) {
    CAPTURE(row.first);
    CAPTURE(row.second);
    const auto text = tokenizer_text().with(row.first, row.second).text();
    const auto tokenizer = ds::tokenizer::parse(text);
    CHECK(tokenizer.size() >= 3);
    CHECK(tokenizer.find("ab") == 2);
  }
}

TEST_CASE("tokenizer: load names the file") {
  const support::temp_dir dir;
  CHECK_ERROR(error_code::io, "absent", ds::tokenizer::load(dir / "absent"));
  std::ofstream(dir / "t.json") << tokenizer_text().with("version", "3").text();
  CHECK_ERROR(error_code::version_mismatch, "t.json", ds::tokenizer::load(dir / "t.json"));
  std::ofstream(dir / "large.json") << std::string((1 << 26) + 1, ' ');
  CHECK_ERROR(error_code::limit, "large.json", ds::tokenizer::load(dir / "large.json"));
}
