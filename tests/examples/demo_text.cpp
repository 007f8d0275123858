// SPDX-License-Identifier: Apache-2.0
// The demo's text side: what is held out, byte models against sums done by hand, and xz.
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "../../examples/demo/byte_models.hpp"
#include "../../examples/demo/corpus.hpp"
#include "../../examples/demo/xz.hpp"
#include "support/temp_dir.hpp"
#include "support/throws.hpp"

namespace {

namespace ds = deepseek;
namespace fs = std::filesystem;

void put(const fs::path& path, std::string_view text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

demo::documents documents_of(const std::vector<std::string>& texts) {
  demo::documents all;
  for (const auto& text : texts) all.add(text);
  return all;
}

// Letters that follow one another by a rule, with a few exceptions.
std::string sentence(std::size_t n) {
  std::string text;
  unsigned state = 1;
  for (std::size_t i = 0; i < n; ++i) {
    state = state * 1103515245U + 12345U;
    text += static_cast<char>((state >> 16) % 5 == 0 ? 'a' + (state >> 20) % 26 : 'a' + i % 7);
  }
  return text;
}

}  // namespace

TEST_CASE("corpus: the last tenth of each file is held out") {
  const support::temp_dir dir;
  put(dir / "a.md", "0123456789abcdefghijX");  // 21 bytes: 2 held out
  const auto one = demo::corpus_of_file(dir / "a.md");
  CHECK(one.train.bytes == "0123456789abcdefghi");
  CHECK(one.held.bytes == "jX");
  CHECK(one.names == std::vector<std::string>{"a.md"});

  put(dir / "b.md", "123456789");  // too short to hold anything out
  put(dir / "sub" / "c.hpp", "----------++++++++++");
  const fs::path roots[] = {dir.path()};
  const auto all = demo::corpus_of_folders(roots);
  REQUIRE(all.train.size() == 3);
  REQUIRE(all.held.size() == 3);
  CHECK(all.train[0] == "0123456789abcdefghi");
  CHECK(all.train[1] == "123456789");
  CHECK(all.train[2] == "----------++++++++");
  CHECK(all.held[0] == "jX");
  CHECK(all.held[1].empty());
  CHECK(all.held[2] == "++");
  CHECK(all.train.bytes.size() + all.held.bytes.size() == 50);
}

TEST_CASE("corpus: sources and documents in sorted order, build trees left out") {
  const support::temp_dir dir;
  for (const std::string name :
       {"z.cpp", "a.hpp", "k.cuh", "sub/b.md", "sub-x.md", "build/x.md", "build-asan/y.hpp",
        ".git/z.md", "note.txt", "hpp", "sub/build/w.md"}) {
    put(dir / name, name);
  }
  fs::create_directory_symlink(dir.path(), dir / "loop");
  fs::create_symlink(dir / "a.hpp", dir / "link.hpp");
  CHECK(demo::text_files_in(dir.path()) ==
        std::vector<std::string>{"a.hpp", "k.cuh", "sub-x.md", "sub/b.md", "z.cpp"});
  const fs::path twice[] = {dir / "sub", dir.path()};
  CHECK(demo::corpus_of_folders(twice).names.front() == "sub/b.md");
  CHECK(demo::corpus_of_folders(twice).names.size() == 6);
}

TEST_CASE("corpus: text that is missing or too short") {
  const support::temp_dir dir;
  CHECK_ERROR(ds::error_code::io, "absent", demo::corpus_of_file(dir / "absent"));
  CHECK_ERROR(ds::error_code::io, "folder", demo::corpus_of_file(dir.path()));
  const fs::path roots[] = {dir / "absent"};
  CHECK_ERROR(ds::error_code::io, "cannot be listed", demo::corpus_of_folders(roots));
  put(dir / "empty.md", "");
  CHECK_ERROR(ds::error_code::invalid_argument, "0 bytes",
              demo::require_windows(demo::corpus_of_file(dir / "empty.md"), 8));
  put(dir / "short.md", std::string(100, 'x'));
  const auto text = demo::corpus_of_file(dir / "short.md");  // 90 and 10
  demo::require_windows(text, 89);
  CHECK_ERROR(ds::error_code::invalid_argument, "90 bytes", "91", demo::require_windows(text, 90));
  put(dir / "tiny.md", std::string(19, 'x'));
  CHECK_ERROR(ds::error_code::invalid_argument, "1 held out",
              demo::require_windows(demo::corpus_of_file(dir / "tiny.md"), 4));
}

TEST_CASE("byte_model: probabilities by hand") {
  // "abab": order 0 counts a 2, b 2; after a: b 2; after b: a 1; after ab: a 1; after ba: b 1.
  const auto text = documents_of({"abab"});
  const demo::byte_model zero(text, 0), two(text, 2);
  const double a0 = (2 + 2.0 / 256) / 6, other0 = 2.0 / 256 / 6;
  CHECK(zero.probability("ab", 'a') == a0);
  CHECK(zero.probability("", 'z') == other0);
  CHECK(two.probability("", 'a') == a0);
  const double a1 = (1 + a0) / 2;  // after b
  CHECK(two.probability("b", 'a') == a1);
  CHECK(two.probability("ab", 'a') == (1 + a1) / 2);
  CHECK(two.probability("xyab", 'a') == (1 + a1) / 2);
  CHECK(two.probability("zb", 'a') == a1);  // zb was never seen: order 1 answers
  CHECK(two.probability("zz", 'a') == a0);
  CHECK(zero.bits_per_byte(text) == doctest::Approx(-std::log2(a0)).epsilon(1e-14));
}

TEST_CASE("byte_model: every byte has a share and the shares sum to one") {
  const demo::byte_model two(documents_of({sentence(4000), "\xff\x80 other"}), 2);
  for (const std::string before :
       {"", "a", "ab", "abc", "zq", "\xff\x80", "long before it", "\xfe"}) {
    double sum = 0, smallest = 1;
    for (int b = 0; b < 256; ++b) {
      const double p = two.probability(before, static_cast<char>(b));
      sum += p;
      smallest = std::min(smallest, p);
    }
    CAPTURE(before);
    CHECK(std::abs(sum - 1) < 256 * 2.3e-16);
    CHECK(smallest > 0);
  }
}

TEST_CASE("byte_model: contexts end at the start of a document") {
  const auto apart = documents_of({"ab", "cd"});
  const demo::byte_model model(apart, 2);
  const demo::byte_model never(documents_of({"cd", "ab"}), 2);
  for (const char byte : {'a', 'b', 'c', 'd'}) {
    CHECK(model.probability("ab", byte) == model.probability("", byte));  // nothing follows ab
    CHECK(model.probability("b", byte) == never.probability("b", byte));
  }
  const double joined = model.bits_per_byte(documents_of({"abcd"}));
  CHECK(model.bits_per_byte(apart) == doctest::Approx(joined).epsilon(1e-14));  // c after b is new
  const demo::byte_model one(documents_of({"abcd"}), 2);
  CHECK(one.bits_per_byte(documents_of({"abcd"})) < one.bits_per_byte(apart));
}

TEST_CASE("byte_model: a longer order tells more of text with rules") {
  const auto train = documents_of({sentence(20'000)}),
             held = documents_of({sentence(30'000).substr(25'000)});
  const double zero = demo::byte_model(train, 0).bits_per_byte(held);
  const double one = demo::byte_model(train, 1).bits_per_byte(held);
  const double two = demo::byte_model(train, 2).bits_per_byte(held);
  CHECK(one < zero);
  CHECK(two < one + 0.1);
  CHECK(zero < 8);
  CHECK_ERROR(ds::error_code::invalid_argument, "0 bytes",
              demo::byte_model(train, 0).bits_per_byte(demo::documents()));
  CHECK_ERROR(ds::error_code::invalid_argument, "order 8", demo::byte_model(train, 8));
}

TEST_CASE("xz: the size of the xz program, and what the held-out text adds") {
  const support::temp_dir dir;
  const std::string text = sentence(50'000);
  put(dir / "t", text);
  const std::string command = "xz -9e -C none -T1 -k '" + (dir / "t").string() + "' 2>/dev/null";
  if (std::system(command.c_str()) == 0) {
    const auto theirs = static_cast<long>(fs::file_size(dir / "t.xz"));
    CHECK(std::abs(static_cast<long>(demo::xz_bytes(text)) - theirs) <= 64);  // containers differ
  }
  demo::corpus known;
  known.train.add(text);
  known.held.add(std::string_view(text).substr(100, 5000));
  demo::corpus fresh;
  fresh.train.add(std::string(50'000, 'x'));
  fresh.held.add(std::string_view(text).substr(100, 5000));
  CHECK(demo::xz_bits_per_byte(known) < 0.1);
  CHECK(demo::xz_bits_per_byte(fresh) > 1);
  CHECK(demo::xz_bits_per_byte(fresh) < 8);
  CHECK(demo::xz_bytes("") > 0);
  known.held = {};
  CHECK_ERROR(ds::error_code::invalid_argument, "0 bytes", demo::xz_bits_per_byte(known));
}
