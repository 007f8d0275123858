// SPDX-License-Identifier: Apache-2.0
// One tensor of a folder: the conversions that a rule allows, blocks of 8-bit floats with their
// scales in another file, and every way in which those do not fit.
#include "deepseek/io/tensor_reader.hpp"

#include <doctest/doctest.h>

#include "deepseek/io/safetensors_writer.hpp"
#include "safetensors_bytes.hpp"
#include "support/temp_dir.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;
using ds::error_code;
using safetensors_bytes::put;

namespace {

template <class T>
ds::tensor_source source(const std::string& name, ds::file_dtype type,
                         std::vector<std::int64_t> shape, const std::vector<T>& values) {
  return {name, type, std::move(shape), std::as_bytes(std::span(values))};
}

// q[i, j] = 1 (0x38) but for the corners of a 5 x 7 matrix in blocks of 2 x 4: a 3 x 2 grid.
struct blocks : support::temp_dir {
  std::vector<std::uint8_t> q = std::vector<std::uint8_t>(35, 0x38);
  std::vector<float> scale{1, 2, 3, 4, 5, 6};
  std::vector<std::int64_t> grid{3, 2};
  std::string config =
      R"({"model_type": "llama", "vocab_size": 8, "hidden_size": 8, "intermediate_size": 8,
          "num_hidden_layers": 1, "num_attention_heads": 2,
          "quantization_config": {"quant_method": "fp8", "weight_block_size": [2, 4]}})";
  std::string scale_name = "model.layers.0.self_attn.q_proj.weight_scale_inv";

  ds::checkpoint_directory open() {
    put(*this / "config.json", config);
    ds::write_safetensors(*this / "a.safetensors", {},
                          std::vector{source("model.layers.0.self_attn.q_proj.weight",
                                             ds::file_dtype::f8_e4m3, {5, 7}, q)});
    std::vector<ds::tensor_source> scales{source(scale_name, ds::file_dtype::f32, grid, scale)};
    if (scale_name.empty()) scales.clear();
    ds::write_safetensors(*this / "b.safetensors", {}, scales);
    return ds::checkpoint_directory(path());
  }
};
const std::string wq = "layers.0.attn.wq.weight";

}  // namespace

TEST_CASE("8-bit floats times the scale of their block, which lies in another file") {
  blocks b;
  b.q[0] = 0x40;   // 2
  b.q[34] = 0xb0;  // -0.5
  const auto from = b.open();
  const ds::tensor_reader reader(from, wq, {5, 7});
  CHECK(reader.scale_path() == "layers.0.attn.wq.weight_scale_inv");
  std::vector<float> w(35);
  reader.read(w.data());
  for (int i = 0; i < 5; ++i) {
    for (int j = 0; j < 7; ++j) {
      const float s = static_cast<float>(1 + i / 2 * 2 + j / 4);
      const float expected = i + j == 0 ? 2 * s : i == 4 && j == 6 ? -s / 2 : s;
      CHECK(w[static_cast<std::size_t>(i * 7 + j)] == expected);
    }
  }
  std::vector<ds::bf16> narrow(35);
  reader.require_convertible<ds::bf16>(ds::conversion::exact);
  reader.read(narrow.data());
  CHECK(static_cast<float>(narrow[34]) == -3.0F);
}

TEST_CASE("scales that are not there or do not fit") {
  blocks none;
  none.scale_name = "";
  const auto without = none.open();
  CHECK_ERROR(error_code::missing_tensor, "weight_scale_inv",
              ds::tensor_reader(without, wq, {5, 7}));
  blocks turned;
  turned.grid = {2, 3};
  const auto from = turned.open();
  CHECK_ERROR(error_code::shape_mismatch, "[2, 3]", "[3, 2]", "2 x 4",
              ds::tensor_reader(from, wq, {5, 7}));
  blocks whole;  // blocks of 128 x 128 where config.json says nothing
  whole.config = whole.config.substr(0, whole.config.find(", \"weight_block_size\"")) + "}}";
  const auto other = whole.open();
  CHECK_ERROR(error_code::shape_mismatch, "[3, 2]", "[1, 1]", "128 x 128",
              ds::tensor_reader(other, wq, {5, 7}));
}

