// SPDX-License-Identifier: Apache-2.0
// From folder to model: experts from one tensor each, tied heads, what may be left out and what is
// skipped; and that nothing changes when anything is wrong.
#include "deepseek/io/load_checkpoint.hpp"

#include "deepseek/deepseek.hpp"

#include <doctest/doctest.h>

#include <numeric>

#include "safetensors_bytes.hpp"
#include "support/temp_dir.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;
using ds::error_code;
using safetensors_bytes::put;

namespace {

// embed [5, 4], layers.0 {ffn_norm, ffn (2 experts of width 3, one shared)}, norm, head.
inline constexpr ds::moe_config experts{.dim = 4, .hidden = 3, .routed = 2, .shared = 1};
using ffn = ds::residual<ds::chain<ds::called<"ffn_norm", ds::rms_norm<4>>, ds::moe<experts>>>;
struct net : ds::chain<ds::embedding<5, 4>, ds::repeat<1, ffn>, ds::rms_norm<4>,
                       ds::called<"head", ds::linear<4, 5>>> {};
using parameters = ds::parameters<net, float, ds::host>;
// And some of a layer of multi-token prediction.
struct with_norms {
  struct layer {};
  parameters trunk;
  ds::parameters<ds::rms_norm<4>, float, ds::host> enorm, norm;
  static constexpr auto fields() {
    return std::tuple{ds::named("", &with_norms::trunk),
                      ds::named("mtp.0.enorm", &with_norms::enorm),
                      ds::named("mtp.0.norm", &with_norms::norm)};
  }
};

// A folder of that net in Hugging Face names; every tensor is filled with its own numbers.
struct folder : support::temp_dir {
  struct stored {
    ds::file_dtype type = ds::file_dtype::f32;
    std::vector<std::int64_t> shape;
    std::vector<float> values;
  };
  std::map<std::string, stored> tensors;

  void add(const std::string& name, const std::vector<std::int64_t>& shape) {
    stored t;
    t.shape = shape;
    t.values.resize(static_cast<std::size_t>(
        std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>())));
    std::iota(t.values.begin(), t.values.end(), 100.0F * static_cast<float>(tensors.size()));
    tensors[name] = t;
  }
  folder() {
    add("model.embed_tokens.weight", {5, 4});
    const std::string layer = "model.layers.0.";
    add(layer + "post_attention_layernorm.weight", {4});
    add(layer + "mlp.gate.weight", {2, 4});
    for (const char* who : {"experts.0.", "experts.1.", "shared_experts."}) {
      add(layer + "mlp." + who + "gate_proj.weight", {3, 4});
      add(layer + "mlp." + who + "up_proj.weight", {3, 4});
      add(layer + "mlp." + who + "down_proj.weight", {4, 3});
    }
    add("model.norm.weight", {4});
    add("lm_head.weight", {5, 4});
  }
  // Two files and config.json.
  ds::checkpoint_directory open(const std::string& config = "") const {
    std::vector<ds::tensor_source> files[2];
    for (const auto& [name, t] : tensors) {
      files[name < "model.layers.0.mlp.experts.1" ? 0 : 1].push_back(
          {name, t.type, t.shape, std::as_bytes(std::span(t.values))});
    }
    ds::write_safetensors(*this / "a.safetensors", {}, files[0]);
    ds::write_safetensors(*this / "b.safetensors", {}, files[1]);
    if (!config.empty()) {
      put(*this / "config.json", R"({"model_type": "x", "vocab_size": 5, "hidden_size": 4,
                                     "intermediate_size": 3, "num_hidden_layers": 1,
                                     "num_attention_heads": 1, )" +
                                     config + "}");
    }
    return ds::checkpoint_directory(path());
  }
  const std::vector<float>& of(const std::string& name) const { return tensors.at(name).values; }
};

template <class T>
std::vector<float> values(const T* data, std::size_t n) {
  return {data, data + n};
}
const auto& moe_of(const parameters& p) {
  return p.template get<1>().all[0].body.template get<1>();
}

}  // namespace

