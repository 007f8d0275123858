// SPDX-License-Identifier: Apache-2.0
// The tokenizer on vocabularies made by hand: ids, bytes, added tokens, invalid UTF-8, streams.
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <deepseek/io/tokenizer.hpp>

#include "support/throws.hpp"
#include "tokenizer_text.hpp"

namespace {

namespace ds = deepseek;
using ds::error_code;
using ids = std::vector<ds::token_id>;

// Every byte, "he" 256, "ll" 257, "hell" 258, "Ġhe" 259, "<e>" 260 (special), "<u>" 261.
tokenizer_text bytes_and_words() {
  return tokenizer_text()
      .with_bytes("\"he\":256,\"ll\":257,\"hell\":258,\"Ġhe\":259")
      .with("model.merges", R"([["h","e"],["l","l"],["he","ll"],["Ġ","he"]])")
      .with("added_tokens",
            R"([{"id":260,"content":"<e>","special":true},{"id":261,"content":"<u>"}])");
}
ds::tokenizer small() {
  return ds::tokenizer::parse(bytes_and_words().text());
}

}  // namespace

TEST_CASE("tokenizer: merges by rank, bytes elsewhere, added tokens cut out") {
  const auto t = small();
  CHECK(t.size() == 262);
  CHECK(t.encode("") == ids{});
  CHECK(t.encode("hello") == ids{258, 'o'});
  CHECK(t.encode(" he") == ids{259});
  CHECK(t.encode(" hell") == ids{' ', 258});  // rank 2 before rank 3
  CHECK(t.encode("he<e>ll<u>") == ids{256, 260, 257, 261});
  CHECK(t.encode("\xc3\xa9") == ids{0xc3, 0xa9});
  CHECK(t.find("Ġhe") == 259);
  CHECK(t.find(" he") == std::nullopt);
  CHECK(t.token(259) == "Ġhe");
  CHECK(t.bytes(259) == " he");
  CHECK(t.id("<u>") == 261);
  CHECK_ERROR(error_code::vocab, "<x>", t.id("<x>"));
  CHECK(t.is_special(260));
  CHECK(!t.is_special(261));
  t.check_rows(262);
  CHECK_ERROR(error_code::vocab, "262", "261", t.check_rows(261));
}

TEST_CASE("tokenizer: tokens that a caller wants spelled") {
  const auto t = small();
  const ids marks{260};
  const auto spelled = t.encode("<e><u>", {.as_text = marks});
  CHECK(spelled == ids{'<', 'e', '>', 261});
  CHECK(t.decode(spelled) == "<e><u>");
}

TEST_CASE("tokenizer: what the template adds, and decoding without it") {
  const auto t = ds::tokenizer::parse(
      bytes_and_words()
          .with("post_processor",
                R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<e>","type_id":0}},
                    {"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"<e>","type_id":0}}],
                    "pair":[],"special_tokens":{"<e>":{"id":"<e>","ids":[260],"tokens":["<e>"]}}})")
          .text());
  const auto whole = t.encode("he", {.add_special = true});
  CHECK(whole == ids{260, 256, 260});
  CHECK(t.decode(whole) == "<e>he<e>");
  CHECK(t.decode(whole, ds::special_tokens::drop) == "he");
  CHECK(t.encode("", {.add_special = true}) == ids{260, 260});
}

TEST_CASE("tokenizer: any bytes come back (T22)") {
  const auto t = small();
  for (const std::string text : {"\x80", "a\xff\xfez", "\xed\xa0\x80 \xed\xb0\x80", "he\xc3",
                                 "\xc3<e>\xa9", "\xf0\x9f\x98", "\xc0\xafll"}) {
    CAPTURE(text);
    CHECK(t.decode(t.encode(text)) == text);
  }
  const std::string nul("he\0ll\0", 6);
  CHECK(t.encode(nul) == ids{256, 0, 257, 0});
  CHECK(t.encode("\xc3<e>\xa9") == ids{0xc3, 260, 0xa9});  // broken bytes end at the token
  std::mt19937 draw(7);
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    for (auto n = draw() % 40; n > 0; --n) {
      text += draw() % 3 == 0 ? static_cast<char>(draw()) : "hel <>"[draw() % 6];
    }
    if (t.decode(t.encode(text)) != text) FAIL("does not come back: " << ds::escaped(text));
  }
}