TEST_CASE("shapes, names and types") {
  const support::temp_dir dir;
  const std::vector<float> f{1, 2, 3, 4, 5, 1 + 0x1p-20F};
  const std::vector<ds::bf16> h{ds::bf16(1.5F), ds::bf16(2.5F)};
  const std::vector<std::int32_t> i{1, 2};
  ds::write_safetensors(dir / "m.safetensors", {},
                        std::vector{source("f", ds::file_dtype::f32, {2, 3}, f),
                                    source("h", ds::file_dtype::bf16, {2}, h),
                                    source("i", ds::file_dtype::i32, {2}, i)});
  const ds::checkpoint_directory from(dir.path());
  CHECK_ERROR(error_code::missing_tensor, "\"g\"", ds::tensor_reader(from, "g", {2}));
  CHECK_ERROR(error_code::shape_mismatch, "[2, 3]", "[3, 2]", ds::tensor_reader(from, "f", {3, 2}));
  CHECK_ERROR(error_code::shape_mismatch, "[2, 3]", "[6]", ds::tensor_reader(from, "f", {6}));
  const ds::tensor_reader wide(from, "f", {2, 3}), half(from, "h", {2}), whole(from, "i", {2});
  wide.require_convertible<float>(ds::conversion::none);
  wide.require_convertible<double>(ds::conversion::exact);
  wide.require_convertible<ds::bf16>(ds::conversion::rounded);
  half.require_convertible<float>(ds::conversion::exact);
  CHECK_ERROR(error_code::dtype, "\"f\"", "F32", "BF16", "conversion::rounded",
              wide.require_convertible<ds::bf16>(ds::conversion::exact));
  CHECK_ERROR(error_code::dtype, "\"h\"", "BF16", "F32", "conversion::exact",
              half.require_convertible<float>(ds::conversion::none));
  CHECK_ERROR(error_code::dtype, "\"i\"", "I32", "F32",
              whole.require_convertible<float>(ds::conversion::rounded));
  CHECK_ERROR(error_code::dtype, "\"f\"", "F32", "I32",
              wide.require_convertible<std::int32_t>(ds::conversion::rounded));
  std::vector<ds::bf16> narrow(6);
  wide.read(narrow.data());
  CHECK(static_cast<float>(narrow[5]) == 1.0F);
  std::vector<float> widened(2);
  half.read(widened.data());
  CHECK(widened == std::vector<float>{1.5F, 2.5F});
  std::vector<float> same(6);
  wide.read(same.data());
  CHECK(same == f);
}

TEST_CASE("a tensor larger than the buffer is read in pieces of whole rows") {
  const support::temp_dir dir;
  std::vector<ds::bf16> many(3 * 300'000);
  for (std::size_t n = 0; n < many.size(); ++n) many[n] = ds::bf16(static_cast<float>(n % 251));
  ds::write_safetensors(dir / "m.safetensors", {},
                        std::vector{source("m", ds::file_dtype::bf16, {300'000, 3}, many)});
  const ds::checkpoint_directory from(dir.path());
  std::vector<float> out(many.size());
  ds::tensor_reader(from, "m", {300'000, 3}).read(out.data());
  bool same = true;
  for (std::size_t n = 0; n < many.size(); ++n)
    same = same && out[n] == static_cast<float>(n % 251);
  CHECK(same);
}

TEST_CASE("empty tensors") {
  const support::temp_dir dir;
  ds::write_safetensors(
      dir / "m.safetensors", {},
      std::vector{source("e", ds::file_dtype::bf16, {0, 3}, std::vector<ds::bf16>{}),
                  source("z", ds::file_dtype::bf16, {3, 0}, std::vector<ds::bf16>{})});
  const ds::checkpoint_directory from(dir.path());
  float untouched = 7;
  ds::tensor_reader(from, "e", {0, 3}).read(&untouched);
  ds::tensor_reader(from, "z", {3, 0}).read(&untouched);
  CHECK(untouched == 7);
}
