// SPDX-License-Identifier: Apache-2.0
// Composed normal form where the build has utf8proc; a refusal where it has not.
#include <string>

#include <doctest/doctest.h>
#include <deepseek/io/nfc.hpp>
#include <deepseek/io/tokenizer.hpp>

#include "support/throws.hpp"
#include "tokenizer_text.hpp"

namespace ds = deepseek;

TEST_CASE("nfc: composes, or says what is missing") {
  const auto text = tokenizer_text()
                        .with_bytes()
                        .with("model.merges", "[]")
                        .with("added_tokens", "[]")
                        .with("normalizer", R"({"type":"NFC"})");
  if constexpr (ds::nfc_available) {
    CHECK(ds::nfc("e\u0301 \u212b \u1112\u1161\u11ab \ufb01") == "\u00e9 \u00c5 \ud55c \ufb01");
    CHECK(ds::nfc("") == "");
    CHECK(ds::nfc(std::string("a\0b", 3)) == std::string("a\0b", 3));
    CHECK(ds::nfc("\u0378") == "\u0378");  // not assigned
    const auto t = ds::tokenizer::parse(text.text());
    CHECK(t.decode(t.encode("e\u0301\xcc"
                            "e")) ==
          "\u00e9\xcc"
          "e");
  } else {
    CHECK_ERROR(ds::error_code::unsupported, "utf8proc", ds::nfc("x"));
    CHECK_ERROR(ds::error_code::unsupported, "utf8proc", ds::tokenizer::parse(text.text()));
  }
}
