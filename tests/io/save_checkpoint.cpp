// SPDX-License-Identifier: Apache-2.0
// Checkpoint folders written and read again: shards by size, both kinds of names, one tensor an
// expert; what a killed save leaves; what a failing one takes away.
#include "deepseek/io/save_checkpoint.hpp"

#include <doctest/doctest.h>

#include <cstring>

#include "deepseek/layers/initialize.hpp"
#include "safetensors_bytes.hpp"
#include "support/temp_dir.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;
using safetensors_bytes::put;

namespace {

template <class T>
struct leaf {
  struct layer {};
  ds::tensor<T, ds::host, 3, 4> weight;
  static constexpr auto fields() { return std::tuple{ds::named("weight", &leaf::weight)}; }
};
struct stack_of_two {
  struct layer {};
  ds::tensor<float, ds::stacked<2, ds::host>, 2, 2> weight;
  static constexpr auto fields() { return std::tuple{ds::named("weight", &stack_of_two::weight)}; }
};
// embed, norm, layers.0.ffn.experts.w1
struct weights {
  struct layer {};
  leaf<float> embed;
  leaf<ds::bf16> norm;
  stack_of_two stack;
  static constexpr auto fields() {
    return std::tuple{ds::named("embed", &weights::embed), ds::named("norm", &weights::norm),
                      ds::named("layers.0.ffn.experts.w1", &weights::stack)};
  }
};

weights some(std::uint64_t seed) {
  weights w;
  ds::initialize(ds::normal_init{.stddev = 1, .seed = seed}, w);
  return w;
}
template <class P>
bool same(const P& a, const P& b) {
  bool equal = true;
  ds::visit(
      [&](const ds::tensor_name&, const auto& x, const auto& y) {
        using T = typename std::remove_cvref_t<decltype(x)>::value_type;
        const auto bytes = static_cast<std::size_t>(x.size()) * sizeof(T);
        equal = equal && std::memcmp(x.data(), y.data(), bytes) == 0;
      },
      a, b);
  return equal;
}
weights loaded(const std::filesystem::path& folder) {
  weights w;
  ds::fill_parameters(ds::checkpoint_directory(folder), w, {.elements = ds::conversion::none});
  return w;
}
std::size_t files_in(const std::filesystem::path& folder) {
  std::size_t n = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) n += entry.exists();
  return n;
}

}  // namespace

TEST_CASE("what is saved is loaded, whatever the size of a shard and the names") {
  const weights w = some(1);
  for (const auto names : {ds::tensor_names::ours, ds::tensor_names::hugging_face}) {
    for (const std::uint64_t bytes : {1U, 30U, 72U, 1000U}) {
      CAPTURE(bytes);
      const support::temp_dir dir;
      ds::save_checkpoint(dir / "new", w, {.names = names, .shard_bytes = bytes});
      CHECK(same(loaded(dir / "new"), w));
      // embed 48 bytes, norm 24, two experts of 16; and the index.
      const std::size_t shards = bytes == 1 ? 4 : bytes == 30 ? 4 : bytes == 72 ? 2 : 1;
      CHECK(files_in(dir / "new") == shards + 1);
    }
  }
}

TEST_CASE("names in the file") {
  const support::temp_dir dir;
  ds::save_checkpoint(dir.path(), some(1), {.names = ds::tensor_names::hugging_face});
  const auto files = ds::open_checkpoint(dir.path());
  REQUIRE(files.size() == 1);
  CHECK(files[0].metadata().at("format") == "pt");
  for (const char* name : {"model.embed_tokens.weight", "model.norm.weight",
                           "model.layers.0.mlp.experts.0.gate_proj.weight",
                           "model.layers.0.mlp.experts.1.gate_proj.weight"}) {
    CHECK_MESSAGE(files[0].find(name) != nullptr, name);
  }
}

TEST_CASE("a new save takes the place of the one before, file by file") {
  const support::temp_dir dir;
  ds::save_checkpoint(dir.path(), some(1), {.shard_bytes = 1});
  put(dir / "tokenizer.json", "kept");
  ds::save_checkpoint(dir.path(), some(2));
  CHECK(same(loaded(dir.path()), some(2)));
  CHECK(files_in(dir.path()) == 3);
  const support::temp_dir single;
  ds::save_parameters(single / "model.safetensors", some(1));
  ds::save_checkpoint(single.path(), some(2));
  CHECK(same(loaded(single.path()), some(2)));
  CHECK(files_in(single.path()) == 2);
}

TEST_CASE("a save that was killed before its index leaves the old checkpoint, and is cleaned up") {
  const support::temp_dir dir;
  const std::string torn = "model-0123456789abcdef-00001-of-00002.safetensors";
  ds::save_checkpoint(dir.path(), some(1));
  put(dir / torn, "whatever was written");
  CHECK(same(loaded(dir.path()), some(1)));
  ds::save_checkpoint(dir.path(), some(2));
  CHECK(!std::filesystem::exists(dir / torn));
  CHECK(same(loaded(dir.path()), some(2)));
  CHECK(files_in(dir.path()) == 2);
}

TEST_CASE("a save that fails leaves the old checkpoint and no file of its own") {
  const support::temp_dir dir;
  ds::save_checkpoint(dir.path(), some(1), {.shard_bytes = 1});
  const std::size_t before = files_in(dir.path());
  // The index cannot be replaced: a folder is in its place. Its own shards go, the others stay.
  std::filesystem::rename(dir / "model.safetensors.index.json", dir / "index");
  std::filesystem::create_directory(dir / "model.safetensors.index.json");
  CHECK_ERROR(ds::error_code::io, "index.json", ds::save_checkpoint(dir.path(), some(2)));
  std::filesystem::remove(dir / "model.safetensors.index.json");
  std::filesystem::rename(dir / "index", dir / "model.safetensors.index.json");
  CHECK(files_in(dir.path()) == before);
  CHECK(same(loaded(dir.path()), some(1)));
}

TEST_CASE("arguments") {
  const support::temp_dir dir;
  CHECK_ERROR(ds::error_code::invalid_argument, "shard_bytes",
              ds::save_checkpoint(dir.path(), some(1), {.shard_bytes = 0}));
  put(dir / "file", "");
  CHECK_ERROR(ds::error_code::io, "cannot be made",
              ds::save_checkpoint(dir / "file" / "below", some(1)));
}
