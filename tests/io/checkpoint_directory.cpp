// SPDX-License-Identifier: Apache-2.0
// A folder as one set of tensors: names of both kinds, several files, doubles, config.json.
#include "deepseek/io/checkpoint_directory.hpp"

#include <doctest/doctest.h>

#include "safetensors_bytes.hpp"
#include "support/temp_dir.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;
using namespace safetensors_bytes;

namespace {

std::string one_tensor(const std::string& name) {
  return file_of("{" + entry(name, "U8", "[1]", "[0,1]") + "}", 1);
}

}  // namespace

TEST_CASE("tensors of all files, by our names") {
  const support::temp_dir dir;
  put(dir / "one.safetensors", one_tensor("model.embed_tokens.weight"));
  put(dir / "two.safetensors", one_tensor("layers.0.attn.wq.weight"));
  const ds::checkpoint_directory from(dir.path());
  CHECK(from.tensors().size() == 2);
  REQUIRE(from.find("embed.weight") != nullptr);
  CHECK(from.find("embed.weight")->entry->name == "model.embed_tokens.weight");
  CHECK(from.find("layers.0.attn.wq.weight") != nullptr);
  CHECK(from.find("model.embed_tokens.weight") == nullptr);
  CHECK(!from.config());
}

TEST_CASE("one tensor in two files, or in two spellings") {
  const support::temp_dir files;
  put(files / "one.safetensors", one_tensor("a"));
  put(files / "two.safetensors", one_tensor("a"));
  CHECK_ERROR(ds::error_code::duplicate_key, "\"a\"", "one.safetensors", "two.safetensors",
              ds::checkpoint_directory(files.path()));
  const support::temp_dir spellings;
  put(spellings / "one.safetensors", one_tensor("model.norm.weight"));
  put(spellings / "two.safetensors", one_tensor("norm.weight"));
  CHECK_ERROR(ds::error_code::duplicate_key, "norm.weight", "model.norm.weight",
              ds::checkpoint_directory(spellings.path()));
}

TEST_CASE("model.safetensors stands alone: what lies beside it does not count") {
  const support::temp_dir dir;
  put(dir / "consolidated.safetensors", one_tensor("a"));
  put(dir / "model.safetensors", one_tensor("a"));
  CHECK(ds::checkpoint_directory(dir.path()).tensors().size() == 1);
}

TEST_CASE("config.json is read with the folder, its faults are the folder's") {
  const support::temp_dir dir;
  put(dir / "model.safetensors", one_tensor("a"));
  put(dir / "config.json", R"({"model_type": "llama", "vocab_size": 64, "hidden_size": 32,
                               "intermediate_size": 48, "num_hidden_layers": 2,
                               "num_attention_heads": 4, "tie_word_embeddings": true})");
  const ds::checkpoint_directory from(dir.path());
  REQUIRE(from.config());
  CHECK(from.config()->tie_word_embeddings);
  put(dir / "config.json", "{");
  CHECK_ERROR(ds::error_code::json, "config.json", ds::checkpoint_directory(dir.path()));
}

TEST_CASE("a folder that is moved keeps its tensors") {
  const support::temp_dir dir;
  put(dir / "model.safetensors", one_tensor("a"));
  ds::checkpoint_directory first(dir.path());
  const ds::checkpoint_directory second(std::move(first));
  std::byte value{9};
  second.find("a")->file->read(*second.find("a")->entry, std::span(&value, 1));
  CHECK(value == std::byte{0});
}