TEST_CASE("tokenizer: a byte without a token is an error, or the unknown token") {
  const auto t = ds::tokenizer::parse(tokenizer_text().text());
  CHECK(t.encode("aab<e>b") == ids{0, 2, 3, 1});
  CHECK_ERROR(error_code::encode, "byte 99", "position 3",
              t.encode("ab\x61"
                       "cb"));
  CHECK_ERROR(error_code::encode, "byte 255", "position 0", t.encode("\xff"));
  const auto with_unknown =
      ds::tokenizer::parse(tokenizer_text().with("model.unk_token", "\"ab\"").text());
  CHECK(with_unknown.encode("acca") == ids{0, 2, 2, 0});
}

TEST_CASE("tokenizer: ignore_merges keeps a piece that is a token") {
  const auto text = tokenizer_text().with("model.merges", "[]");
  CHECK(ds::tokenizer::parse(text.text()).encode("ab") == ids{0, 1});
  const auto whole = text.with("model.ignore_merges", "true");
  CHECK(ds::tokenizer::parse(whole.text()).encode("ab") == ids{2});
  CHECK(ds::tokenizer::parse(whole.text()).encode("aba") == ids{0, 1, 0});
}

TEST_CASE("tokenizer: decode refuses ids that it has not (T23)") {
  const auto t = small();
  CHECK_ERROR(error_code::index_range, "-1", t.decode(ids{-1}));
  CHECK_ERROR(error_code::index_range, "262", t.decode(ids{0, 262}));
  CHECK_ERROR(error_code::index_range, "2147483647", t.decode(ids{2147483647}));
  CHECK_ERROR(error_code::index_range, "-1", t.token(-1));
  ds::token_stream stream(t);
  CHECK_ERROR(error_code::index_range, "262", stream.push(262));
}

TEST_CASE("token_stream: a character comes when it is whole") {
  const auto t = small();
  ds::token_stream stream(t, ds::special_tokens::drop);
  CHECK(stream.push(0xf0) == "");
  CHECK(stream.push(0x9f) == "");
  CHECK(stream.push(260) == "");
  CHECK(stream.push(0x90) == "");
  CHECK(stream.push(0x8b) == "\xf0\x9f\x90\x8b");
  CHECK(stream.push(0xc3) == "");
  CHECK(stream.push(256) == "\xef\xbf\xbdhe");
  CHECK(stream.push(0xe4) == "");
  CHECK(stream.finish() == "\xef\xbf\xbd");
  CHECK(stream.finish() == "");
}

TEST_CASE("tokenizer: a rule that never ends on some text is an error there") {
  const auto t = ds::tokenizer::parse(
      bytes_and_words()
          .with("pre_tokenizer",
                R"({"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"(a+)+$"},
                    "behavior":"Isolated"},{"type":"ByteLevel","add_prefix_space":false}]})")
          .text());
  CHECK(t.encode("aaaa").size() == 4);
  CHECK_ERROR(error_code::regex, "given up", t.encode(std::string(200, 'a') + "b"));
  CHECK(t.encode("aaab").size() == 4);  // and the tokenizer goes on
}

TEST_CASE("tokenizer: long pieces cost no more than n log n") {
  const auto t = small();
  const std::size_t n = 1'000'000;
  std::string text;
  while (text.size() < n) text += "hell";
  CHECK(t.encode(text) == ids(n / 4, 258));
  CHECK(t.encode(std::string(n, 'l')) == ids(n / 2, 257));
}

TEST_CASE("tokenizer: copies share, and work after the first is gone") {
  auto first = std::make_unique<ds::tokenizer>(small());
  const ds::tokenizer second = *first;
  first.reset();
  CHECK(second.encode("hell") == ids{258});
}
