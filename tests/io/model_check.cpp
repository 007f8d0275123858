// SPDX-License-Identifier: Apache-2.0
// config.json against the config of a preset: released models describe themselves, every key that
// differs is named with both values, and what does not matter is let pass.
#include "deepseek/io/model_check.hpp"

#include <doctest/doctest.h>

#include "deepseek/models/deepseek.hpp"
#include "safetensors_bytes.hpp"
#include "support/temp_dir.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;
using safetensors_bytes::put;

namespace {

// The published config.json of V2-Lite, of what matters here; and of V3 and a distill.
const std::string v2_lite = R"({"model_type": "deepseek_v2", "hidden_act": "silu",
  "vocab_size": 102400, "hidden_size": 2048, "intermediate_size": 10944, "num_hidden_layers": 27,
  "num_attention_heads": 16, "num_key_value_heads": 16, "kv_lora_rank": 512, "q_lora_rank": null,
  "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "moe_intermediate_size": 1408,
  "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6, "n_group": 1,
  "topk_group": 1, "topk_method": "greedy", "scoring_func": "softmax", "norm_topk_prob": false,
  "routed_scaling_factor": 1.0, "first_k_dense_replace": 1, "moe_layer_freq": 1,
  "max_position_embeddings": 163840, "rms_norm_eps": 1e-06, "rope_theta": 10000,
  "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707,
                   "mscale_all_dim": 0.707, "original_max_position_embeddings": 4096,
                   "type": "yarn"},
  "attention_bias": false, "tie_word_embeddings": false, "torch_dtype": "bfloat16"})";
const std::string v3 = R"({"model_type": "deepseek_v3", "vocab_size": 129280, "hidden_size": 7168,
  "intermediate_size": 18432, "num_hidden_layers": 61, "num_nextn_predict_layers": 1,
  "num_attention_heads": 128, "num_key_value_heads": 128, "kv_lora_rank": 512, "q_lora_rank": 1536,
  "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "moe_intermediate_size": 2048,
  "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "n_group": 8,
  "topk_group": 4, "topk_method": "noaux_tc", "scoring_func": "sigmoid", "norm_topk_prob": true,
  "routed_scaling_factor": 2.5, "first_k_dense_replace": 3, "rms_norm_eps": 1e-06,
  "rope_theta": 10000, "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40,
    "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096, "type": "yarn"},
  "quantization_config": {"fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}})";
const std::string llama_8b = R"({"model_type": "llama", "vocab_size": 128256, "hidden_size": 4096,
  "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
  "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
  "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                   "original_max_position_embeddings": 8192, "rope_type": "llama3"}})";
const std::string qwen_7b = R"({"model_type": "qwen2", "vocab_size": 152064, "hidden_size": 3584,
  "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
  "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_theta": 10000})";
const std::string moe_16b = R"({"model_type": "deepseek", "vocab_size": 102400,
  "hidden_size": 2048, "intermediate_size": 10944, "num_hidden_layers": 28,
  "num_attention_heads": 16, "num_key_value_heads": 16, "moe_intermediate_size": 1408,
  "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6,
  "first_k_dense_replace": 1, "norm_topk_prob": false, "scoring_func": "softmax",
  "rms_norm_eps": 1e-06, "rope_theta": 10000, "rope_scaling": null})";

ds::checkpoint_config changed(const std::string& text, const std::string& more) {
  auto c = nlohmann::json::parse(text);
  c.update(nlohmann::json::parse("{" + more + "}"));
  return ds::parse_checkpoint_config(c.dump(), "config");
}

}  // namespace