TEST_CASE("every tensor has its place, each expert in its part of the stack") {
  const folder f;
  parameters p;
  ds::fill_parameters(f.open(), p);
  const auto& moe = moe_of(p);
  const std::string mlp = "model.layers.0.mlp.";
  CHECK(values(p.get<0>().weight.data(), 20) == f.of("model.embed_tokens.weight"));
  CHECK(values(p.get<3>().weight.data(), 20) == f.of("lm_head.weight"));
  CHECK(values(moe.gate.weight.data(), 8) == f.of(mlp + "gate.weight"));
  for (int e = 0; e < 2; ++e) {
    const std::string expert = mlp + "experts." + std::to_string(e) + ".";
    CHECK(values(moe.experts.w1.weight.data() + e * 12, 12) == f.of(expert + "gate_proj.weight"));
    CHECK(values(moe.experts.w3.weight.data() + e * 12, 12) == f.of(expert + "up_proj.weight"));
    CHECK(values(moe.experts.w2.weight.data() + e * 12, 12) == f.of(expert + "down_proj.weight"));
  }
  CHECK(values(moe.shared_experts.w2.weight.data(), 12) ==
        f.of(mlp + "shared_experts.down_proj.weight"));
  CHECK(moe.gate.load.data()[0] == 0);  // in no published file
}

TEST_CASE("a tied head is copied from the embedding where config.json says so") {
  folder f;
  f.tensors.erase("lm_head.weight");
  parameters p;
  CHECK_ERROR(error_code::missing_tensor, "head.weight", ds::fill_parameters(f.open(), p));
  CHECK_ERROR(error_code::missing_tensor, "head.weight",
              ds::fill_parameters(f.open(R"("tie_word_embeddings": false)"), p));
  ds::fill_parameters(f.open(R"("tie_word_embeddings": true)"), p);
  CHECK(values(p.get<3>().weight.data(), 20) == f.of("model.embed_tokens.weight"));
}

TEST_CASE("what is skipped, and only that") {
  folder f;
  parameters p;
  f.add("model.layers.0.self_attn.rotary_emb.inv_freq", {2});
  ds::fill_parameters(f.open(), p);
  f.add("model.layers.1.input_layernorm.weight", {4});
  f.add("model.layers.1.eh_proj.weight", {4, 8});
  ds::fill_parameters(f.open(R"("num_nextn_predict_layers": 1)"), p);
  ds::fill_parameters(f.open(R"("num_nextn_predict_layers": 2147483647)"), p);
  CHECK_ERROR(error_code::unexpected_tensor, "2 tensors", "model.layers.1.eh_proj.weight",
              ds::fill_parameters(f.open(R"("num_nextn_predict_layers": 0)"), p));
  f.add("model.layers.2.input_layernorm.weight", {4});
  CHECK_ERROR(error_code::unexpected_tensor, "1 tensors", "model.layers.2",
              ds::fill_parameters(f.open(R"("num_nextn_predict_layers": 1)"), p));
}

TEST_CASE("a layer of multi-token prediction that the model has is read, without its copies") {
  folder f;
  f.add("model.layers.1.enorm.weight", {4});
  f.add("model.layers.1.shared_head.norm.weight", {4});
  f.add("model.layers.1.shared_head.head.weight", {5, 4});
  f.add("model.layers.1.embed_tokens.weight", {5, 4});
  with_norms p;
  const std::string mtp = R"("num_nextn_predict_layers": 1)";
  ds::fill_parameters(f.open(mtp), p);
  CHECK(values(p.enorm.weight.data(), 4) == f.of("model.layers.1.enorm.weight"));
  CHECK(values(p.norm.weight.data(), 4) == f.of("model.layers.1.shared_head.norm.weight"));
  f.add("model.layers.1.hnorm.weight", {4});
  CHECK_ERROR(error_code::unexpected_tensor, "1 tensors", "hnorm",
              ds::fill_parameters(f.open(mtp), p));
}

