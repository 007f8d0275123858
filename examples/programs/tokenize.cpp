// SPDX-License-Identifier: Apache-2.0
// tokenize TOKENIZER.json encode: per line of standard input a JSON string, out comes a JSON list
// of ids. tokenize TOKENIZER.json decode: per line a list of ids, out comes a JSON string, in which
// U+FFFD stands for bytes that are no UTF-8; all in ASCII, so that a line is a line to every
// reader. encode --special adds what the file's template puts around a text; decode --special drops
// special tokens. An error ends the run at the line that it names. A blank line is an error, not
// skipped.
#include <iostream>
#include <string>
#include <vector>

#include <deepseek/io/tokenizer.hpp>

#include "program.hpp"

namespace {

namespace ds = deepseek;

std::string encoded(const ds::tokenizer& tokenizer, const nlohmann::json& line, bool special,
                    const std::string& what) {
  ds::require(line.is_string(), ds::error_code::schema, what, " is ", line.type_name(),
              "; write a JSON string");
  const auto& text = line.get_ref<const std::string&>();
  return nlohmann::json(tokenizer.encode(text, {.add_special = special})).dump();
}

std::string decoded(const ds::tokenizer& tokenizer, const nlohmann::json& line, bool special,
                    const std::string& what) {
  ds::require(line.is_array(), ds::error_code::schema, what, " is ", line.type_name(),
              "; write a list of ids");
  std::vector<ds::token_id> ids;
  for (const auto& id : line) {
    ds::require(id.is_number_integer(), ds::error_code::schema, what, ": ", ds::escaped(id.dump()),
                " is no id; write whole numbers");
    const bool fits = id.is_number_unsigned() ? id.get<std::uint64_t>() <= INT32_MAX
                                              : id.get<std::int64_t>() >= INT32_MIN;
    ds::require(fits, ds::error_code::index_range, what, ": id ", id.dump(), " is outside [0, ",
                tokenizer.size(), "); pass ids of this tokenizer");
    ids.push_back(id.get<ds::token_id>());
  }
  const auto which = special ? ds::special_tokens::drop : ds::special_tokens::keep;
  const nlohmann::json text = ds::replace_invalid_utf8(tokenizer.decode(ids, which));
  return text.dump(-1, ' ', true);
}

void tokenize(const std::string& path, const std::string& verb, bool special) {
  const auto tokenizer = ds::tokenizer::load(path);
  std::string line;
  for (std::size_t n = 1; std::getline(std::cin, line) && std::cout; ++n) {
    const std::string what = "line " + std::to_string(n);
    const nlohmann::json value = ds::parse_json(line, what);
    std::cout << (verb == "encode" ? encoded : decoded)(tokenizer, value, special, what) << '\n';
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App arguments("Turns texts into token ids, and back");
  std::string path, verb;
  bool special = false;
  arguments.add_option("tokenizer", path, "a tokenizer.json")->required();
  arguments.add_option("verb", verb, "encode or decode")
      ->required()
      ->check(CLI::IsMember({"encode", "decode"}));
  arguments.add_flag("--special", special, "encode: add special tokens; decode: drop them");
  return program::run(arguments, argc, argv, [&] { tokenize(path, verb, special); });
}
