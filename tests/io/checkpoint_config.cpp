// SPDX-License-Identifier: Apache-2.0
// config.json: what published files say, the defaults of what they leave out, and a table of bad
// ones, each refused by a code and a message that names the key.
#include "deepseek/io/checkpoint_config.hpp"

#include <doctest/doctest.h>

#include "support/throws.hpp"

namespace ds = deepseek;
using ds::error_code;

namespace {

// The least a dense model says; `more` comes after, and may give a key once more.
std::string dense(const std::string& more = "") {
  nlohmann::json c = nlohmann::json::parse(
      R"({"model_type": "llama", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48,
          "num_hidden_layers": 2, "num_attention_heads": 4})");
  c.update(nlohmann::json::parse("{" + more + "}"));
  return c.dump();
}
std::string sparse(const std::string& more = "") {
  nlohmann::json c = nlohmann::json::parse(dense(
      R"("model_type": "deepseek_v3", "kv_lora_rank": 16, "qk_nope_head_dim": 8,
         "qk_rope_head_dim": 4, "v_head_dim": 8, "n_routed_experts": 8, "n_shared_experts": 1,
         "num_experts_per_tok": 2, "moe_intermediate_size": 12, "n_group": 4, "topk_group": 2)"));
  c.update(nlohmann::json::parse("{" + more + "}"));
  return c.dump();
}
ds::checkpoint_config parse(const std::string& text) {
  return ds::parse_checkpoint_config(text, "config");
}

struct bad {
  std::string text;
  error_code code;
  std::string part;
};
void check_refused(const std::vector<bad>& rows) {
  for (const auto& row : rows) {
    CAPTURE(row.text);
    try {
      parse(row.text);
      FAIL_CHECK("was accepted, expected " << to_string(row.code));
    } catch (const ds::error& e) {
      const std::string message = e.what();
      CAPTURE(message);
      CHECK(to_string(e.code()) == to_string(row.code));
      CHECK(message.find(row.part) != std::string::npos);
      CHECK(message.find("; ") != std::string::npos);
    }
  }
}

}  // namespace

TEST_CASE("a dense model's defaults") {
  const auto c = parse(dense());
  CHECK(c.num_key_value_heads == 4);
  CHECK(c.head_dim == 8);
  CHECK(c.rms_norm_eps == 1e-6);
  CHECK(c.rope_theta == 1e4);
  CHECK(c.scaling == ds::rope_scaling{});
  CHECK(!c.attention_bias);
  CHECK(!c.tie_word_embeddings);
  CHECK(!c.is_latent());
  CHECK(!c.is_sparse());
  CHECK(c.fp8_block_rows == 0);
  CHECK(parse(dense(R"("model_type": "qwen2")")).attention_bias);
  CHECK(parse(dense(R"("num_key_value_heads": 2, "head_dim": 16)")).head_dim == 16);
  CHECK(parse(dense(R"("num_key_value_heads": null, "head_dim": null)")) == c);
}

TEST_CASE("experts and latent attention: what is said, and what their methods imply") {
  const auto v3 = parse(sparse(R"("q_lora_rank": 20, "num_nextn_predict_layers": 1)"));
  CHECK(v3.is_latent());
  CHECK(v3.q_lora_rank == 20);
  CHECK(v3.topk_method == "noaux_tc");
  CHECK(v3.scoring_func == "sigmoid");
  CHECK(v3.norm_topk_prob);
  CHECK(v3.n_group == 4);
  CHECK(v3.num_nextn_predict_layers == 1);
  const auto lite = parse(sparse(R"("model_type": "deepseek_v2", "q_lora_rank": null)"));
  CHECK(lite.q_lora_rank == 0);
  CHECK(lite.topk_method == "greedy");
  CHECK(lite.n_group == 1);
  CHECK(lite.scoring_func == "softmax");
  CHECK(!lite.norm_topk_prob);
}

TEST_CASE("rotary scaling in the old and the new form") {
  const auto old_form = parse(dense(R"("rope_theta": 5e5, "rope_scaling": {"type": "linear",
                                       "factor": 4})"));
  CHECK(old_form.rope_theta == 5e5);
  CHECK(old_form.scaling == ds::rope_scaling{.kind = ds::rope_scaling_kind::linear, .factor = 4});
  const auto new_form = parse(dense(R"("rope_parameters": {"rope_type": "linear", "factor": 4.0,
                                       "rope_theta": 500000.0})"));
  CHECK(new_form == old_form);
  CHECK(parse(dense(R"("rope_scaling": null)")).scaling == ds::rope_scaling{});
  CHECK(parse(dense(R"("rope_parameters": {"rope_type": "default", "rope_theta": 1e4})")) ==
        parse(dense()));
  const auto llama3 = parse(dense(
      R"("rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
         "high_freq_factor": 4, "original_max_position_embeddings": 8192})"));
  CHECK(llama3.scaling == ds::rope_scaling{.kind = ds::rope_scaling_kind::llama3,
                                           .factor = 8,
                                           .original_length = 8192});
  const auto yarn = parse(sparse(
      R"("rope_scaling": {"type": "yarn", "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707,
         "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1})"));
  CHECK(yarn.scaling == ds::rope_scaling{.kind = ds::rope_scaling_kind::yarn,
                                         .factor = 40,
                                         .original_length = 4096,
                                         .mscale = 0.707,
                                         .mscale_all_dim = 0.707});
  const auto ntk = parse(dense(
      R"("max_position_embeddings": 2048, "rope_scaling": {"type": "dynamic", "factor": 2})"));
  CHECK(ntk.scaling.kind == ds::rope_scaling_kind::dynamic_ntk);
  CHECK(ntk.scaling.original_length == 2048);
}