TEST_CASE("missing and unexpected tensors are listed, at most 20 of them") {
  folder f;
  parameters p;
  for (int i = 0; i < 30; ++i) f.add("model.layers.0.extra." + std::to_string(i), {1});
  CHECK_ERROR(error_code::unexpected_tensor, "30 tensors", "and 10 more",
              ds::fill_parameters(f.open(), p));
  f.tensors.erase("model.norm.weight");
  f.tensors.erase("model.layers.0.mlp.experts.1.up_proj.weight");
  CHECK_ERROR(error_code::missing_tensor, "2 tensors", "norm.weight",
              "layers.0.ffn.experts.1.w3.weight", ds::fill_parameters(f.open(), p));
}

TEST_CASE("a model that is there changes only when all is well") {
  const ds::cpu b;
  ds::model<net, float, ds::cpu> m(b);
  m.parameters().get<0>().weight.data()[3] = 42;
  const auto untouched = [&] { return m.parameters().get<0>().weight.data()[3] == 42; };
  folder turned;
  turned.tensors["model.layers.0.mlp.experts.1.down_proj.weight"].shape = {3, 4};
  CHECK_ERROR(error_code::shape_mismatch, "experts.1.w2", "[3, 4]", "[4, 3]",
              ds::load_checkpoint(turned.open(), m));
  CHECK(untouched());
  folder integers;
  integers.tensors["lm_head.weight"].type = ds::file_dtype::i32;
  CHECK_ERROR(error_code::dtype, "head.weight", "I32", "F32",
              ds::load_checkpoint(integers.open(), m));
  CHECK(untouched());
  const folder cut;
  const auto opened = cut.open();
  std::filesystem::resize_file(cut / "b.safetensors",
                               std::filesystem::file_size(cut / "b.safetensors") - 4);
  CHECK_ERROR(error_code::truncated, "b.safetensors", ds::load_checkpoint(opened, m));
  CHECK(untouched());
  ds::load_checkpoint(folder().open(), m);
  CHECK(!untouched());
}

TEST_CASE("NaN and infinity are kept, or refused if that is asked for") {
  const ds::cpu b;
  folder f;
  f.tensors["model.layers.0.mlp.experts.1.up_proj.weight"].values[7] = -INFINITY;
  const auto from = f.open();
  const auto m = ds::load_model<net, float>(b, from);
  CHECK(std::isinf(moe_of(m.parameters()).experts.w3.weight.data()[12 + 7]));
  const ds::load_options strict{.nonfinite = ds::nonfinite_elements::refused};
  CHECK_ERROR(error_code::nonfinite, "layers.0.ffn.experts.1.w3.weight", "-inf at element 7 of 12",
              (ds::load_model<net, float>(b, from, strict)));
  CHECK_ERROR(error_code::nonfinite, "layers.0.ffn.experts.1.w3.weight", "-inf at element 7 of 12",
              (ds::load_model<ds::quantized<net, ds::bf16_weights>, float>(b, from, strict)));
  static_cast<void>(ds::load_model<net, float>(b, folder().open(), strict));
}

TEST_CASE("another element type: to a wider one by itself, to a narrower one if asked for") {
  const ds::cpu b;
  const folder f;
  const auto from = f.open();
  CHECK_ERROR(error_code::dtype, "F32", "BF16", (ds::load_model<net, ds::bf16>(b, from)));
  const auto narrow = ds::load_model<net, ds::bf16>(b, from, {.elements = ds::conversion::rounded});
  const auto wide = ds::load_model<net, double>(b, from);
  CHECK_ERROR(error_code::dtype, "F32", "F64",
              (ds::load_model<net, double>(b, from, {.elements = ds::conversion::none})));
  const auto& table = f.of("model.embed_tokens.weight");
  for (std::size_t i = 0; i < table.size(); ++i) {
    CHECK(wide.parameters().get<0>().weight.data()[i] == static_cast<double>(table[i]));
    CHECK(narrow.parameters().get<0>().weight.data()[i].bits == ds::bf16(table[i]).bits);
  }
}
