// SPDX-License-Identifier: Apache-2.0
// Checkpoint folders: with and without an index, and indexes that do not fit their shards.
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <deepseek/io/checkpoint_files.hpp>

#include "safetensors_bytes.hpp"
#include "support/temp_dir.hpp"
#include "support/throws.hpp"

namespace {

namespace ds = deepseek;
using namespace safetensors_bytes;

// A folder with shards one {a, b} and two {c} and this index.
struct folder : support::temp_dir {
  explicit folder(const std::string& index_text) {
    put(*this / "one.safetensors", file_of("{" + entry("a", "U8", "[1]", "[0,1]") + "," +
                                               entry("b", "U8", "[1]", "[1,2]") + "}",
                                           2));
    put(*this / "two.safetensors", file_of("{" + entry("c", "U8", "[1]", "[0,1]") + "}", 1));
    if (!index_text.empty()) put(*this / "model.safetensors.index.json", index_text);
  }
  std::vector<ds::safetensors_file> open() const { return ds::open_checkpoint(path()); }
};

std::string weight_map(const std::string& body) {
  return R"({"metadata":{"total_size":3},"weight_map":{)" + body + "}}";
}

const std::string a = R"("a":"one.safetensors")", b = R"("b":"one.safetensors")";
const std::string c = R"("c":"two.safetensors")";

}  // namespace

TEST_CASE("open_checkpoint: every file, or those of the index") {
  const auto all = folder("").open();
  REQUIRE(all.size() == 2);
  CHECK(all[0].find("a") != nullptr);
  CHECK(all[1].find("c") != nullptr);
  CHECK(folder(weight_map(c + "," + a + "," + b)).open().size() == 2);
  const auto some = folder(weight_map(a + "," + b)).open();
  REQUIRE(some.size() == 1);
  CHECK(some[0].find("b") != nullptr);
}

TEST_CASE("open_checkpoint: an index that does not fit") {
  CHECK_ERROR(ds::error_code::io, "absent.safetensors",
              folder(weight_map(a + "," + b + R"(,"d":"absent.safetensors")")).open());
  CHECK_ERROR(ds::error_code::missing_tensor, "\"d\"",
              folder(weight_map(a + "," + b + R"(,"d":"one.safetensors")")).open());
  CHECK_ERROR(ds::error_code::unexpected_tensor, "\"b\"", folder(weight_map(a)).open());
  const folder twice(weight_map(R"("a":"two.safetensors",)" + b));
  put(twice / "one.safetensors", file_of("{" + entry("b", "U8", "[1]", "[0,1]") + "}", 1));
  put(twice / "two.safetensors",
      file_of("{" + entry("a", "U8", "[1]", "[0,1]") + "," + entry("b", "U8", "[1]", "[1,2]") + "}",
              2));
  CHECK_ERROR(ds::error_code::unexpected_tensor, "two.safetensors", "\"b\"", twice.open());
}

TEST_CASE("open_checkpoint: an index that is none") {
  for (const std::string text : {"[]", "{}", R"({"weight_map":[]})", R"({"weight_map":{"a":1}})"}) {
    CAPTURE(text);
    CHECK_ERROR(ds::error_code::schema, "weight_map", folder(text).open());
  }
  for (const std::string name : {"../one.safetensors", "/etc/passwd", "", ".", "..", "x/y"}) {
    CAPTURE(name);
    CHECK_ERROR(ds::error_code::schema, "plain file name",
                folder(weight_map("\"a\":\"" + name + "\"")).open());
  }
  CHECK_ERROR(ds::error_code::json, "index", folder("{").open());
  CHECK_ERROR(ds::error_code::duplicate_key, "\"a\"", folder(weight_map(a + "," + a)).open());
}

TEST_CASE("open_checkpoint: folders without a checkpoint") {
  const support::temp_dir empty;
  CHECK_ERROR(ds::error_code::io, "holds no", ds::open_checkpoint(empty.path()));
  CHECK_ERROR(ds::error_code::io, "cannot be listed", ds::open_checkpoint(empty / "absent"));
  folder damaged("");
  put(damaged / "two.safetensors", "short");
  CHECK_ERROR(ds::error_code::truncated, "two.safetensors", damaged.open());
}

TEST_CASE("listed: at most 20 names") {
  CHECK(ds::listed({"a", "b"}) == R"("a", "b")");
  CHECK(ds::listed(std::vector<std::string>(23, "n")).ends_with(R"("n" and 3 more)"));
}