TEST_CASE("types of elements and blocks of 8-bit floats") {
  CHECK(parse(dense(R"("torch_dtype": "bfloat16")")).dtype == "bfloat16");
  CHECK(parse(dense(R"("dtype": "float32")")).dtype == "float32");
  const auto fp8 = parse(dense(R"("quantization_config": {"quant_method": "fp8",
                                  "weight_block_size": [64, 32]})"));
  CHECK(fp8.fp8_block_rows == 64);
  CHECK(fp8.fp8_block_columns == 32);
  CHECK(parse(dense(R"("quantization_config": {"quant_method": "fp8"})")).fp8_block_rows == 128);
  CHECK(parse(dense(R"("quantization_config": null)")).fp8_block_rows == 0);
}

TEST_CASE("no JSON, no object, too long") {
  check_refused({{"", error_code::json, "config"},
                 {"{", error_code::json, "config"},
                 {"[]", error_code::schema, "no JSON object"},
                 {"null", error_code::schema, "no JSON object"},
                 {"3", error_code::schema, "no JSON object"},
                 {"\xef\xbb\xbf{}", error_code::json, "byte order mark"},
                 {"{\"a\": \"\xff\"}", error_code::utf8, "UTF-8"},
                 {R"({"a": 1, "a": 2})", error_code::duplicate_key, "\"a\""},
                 {R"({"a": 1e999})", error_code::json, "too large"},
                 {"{}", error_code::config, "vocab_size"}});
}

TEST_CASE("every size of every kind that is none") {
  const auto rows = [](const char* key, const char* least_bad) {
    const std::string k = std::string("\"") + key + "\": ";
    std::vector<bad> all;
    for (const char* value :
         {least_bad, "-1", "2147483648", "9223372036854775808", "18446744073709551616", "1e308",
          "64.0", "1.5", "\"64\"", "true", "[64]", "{}", "-9223372036854775808"}) {
      all.push_back({sparse(k + value), error_code::config, key});
    }
    return all;
  };
  for (const auto& row : ds::config_size_rows) {
    check_refused(rows(row.key, row.least == 1 ? "0" : "-2"));
    if (row.required) {
      check_refused(
          {{sparse(std::string("\"") + row.key + "\": null"), error_code::config, row.key}});
      auto without = nlohmann::json::parse(sparse());
      without.erase(row.key);
      check_refused({{without.dump(), error_code::config, row.key}});
    }
  }
}

TEST_CASE("numbers, flags and texts of the wrong kind") {
  check_refused(
      {{dense(R"("model_type": 3)"), error_code::config, "model_type"},
       {dense(R"("model_type": null)"), error_code::config, "model_type"},
       {dense(R"("rms_norm_eps": 0)"), error_code::config, "rms_norm_eps"},
       {dense(R"("rms_norm_eps": -1e-6)"), error_code::config, "rms_norm_eps"},
       {dense(R"("rms_norm_eps": "1e-6")"), error_code::config, "rms_norm_eps"},
       {dense(R"("rms_norm_eps": null)"), error_code::config, "rms_norm_eps"},
       {dense(R"("rms_norm_eps": 2)"), error_code::config, "rms_norm_eps"},
       {dense(R"("rope_theta": 0)"), error_code::config, "rope_theta"},
       {dense(R"("rope_theta": 1e300)"), error_code::config, "rope_theta"},
       {dense(R"("rope_theta": "10000")"), error_code::config, "rope_theta"},
       {dense(R"("attention_bias": 1)"), error_code::config, "attention_bias"},
       {dense(R"("attention_bias": null)"), error_code::config, "attention_bias"},
       {dense(R"("tie_word_embeddings": "false")"), error_code::config, "tie_word_embeddings"},
       {dense(R"("torch_dtype": 16)"), error_code::config, "torch_dtype"},
       {dense(R"("dtype": ["bfloat16"])"), error_code::config, "dtype"},
       {dense(R"("hidden_act": "gelu")"), error_code::unsupported, "gelu"},
       {dense(R"("hidden_act": 1)"), error_code::config, "hidden_act"},
       {dense(R"("mlp_bias": true)"), error_code::unsupported, "mlp_bias"},
       {dense(R"("use_sliding_window": true)"), error_code::unsupported, "use_sliding_window"},
       {dense(R"("use_sliding_window": 1)"), error_code::config, "use_sliding_window"},
       {sparse(R"("rope_interleave": false)"), error_code::unsupported, "rope_interleave"},
       {sparse(R"("norm_topk_prob": 1)"), error_code::config, "norm_topk_prob"},
       {sparse(R"("routed_scaling_factor": 0)"), error_code::config, "routed_scaling_factor"},
       {sparse(R"("routed_scaling_factor": 1e308)"), error_code::config, "routed_scaling_factor"},
       {sparse(R"("topk_method": "random")"), error_code::config, "topk_method"},
       {sparse(R"("scoring_func": "tanh")"), error_code::config, "scoring_func"},
       {sparse(R"("moe_layer_freq": 2)"), error_code::config, "moe_layer_freq"}});
}

