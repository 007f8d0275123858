// SPDX-License-Identifier: Apache-2.0
// Masks to a file and back; files that hold no masks.
#include "deepseek/io/masks.hpp"

#include "support/report.hpp"
#include "support/temp_dir.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;
using code = ds::error_code;

TEST_CASE("masks: a file gives back what was saved") {
  const support::temp_dir folder;
  ds::weight_masks masks;
  auto& a = masks.at("layers.0.ffn.w1.weight", 12);
  for (std::size_t i = 0; i < 12; i += 3) a[i] = 0;
  masks.at("head.weight", 3)[2] = 0;
  ds::save_masks(folder / "masks.safetensors", masks);
  const auto again = ds::load_masks(folder / "masks.safetensors");
  CHECK(again.all() == masks.all());
  CHECK(again.kept() == 10);
  CHECK(again.sparsity() == doctest::Approx(1.0 / 3));
  ds::save_masks(folder / "none.safetensors", ds::weight_masks{});
  CHECK(ds::load_masks(folder / "none.safetensors").all().empty());
}

TEST_CASE("masks: files that hold none are refused") {
  const support::temp_dir folder;
  const auto path = folder / "bad.safetensors";
  const std::vector<std::byte> bytes(12, std::byte{1});
  const auto write = [&](ds::file_dtype type, std::vector<std::int64_t> shape,
                         std::span<const std::byte> from) {
    const std::vector<ds::tensor_source> one = {{"w", type, std::move(shape), from}};
    ds::write_safetensors(path, {}, one);
  };
  write(ds::file_dtype::f32, {3}, bytes);
  CHECK_ERROR(code::dtype, "expected U8", ds::load_masks(path));
  write(ds::file_dtype::u8, {3, 4}, bytes);
  CHECK_ERROR(code::shape_mismatch, "[3, 4]", ds::load_masks(path));
  const std::vector<std::byte> seven(12, std::byte{7});
  write(ds::file_dtype::u8, {12}, seven);
  CHECK_ERROR(code::config, "has 7 at 0", ds::load_masks(path));
  CHECK_ERROR(code::io, "absent", ds::load_masks(folder / "absent"));
}
