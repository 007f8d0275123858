// SPDX-License-Identifier: Apache-2.0
// Files that are damaged, foreign or sly, one row each: every refused one has its code and names
// what is wrong; beside it stand the files just inside the limit that must be read.
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <deepseek/io/safetensors.hpp>

#include "safetensors_bytes.hpp"
#include "support/temp_dir.hpp"

namespace {

using namespace safetensors_bytes;
using deepseek::error_code;

struct refused {
  std::string row;
  std::string bytes;
  error_code code;
  std::string part = "";  // of the message
};

// A file whose header is {body}.
std::string object(const std::string& body, std::size_t data_bytes = 0) {
  return file_of("{" + body + "}", data_bytes);
}

std::string repeat(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

void check_refused(const std::vector<refused>& rows) {
  const support::temp_dir dir;
  for (const auto& row : rows) {
    CAPTURE(row.row);
    put(dir / "file", row.bytes);
    try {
      const deepseek::safetensors_file file(dir / "file");
      FAIL_CHECK("was accepted, expected " << to_string(row.code));
    } catch (const deepseek::error& e) {
      const std::string message = e.what();
      CAPTURE(message);
      CHECK(to_string(e.code()) == to_string(row.code));
      CHECK(message.find(row.part) != std::string::npos);
      CHECK(message.find("; ") != std::string::npos);
    }
  }
}

const std::string good = entry("a", "F32", "[2]", "[0,8]");

}  // namespace

TEST_CASE("safetensors: length and size of the file") {
  check_refused(
      {{"0 bytes", "", error_code::truncated, "file has 0 bytes"},
       {"1 byte", "\x02", error_code::truncated, "file has 1 bytes"},
       {"7 bytes", std::string(7, '\0'), error_code::truncated, "file has 7 bytes"},
       {"length one past end", little_endian(3) + "{}", error_code::truncated, "10 bytes"},
       {"length far past end", little_endian(1000) + "{}", error_code::truncated, "1000"},
       {"longest length, no header", little_endian(100'000'000), error_code::truncated, ""},
       {"one more", little_endian(100'000'001), error_code::header_too_large, "100000001"},
       {"length 2^63", little_endian(1ULL << 63) + "{}", error_code::header_too_large, ""},
       {"length 2^64-1", little_endian(~0ULL) + "{}", error_code::header_too_large, ""},
       {"length 2^64-8", little_endian(~0ULL - 7) + "{}", error_code::header_too_large, ""},
       {"length 0", little_endian(0), error_code::json, "byte 0 of 0"},
       {"length 0, then bytes", little_endian(0) + "{}", error_code::json, ""},
       {"length cuts the header", little_endian(1) + "{}", error_code::json, ""},
       {"big-endian length", "\0\0\0\0\0\0\0\x02{}", error_code::truncated, ""},
       {"GGUF v3", std::string("GGUF\x03\0\0\0\x01", 9), error_code::not_this_format, "GGUF"},
       {"zip", std::string("PK\x03\x04\x14\0\x08\x08", 8), error_code::not_this_format, "zip"},
       {"pickle", "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9", error_code::not_this_format, "pickle"},
       {"LFS pointer", "version https://git-lfs", error_code::not_this_format, "LFS"},
       {"JSON without length", R"({"a":{"dtype":"F32"}})", error_code::header_too_large, ""}});
}

TEST_CASE("safetensors: text that is no JSON") {
  const auto header = [](const std::string& text) { return file_of(text, 0); };
  check_refused(
      {{"UTF-8 mark", header("\xef\xbb\xbf{}"), error_code::json, "byte order mark"},
       {"UTF-16 mark", header(std::string("\xff\xfe{\0}\0", 6)), error_code::json, "mark"},
       {"UTF-16 mark, big", header(std::string("\xfe\xff\0{\0}", 6)), error_code::json, "mark"},
       {"UTF-16", header(std::string("{\0}\0", 4)), error_code::json, "NUL"},
       {"NUL then rest", header(std::string("{}\0garbage", 10)), error_code::json, "byte 2"},
       {"NUL padding", header(std::string("{}\0\0\0\0\0\0", 8)), error_code::json, "NUL"},
       {"NUL in name", header(std::string("{\"a\0\":1}", 8)), error_code::json, "NUL"},
       {"array", header("[]"), error_code::json, "no JSON object"},
       {"null", header("null"), error_code::json, "no JSON object"},
       {"string", header("\"a\""), error_code::json, "no JSON object"},
       {"number", header("1"), error_code::json, "no JSON object"},
       {"true", header("true"), error_code::json, "no JSON object"},
       {"blanks", header("    "), error_code::json, "byte"},
       {"open", header("{"), error_code::json, "byte"},
       {"closed twice", header("{}}"), error_code::json, "byte 2 of 3"},
       {"two values", header("{}{}"), error_code::json, ""},
       {"comment", header("{/* */}"), error_code::json, ""},
       {"line comment", header("{}//"), error_code::json, ""},
       {"single quotes", header("{'a':1}"), error_code::json, ""},
       {"bare key", header("{a:1}"), error_code::json, ""},
       {"trailing comma", object(good + ",", 8), error_code::json, ""},
       {"no comma", object(good + entry("b", "F32", "[0]", "[8,8]"), 8), error_code::json, ""},
       {"form feed", header("\f{}"), error_code::json, ""},
       {"no-break space", header("\xc2\xa0{}"), error_code::json, ""},
       {"NaN", object(R"("a":NaN)"), error_code::json, ""},
       {"1e400", object(R"("a":1e400)"), error_code::json, ""},
       {"lone surrogate", object(R"("\ud800":1)"), error_code::json, ""},
       {"half escape", object(R"("\u12":1)"), error_code::json, ""},
       {"raw line feed in name", object("\"a\n\":1"), error_code::json, ""},
       {"leading zero", object(entry("a", "F32", "[02]", "[0,8]"), 8), error_code::json, ""},
       {"plus", object(entry("a", "F32", "[+2]", "[0,8]"), 8), error_code::json, ""},
       {"hexadecimal", object(entry("a", "F32", "[0x2]", "[0,8]"), 8), error_code::json, ""},
       {"syntax wins over content", header(R"({"a":1,"b":)"), error_code::json, "byte"},
       {"129 levels", header(repeat("[", 129) + repeat("]", 129)), error_code::json, "deeper"},
       {"100000 levels", header(repeat("[", 100'000)), error_code::json, "deeper"},
       {"100000 levels inside", object("\"a\":" + repeat("{\"a\":", 100'000)), error_code::json,
        "deeper"},
       {"128 levels", header(repeat("[", 128) + repeat("]", 128)), error_code::json, "object"}});
}

TEST_CASE("safetensors: bytes that are no UTF-8") {
  std::vector<refused> rows;
  for (const std::string bad :
       {"\xff", "\x80", "\xc3", "\xc3(", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xe2\x82",
        "\xed\xa0\x80", "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80"}) {
    rows.push_back({"in a name", object("\"" + bad + "\":1"), error_code::utf8, "byte 2"});
    rows.push_back({"outside", object(bad), error_code::utf8, "byte 1"});
  }
  check_refused(rows);
}

TEST_CASE("safetensors: keys given twice") {
  const std::string twice = R"("a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  const std::string escaped = good + ",\"\\u0061\":" + good.substr(4);
  check_refused(
      {{"identical", object(good + "," + good, 8), error_code::duplicate_key, "\"a\""},
       {"other content", object(good + "," + entry("a", "U8", "[0]", "[8,8]"), 8),
        error_code::duplicate_key, "\"a\""},
       {"escaped", object(escaped, 8), error_code::duplicate_key, "\"a\""},
       {"far apart", object(good + "," + entry("b", "U8", "[0]", "[8,8]") + "," + good, 8),
        error_code::duplicate_key, "\"a\""},
       {"field", object(twice), error_code::duplicate_key, "\"dtype\""},
       {"metadata", object(R"("__metadata__":{},"__metadata__":{})"), error_code::duplicate_key,
        "__metadata__"},
       {"metadata key", object(R"("__metadata__":{"k":"1","k":"1"})"), error_code::duplicate_key,
        "\"k\""}});
}

TEST_CASE("safetensors: fields that are missing, unknown or of another kind") {
  const auto a = [](const std::string& fields) { return object("\"a\":{" + fields + "}", 8); };
  const std::string type = R"("dtype":"F32")", shape = R"("shape":[2])";
  const std::string offsets = R"("data_offsets":[0,8])";
  const auto with_shape = [&](const std::string& s) {
    return object(entry("a", "F32", s, "[0,8]"), 8);
  };
  const auto with_offsets = [&](const std::string& o) {
    return object(entry("a", "F32", "[2]", o), 8);
  };
  check_refused(
      {{"no dtype", a(shape + "," + offsets), error_code::schema, "\"a\": has no dtype"},
       {"no shape", a(type + "," + offsets), error_code::schema, "\"a\": has no shape"},
       {"no offsets", a(type + "," + shape), error_code::schema, "has no data_offsets"},
       {"nothing", a(""), error_code::schema, "has no dtype"},
       {"unknown field", a(type + "," + shape + "," + offsets + R"(,"x":1)"), error_code::schema,
        "unknown field \"x\""},
       {"nested unknown", a(type + "," + shape + "," + offsets + R"(,"x":{"y":[1]})"),
        error_code::schema, "unknown field \"x\""},
       {"other case", a(R"("Dtype":"F32",)" + shape + "," + offsets), error_code::schema,
        "\"Dtype\""},
       {"entry null", object(R"("a":null)"), error_code::schema, "\"a\": is no object"},
       {"entry list", object(R"("a":[1])"), error_code::schema, "is no object"},
       {"entry text", object(R"("a":"x")"), error_code::schema, "is no object"},
       {"shape null", with_shape("null"), error_code::schema, "shape is no list"},
       {"shape number", with_shape("2"), error_code::schema, "shape is no list"},
       {"shape object", with_shape("{}"), error_code::schema, "shape is no list"},
       {"extent negative", with_shape("[-2]"), error_code::schema, "no whole number"},
       {"extent -0", with_shape("[-0]"), error_code::schema, "no whole number"},
       {"extent 2.0", with_shape("[2.0]"), error_code::schema, "no whole number"},
       {"extent 2e0", with_shape("[2e0]"), error_code::schema, "no whole number"},
       {"extent text", with_shape("[\"2\"]"), error_code::schema, "no whole number"},
       {"extent null", with_shape("[null]"), error_code::schema, "no whole number"},
       {"extent true", with_shape("[true]"), error_code::schema, "no whole number"},
       {"extent list", with_shape("[[2]]"), error_code::schema, "no whole number"},
       {"offsets null", with_offsets("null"), error_code::schema, "is no list"},
       {"offsets empty", with_offsets("[]"), error_code::schema, "fewer than 2"},
       {"one offset", with_offsets("[0]"), error_code::schema, "fewer than 2"},
       {"three offsets", with_offsets("[0,8,8]"), error_code::schema, "more than 2"},
       {"offset negative", with_offsets("[-8,0]"), error_code::schema, "data_offsets"},
       {"offset 8.0", with_offsets("[0,8.0]"), error_code::schema, "data_offsets"},
       {"offset text", with_offsets("[0,\"8\"]"), error_code::schema, "data_offsets"},
       {"metadata null", object(R"("__metadata__":null)"), error_code::schema, "no object"},
       {"metadata list", object(R"("__metadata__":[])"), error_code::schema, "no object"},
       {"metadata number", object(R"("__metadata__":{"k":1})"), error_code::schema,
        "\"k\" is no text"},
       {"metadata object", object(R"("__metadata__":{"k":{}})"), error_code::schema,
        "\"k\" is no text"},
       {"metadata as tensor", object(entry("__metadata__", "U8", "[0]", "[0,0]")),
        error_code::schema, "\"shape\" is no text"}});
}

TEST_CASE("safetensors: element types") {
  std::vector<refused> rows;
  for (const std::string type :
       {"\"f32\"", "\"F128\"", "\"torch.float32\"", "\"F32 \"", "\"\"", "1", "null", "[\"F32\"]",
        "{}", "true", "\"F32\\u0000\"", "\"BOOLEAN\""}) {
    rows.push_back({type,
                    object("\"a\":{\"dtype\":" + type + R"(,"shape":[2],"data_offsets":[0,8]})", 8),
                    error_code::dtype, "BF16"});
  }
  check_refused(rows);
}

TEST_CASE("safetensors: offsets, sizes and overflow") {
  const auto one = [](const std::string& type, const std::string& shape, const std::string& offsets,
                      std::size_t bytes) {
    return object(entry("a", type, shape, offsets), bytes);
  };
  const auto two = [](const std::string& first, const std::string& second, std::size_t bytes) {
    return object(entry("a", "U8", "[4]", first) + "," + entry("b", "U8", "[4]", second), bytes);
  };
  check_refused(
      {{"begin after end", one("U8", "[4]", "[4,0]", 4), error_code::offsets, "\"a\""},
       {"begin after end, huge", one("U8", "[4]", "[18446744073709551615,3]", 4),
        error_code::offsets, "18446744073709551615"},
       {"hole at start", one("U8", "[4]", "[4,8]", 8), error_code::offsets, "begins at 4"},
       {"hole in the middle", two("[0,4]", "[5,9]", 9), error_code::offsets, "\"b\""},
       {"overlap", two("[0,4]", "[3,7]", 7), error_code::offsets, "\"b\""},
       {"same place", two("[0,4]", "[0,4]", 4), error_code::offsets, "\"b\""},
       {"beyond 2^64", one("U8", "[4]", "[18446744073709551612,18446744073709551616]", 4),
        error_code::overflow, "data_offsets"},
       {"end at 2^64-1", one("U8", "[4]", "[18446744073709551611,18446744073709551615]", 4),
        error_code::offsets, "begins at"},
       {"one byte more", one("U8", "[4]", "[0,4]", 5), error_code::coverage, "holds 5"},
       {"a file behind it", one("U8", "[4]", "[0,4]", 400), error_code::coverage, "holds 400"},
       {"no tensor, one byte", object("", 1), error_code::coverage, "holds 1"},
       {"one byte missing", one("U8", "[4]", "[0,4]", 3), error_code::truncated, "holds 3"},
       {"all missing", one("U8", "[4]", "[0,4]", 0), error_code::truncated, "describes 4"},
       {"terabytes missing", one("U8", "[1099511627776]", "[0,1099511627776]", 4),
        error_code::truncated, "1099511627776"},
       {"shape too small", one("F32", "[1]", "[0,8]", 8), error_code::size_mismatch,
        "4 bytes but its offsets hold 8"},
       {"shape too large", one("F32", "[3]", "[0,8]", 8), error_code::size_mismatch,
        "12 bytes but its offsets hold 8"},
       {"F64 over F32", one("F64", "[2]", "[0,8]", 8), error_code::size_mismatch,
        "16 bytes but its offsets hold 8"},
       {"rank 0, 0 bytes", one("F32", "[]", "[0,0]", 0), error_code::size_mismatch, "4 bytes"},
       {"empty, 16 bytes", one("F32", "[0,4]", "[0,16]", 16), error_code::size_mismatch, "0 bytes"},
       {"product 2^64", one("U8", "[4294967296,4294967296]", "[0,0]", 0), error_code::overflow,
        "\"a\""},
       {"product 2^64+4", one("U8", "[4611686018427387905,4]", "[0,4]", 4), error_code::overflow,
        ""},
       {"bytes 2^64", one("F32", "[4611686018427387904]", "[0,0]", 0), error_code::overflow, ""},
       {"bits 2^64+32", one("U8", "[2305843009213693956]", "[0,4]", 4), error_code::overflow, ""},
       {"then zero", one("U8", "[4294967296,4294967296,0]", "[0,0]", 0), error_code::overflow, ""},
       {"extent 2^63", one("U8", "[9223372036854775808]", "[0,0]", 0), error_code::overflow,
        "shape"},
       {"extent 2^63, empty", one("U8", "[0,9223372036854775808]", "[0,0]", 0),
        error_code::overflow, "shape"},
       {"extent 2^64", one("U8", "[18446744073709551616]", "[0,0]", 0), error_code::overflow,
        "shape"},
       {"extent of 60 digits", one("U8", "[" + std::string(60, '9') + "]", "[0,0]", 0),
        error_code::overflow, "shape"},
       {"rank 1025", one("U8", "[1" + repeat(",1", 1024) + "]", "[0,1]", 1), error_code::limit,
        "1024"},
       {"half a byte", one("F4", "[3]", "[0,2]", 2), error_code::sub_byte, "12 bits"},
       {"three quarters", one("F6_E2M3", "[2]", "[0,1]", 1), error_code::sub_byte, "12 bits"}});
}

TEST_CASE("safetensors: foreign text in a message is escaped and cut") {
  const support::temp_dir dir;
  put(dir / "file", object("\"" + std::string(5000, 'n') + "\\u001b[2J\":1"));
  try {
    const deepseek::safetensors_file file(dir / "file");
    FAIL("was accepted");
  } catch (const deepseek::error& e) {
    const std::string message = e.what();
    CHECK(message.size() < 600);
    CHECK(message.find('\x1b') == std::string::npos);
  }
}

TEST_CASE("safetensors: files just inside the limits are read") {
  struct accepted {
    std::string row, bytes;
    std::size_t tensors;
  };
  const std::string spread = R"("a" : { "data_offsets" : [ 0 , 8 ] , "shape":[2], "dtype":"F32" })";
  const std::vector<accepted> rows = {
      {"no tensor", object(""), 0},
      {"only metadata", object(R"("__metadata__":{"k":"v","":""})"), 0},
      {"one", object(good, 8), 1},
      {"leading blanks", file_of(" \t\r\n{" + good + "}", 8), 1},
      {"trailing blanks", file_of("{" + good + "} \t\r\n", 8), 1},
      {"blanks inside, other order", object(spread, 8), 1},
      {"rank 0", object(entry("a", "F32", "[]", "[0,4]"), 4), 1},
      {"empty", object(entry("a", "F32", "[0,4]", "[0,0]"), 0), 1},
      {"empty, huge other extents", object(entry("a", "U8", "[0,9223372036854775807]", "[0,0]")),
       1},
      {"empty between",
       object(entry("a", "U8", "[4]", "[0,4]") + "," + entry("b", "U8", "[0]", "[4,4]") + "," +
                  entry("c", "U8", "[1]", "[4,5]"),
              5),
       3},
      {"empty first, listed last",
       object(entry("a", "U8", "[4]", "[0,4]") + "," + entry("b", "U8", "[0]", "[0,0]"), 4), 2},
      {"other order",
       object(entry("b", "U8", "[4]", "[4,8]") + "," + entry("a", "U8", "[4]", "[0,4]"), 8), 2},
      {"empty name", object(entry("", "U8", "[4]", "[0,4]"), 4), 1},
      {"name in UTF-8",
       object(entry("\xe6\xb7\xb1\xe5\xba\xa6 \xf0\x9f\x90\x8b", "U8", "[4]", "[0,4]"), 4), 1},
      {"escaped name", object(entry("\\ud83d\\udc0b\\n\\u0000", "U8", "[4]", "[0,4]"), 4), 1},
      {"two halves of a byte", object(entry("a", "F4", "[2]", "[0,1]"), 1), 1},
      {"four F6", object(entry("a", "F6_E3M2", "[4]", "[0,3]"), 3), 1},
      {"rank 1024", object(entry("a", "U8", "[1" + repeat(",1", 1023) + "]", "[0,1]"), 1), 1},
  };
  const support::temp_dir dir;
  for (const auto& row : rows) {
    CAPTURE(row.row);
    put(dir / "file", row.bytes);
    const deepseek::safetensors_file file(dir / "file");
    CHECK(file.tensors().size() == row.tensors);
    for (const auto& tensor : file.tensors()) CHECK(file.find(tensor.name) == &tensor);
  }
}

TEST_CASE("safetensors: what is no regular file") {
  const support::temp_dir dir;
  for (const std::string& path :
       {dir.path().string(), (dir / "absent").string(), std::string("/dev/null"),
        (dir / "absent" / "x").string(), std::string("/dev/zero")}) {
    CAPTURE(path);
    try {
      const deepseek::safetensors_file file(path);
      FAIL_CHECK("was opened");
    } catch (const deepseek::error& e) {
      CHECK(to_string(e.code()) == "io");
    }
  }
}