TEST_CASE("what does not fit together") {
  check_refused(
      {{dense(R"("num_key_value_heads": 3)"), error_code::config, "num_key_value_heads"},
       {dense(R"("num_key_value_heads": 8)"), error_code::config, "num_key_value_heads"},
       {dense(R"("num_attention_heads": 5)"), error_code::config, "head_dim"},
       {dense(R"("head_dim": 7)"), error_code::config, "head_dim"},
       {dense(R"("hidden_size": 2)"), error_code::config, "head_dim"},
       {sparse(R"("num_experts_per_tok": 9)"), error_code::config, "num_experts_per_tok"},
       {sparse(R"("num_experts_per_tok": null)"), error_code::config, "num_experts_per_tok"},
       {sparse(R"("n_group": 3)"), error_code::config, "n_group"},
       {sparse(R"("topk_group": 5)"), error_code::config, "topk_group"},
       {sparse(R"("topk_group": 1, "num_experts_per_tok": 3)"), error_code::config, "topk_group"},
       {sparse(R"("first_k_dense_replace": 3)"), error_code::config, "first_k_dense_replace"},
       {sparse(R"("moe_intermediate_size": null)"), error_code::config, "moe_intermediate_size"},
       {sparse(R"("qk_rope_head_dim": 3)"), error_code::config, "qk_rope_head_dim"},
       {sparse(R"("qk_nope_head_dim": null)"), error_code::config, "qk_nope_head_dim"},
       {sparse(R"("v_head_dim": null)"), error_code::config, "v_head_dim"}});
}

TEST_CASE("rotary scalings and quantizations that are not to be used") {
  const auto scaled = [](const std::string& body) {
    return dense(R"("rope_scaling": {)" + body + "}");
  };
  check_refused(
      {{dense(R"("rope_scaling": "yarn")"), error_code::config, "rope_scaling"},
       {dense(R"("rope_parameters": [])"), error_code::config, "rope_parameters"},
       {scaled(R"("type": "longrope", "factor": 4)"), error_code::unsupported, "longrope"},
       {scaled(R"("type": 4)"), error_code::config, "rope_scaling.type"},
       {scaled(R"("type": "linear", "factor": 0.5)"), error_code::config, "rope_scaling.factor"},
       {scaled(R"("type": "linear", "factor": "4")"), error_code::config, "rope_scaling.factor"},
       {scaled(R"("type": "yarn", "factor": 4)"), error_code::config, "original_length"},
       {scaled(R"("type": "yarn", "factor": 4, "original_max_position_embeddings": 0)"),
        error_code::config, "original_max_position_embeddings"},
       {scaled(R"("type": "yarn", "factor": 4, "original_max_position_embeddings": 64,
                  "beta_fast": 1, "beta_slow": 2)"),
        error_code::config, "beta_slow"},
       {scaled(R"("type": "yarn", "factor": 4, "original_max_position_embeddings": 64,
                  "mscale": -1)"),
        error_code::config, "mscale"},
       {scaled(R"("type": "yarn", "factor": 4, "original_max_position_embeddings": 64,
                  "attention_factor": 2.0)"),
        error_code::unsupported, "attention_factor"},
       {scaled(R"("type": "llama3", "factor": 8, "original_max_position_embeddings": 64,
                  "low_freq_factor": 4, "high_freq_factor": 4)"),
        error_code::config, "low"},
       {dense(R"("quantization_config": "fp8")"), error_code::config, "quantization_config"},
       {dense(R"("quantization_config": {})"), error_code::config, "quant_method"},
       {dense(R"("quantization_config": {"quant_method": "awq"})"), error_code::unsupported, "awq"},
       {dense(R"("quantization_config": {"quant_method": "fp8", "weight_block_size": 128})"),
        error_code::config, "weight_block_size"},
       {dense(R"("quantization_config": {"quant_method": "fp8", "weight_block_size": [0, 128]})"),
        error_code::config, "weight_block_size"},
       {dense(R"("quantization_config": {"quant_method": "fp8", "weight_block_size": [1e9, 1]})"),
        error_code::config, "weight_block_size"}});
}