TEST_CASE("the presets of released models fit their config.json") {
  CHECK(ds::differences(changed(v2_lite, ""), ds::v2_lite).empty());
  CHECK(ds::differences(changed(v3, ""), ds::v3).empty());
  CHECK(ds::differences(changed(llama_8b, ""), ds::r1_distill_llama_8b).empty());
  CHECK(ds::differences(changed(qwen_7b, ""), ds::r1_distill_qwen_7b).empty());
  CHECK(ds::differences(changed(moe_16b, ""), ds::moe_16b).empty());
  const auto v32 = changed(v3, R"("model_type": "deepseek_v32", "index_n_heads": 64,
                                  "index_head_dim": 128, "index_topk": 2048)");
  CHECK(ds::differences(v32, ds::v3_2).empty());
  CHECK(!ds::differences(v32, ds::v3).empty());
  CHECK(!ds::differences(changed(v3, ""), ds::v3_2).empty());
}

TEST_CASE("every key that matters is noticed, alone") {
  const std::pair<const char*, const char*> changes[] = {
      {"vocab_size", "102401"},          {"hidden_size", "2064"},
      {"intermediate_size", "10945"},    {"num_hidden_layers", "28"},
      {"num_attention_heads", "32"},     {"kv_lora_rank", "256"},
      {"q_lora_rank", "1536"},           {"qk_nope_head_dim", "64"},
      {"qk_rope_head_dim", "32"},        {"v_head_dim", "64"},
      {"moe_intermediate_size", "1409"}, {"n_routed_experts", "128"},
      {"n_shared_experts", "1"},         {"num_experts_per_tok", "8"},
      {"first_k_dense_replace", "2"},    {"scoring_func", "\"sigmoid\""},
      {"norm_topk_prob", "true"},        {"routed_scaling_factor", "16"},
      {"rms_norm_eps", "1e-05"},         {"rope_theta", "10001"},
      {"attention_bias", "true"}};
  for (const auto& change : changes) {
    const std::string key = change.first, value = change.second;
    CAPTURE(key);
    const auto found = ds::differences(changed(v2_lite, "\"" + key + "\": " + value), ds::v2_lite);
    REQUIRE(found.size() == 1);
    CHECK(found[0].key == key);
    CHECK(found[0].file == value);
  }
  const auto grouped = ds::differences(
      changed(v2_lite, R"("topk_method": "group_limited_greedy", "n_group": 8, "topk_group": 3)"),
      ds::v2_lite);
  REQUIRE(grouped.size() == 3);
  CHECK(grouped[2].key == "topk_method");
}

TEST_CASE("rotary scaling is compared member by member") {
  for (const char* key : {"factor", "mscale", "mscale_all_dim", "original_max_position_embeddings",
                          "beta_fast", "beta_slow"}) {
    CAPTURE(key);
    auto c = nlohmann::json::parse(v2_lite);
    c["rope_scaling"][key] = 2;
    const auto found =
        ds::differences(ds::parse_checkpoint_config(c.dump(), "config"), ds::v2_lite);
    REQUIRE(found.size() == 1);
    CHECK(found[0].key == key);
  }
}

TEST_CASE("what does not change the numbers is let pass") {
  CHECK(
      ds::differences(changed(v2_lite, R"("max_position_embeddings": 4096, "torch_dtype": "float32",
                                            "tie_word_embeddings": true, "model_type": "mine",
                                            "num_key_value_heads": 8, "num_nextn_predict_layers": 2)"),
                      ds::v2_lite)
          .empty());
}

TEST_CASE("the error lists the keys and both values") {
  const support::temp_dir dir;
  put(dir / "model.safetensors", safetensors_bytes::file_of("{}", 0));
  CHECK_ERROR(ds::error_code::config, "no config.json",
              ds::check_model(ds::checkpoint_directory(dir.path()), ds::v2_lite));
  put(dir / "config.json", v2_lite);
  ds::check_model(ds::checkpoint_directory(dir.path()), ds::v2_lite);
  auto other = ds::v2_lite;
  other.layers = 4;
  other.experts.routed = 32;
  CHECK_ERROR(ds::error_code::config, "num_hidden_layers is 27 and not 4",
              "n_routed_experts is 64 and not 32",
              ds::check_model(ds::checkpoint_directory(dir.path()), other));
}
