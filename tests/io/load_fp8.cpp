// SPDX-License-Identifier: Apache-2.0
// e4m3 weights of a file: taken over code by code where the model's format holds the same blocks,
// with scales of floats or of powers of two; made into another format from their numbers elsewhere.
#include "deepseek/io/save_checkpoint.hpp"

#include <doctest/doctest.h>

#include "deepseek/quant/int4_groups.hpp"
#include "safetensors_bytes.hpp"
#include "support/temp_dir.hpp"

namespace ds = deepseek;

namespace {

// A layer larger than a block both ways: a grid of 2 x 2.
constexpr ds::index_t O = 140, I = 130;
template <class F>
using weights = ds::parameters<ds::linear<I, O, F>, float, ds::host>;

struct files : support::temp_dir {
  std::vector<std::uint8_t> codes = std::vector<std::uint8_t>(O * I);
  std::vector<float> scale{0.5F, 1, 2, 4};
  std::vector<std::uint8_t> scale_codes{126, 127, 128, 129};

  files() {
    for (std::size_t i = 0; i < codes.size(); ++i) {  // far from the largest code in every block
      codes[i] = static_cast<std::uint8_t>(i % 97 % 0x50);
    }
  }
  ds::checkpoint_directory open(bool powers) const {
    const auto scales =
        powers ? std::as_bytes(std::span(scale_codes)) : std::as_bytes(std::span(scale));
    ds::write_safetensors(
        *this / "model.safetensors", {},
        std::vector<ds::tensor_source>{
            {"weight", ds::file_dtype::f8_e4m3, {O, I}, std::as_bytes(std::span(codes))},
            {powers ? "scale" : "weight_scale_inv",
             powers ? ds::file_dtype::f8_e8m0 : ds::file_dtype::f32,
             {2, 2},
             scales}});
    return ds::checkpoint_directory(path());
  }
};

}  // namespace

TEST_CASE_TEMPLATE("blocks are taken over code by code", Format, ds::fp8_blocks,
                   ds::fp8_blocks_ue8m0, ds::fp8_activations) {
  const files f;
  for (const bool powers : {false, true}) {
    weights<Format> w;
    ds::fill_parameters(f.open(powers), w);
    bool same = true;
    for (std::size_t i = 0; i < f.codes.size(); ++i) {
      same = same && w.weight.q.data()[i].bits == f.codes[i];
    }
    CHECK(same);
    for (std::size_t i = 0; i < 4; ++i) CHECK(w.weight.scale.data()[i] == f.scale[i]);
  }
}

TEST_CASE("saved in blocks of 128 they are read as they are, whatever config.json says of others") {
  const files f;
  weights<ds::fp8_blocks> w, again;
  ds::fill_parameters(f.open(false), w);
  const support::temp_dir saved;
  ds::save_checkpoint(saved.path(), w);
  safetensors_bytes::put(saved / "config.json", R"({"model_type": "x", "vocab_size": 4,
    "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [16, 16]}})");
  ds::fill_parameters(ds::checkpoint_directory(saved.path()), again);
  bool same = true;
  for (std::size_t i = 0; i < f.codes.size(); ++i) {
    same = same && again.weight.q.data()[i].bits == f.codes[i];
  }
  CHECK(same);
  for (std::size_t i = 0; i < 4; ++i) CHECK(again.weight.scale.data()[i] == f.scale[i]);
}

TEST_CASE("other formats are made from the numbers") {
  const files f;
  weights<ds::plain> numbers;
  ds::fill_parameters(f.open(false), numbers);
  CHECK(numbers.weight.view()(129, 1) ==
        2 * static_cast<float>(ds::f8_e4m3::from_bits(f.codes[129 * I + 1])));
  weights<ds::int4_groups<32>> made, expected;
  ds::fill_parameters(f.open(false), made);
  ds::make_weight(ds::int4_groups<32>{}, numbers.weight, ds::observed_range{}, expected.weight);
  bool same = true;
  ds::visit(
      [&](const ds::tensor_name&, const auto& x, const auto& y) {
        for (ds::index_t i = 0; i < x.size(); ++i) {
          same = same && static_cast<double>(x.data()[i]) == static_cast<double>(y.data()[i]);
        }
      },
      made.weight, expected.weight);
  CHECK(same);
}
