// SPDX-License-Identifier: Apache-2.0
// What config.json of a checkpoint says about its model, under the file's own key names, read and
// checked. Keys that may be absent (or null where published files have it) have the defaults below,
// those of the files' own reader; other keys are not looked at. Both forms of rotary scaling are
// read: rope_theta + rope_scaling {type or rope_type}, and rope_parameters {rope_theta, rope_type}.
// Errors: config, naming the key, for a value of the wrong type or size and for values that do not
// fit together; unsupported (an activation, a rotary scaling or a quantization that is not read);
// json, utf8, duplicate_key, schema (no object), limit (above 1 MB). Memory: at most 40 MB.
#pragma once

#include "deepseek/io/config_values.hpp"
#include "deepseek/io/file.hpp"
#include "deepseek/io/json_text.hpp"
#include "deepseek/ops/rope_scaling.hpp"

#include <filesystem>

namespace deepseek {

struct checkpoint_config {
  std::string model_type;  // "llama", "qwen2", "deepseek", "deepseek_v2", "deepseek_v3", ...
  index_t vocab_size = 0, hidden_size = 0, num_hidden_layers = 0, num_attention_heads = 0;
  index_t intermediate_size = 0;    // of the dense feed-forward
  index_t num_key_value_heads = 0;  // absent, null: num_attention_heads
  index_t head_dim = 0;             // absent, null: hidden_size / num_attention_heads; not of MLA
  double rms_norm_eps = 1e-6;
  double rope_theta = 1e4;
  rope_scaling scaling;
  bool attention_bias = false;  // absent: true for qwen2 (of q, k and v)
  bool tie_word_embeddings = false;
  // Multi-head latent attention: kv_lora_rank > 0.
  index_t q_lora_rank = 0;  // absent, null, 0: no compression of queries
  index_t kv_lora_rank = 0, qk_nope_head_dim = 0, qk_rope_head_dim = 0, v_head_dim = 0;
  // Experts: n_routed_experts > 0.
  index_t n_routed_experts = 0, n_shared_experts = 0, num_experts_per_tok = 0;
  index_t moe_intermediate_size = 0, first_k_dense_replace = 0;
  index_t n_group = 1, topk_group = 1;  // absent, null: 1
  std::string topk_method;              // absent: "noaux_tc" for deepseek_v3 and v32, else "greedy"
  std::string scoring_func;             // absent: "sigmoid" with "noaux_tc", else "softmax"
  bool norm_topk_prob = false;          // absent: true with "noaux_tc"
  double routed_scaling_factor = 1;
  index_t num_nextn_predict_layers = 0;  // layers of multi-token prediction after the others
  // Lightning indexer: index_topk > 0.
  index_t index_n_heads = 0, index_head_dim = 0, index_topk = 0;
  std::string dtype;                                  // of the files; "torch_dtype" in older ones
  index_t fp8_block_rows = 0, fp8_block_columns = 0;  // quantization_config; 0: not quantized
  bool operator==(const checkpoint_config&) const = default;

  bool is_latent() const { return kv_lora_rank > 0; }
  bool is_sparse() const { return n_routed_experts > 0; }
};

// The sizes of a file, one row each: what may be absent, and the least value.
struct config_size_row {
  const char* key;
  index_t checkpoint_config::*member;
  std::int64_t least;
  bool required;
};
inline constexpr config_size_row config_size_rows[] = {
    {"vocab_size", &checkpoint_config::vocab_size, 1, true},
    {"hidden_size", &checkpoint_config::hidden_size, 1, true},
    {"num_hidden_layers", &checkpoint_config::num_hidden_layers, 1, true},
    {"num_attention_heads", &checkpoint_config::num_attention_heads, 1, true},
    {"intermediate_size", &checkpoint_config::intermediate_size, 1, true},
    {"num_key_value_heads", &checkpoint_config::num_key_value_heads, 1, false},
    {"head_dim", &checkpoint_config::head_dim, 1, false},
    {"q_lora_rank", &checkpoint_config::q_lora_rank, 0, false},
    {"kv_lora_rank", &checkpoint_config::kv_lora_rank, 1, false},
    {"qk_nope_head_dim", &checkpoint_config::qk_nope_head_dim, 1, false},
    {"qk_rope_head_dim", &checkpoint_config::qk_rope_head_dim, 0, false},
    {"v_head_dim", &checkpoint_config::v_head_dim, 1, false},
    {"n_routed_experts", &checkpoint_config::n_routed_experts, 1, false},
    {"n_shared_experts", &checkpoint_config::n_shared_experts, 0, false},
    {"num_experts_per_tok", &checkpoint_config::num_experts_per_tok, 1, false},
    {"moe_intermediate_size", &checkpoint_config::moe_intermediate_size, 1, false},
    {"first_k_dense_replace", &checkpoint_config::first_k_dense_replace, 0, false},
    {"n_group", &checkpoint_config::n_group, 1, false},
    {"topk_group", &checkpoint_config::topk_group, 1, false},
    {"num_nextn_predict_layers", &checkpoint_config::num_nextn_predict_layers, 0, false},
    {"index_n_heads", &checkpoint_config::index_n_heads, 1, false},
    {"index_head_dim", &checkpoint_config::index_head_dim, 1, false},
    {"index_topk", &checkpoint_config::index_topk, 1, false}};

namespace detail {

inline void read_sizes(const config_values& file, checkpoint_config& c) {
  for (const auto& row : config_size_rows) {
    const auto null = row.required ? null_value::refused : null_value::absent;
    const auto value = file.size(row.key, row.least, null);
    if (!value && row.required) file.missing(row.key, "every model has one");
    if (value) c.*row.member = *value;
  }
  if (c.num_key_value_heads == 0) c.num_key_value_heads = c.num_attention_heads;
  if (c.head_dim == 0 && c.hidden_size % c.num_attention_heads == 0) {
    c.head_dim = c.hidden_size / c.num_attention_heads;
  }
}

inline rope_scaling_kind scaling_kind(const config_values& from) {
  const char* key = from.given("rope_type") ? "rope_type" : "type";
  const std::string name = from.text(key, null_value::absent).value_or("default");
  if (name == "default") return rope_scaling_kind::none;
  if (name == "linear") return rope_scaling_kind::linear;
  if (name == "dynamic") return rope_scaling_kind::dynamic_ntk;
  if (name == "llama3") return rope_scaling_kind::llama3;
  if (name == "yarn") return rope_scaling_kind::yarn;
  from.not_read(key, name, "default, linear, dynamic, llama3 and yarn are");
}

inline rope_scaling read_scaling(const config_values& from, const config_values& file,
                                 double theta) {
  constexpr double largest = 1e9;
  const auto absent = null_value::absent;
  rope_scaling s{.kind = scaling_kind(from)};
  if (s.kind == rope_scaling_kind::none) return s;
  s.factor = from.number("factor", 1, largest, absent).value_or(1);
  const auto length = from.size("original_max_position_embeddings", 1, absent);
  const auto positions = file.size("max_position_embeddings", 1, absent);
  if (s.kind != rope_scaling_kind::linear)
    s.original_length = length.value_or(positions.value_or(0));
  if (s.kind == rope_scaling_kind::llama3) {
    s.low = from.number("low_freq_factor", 0, largest, absent).value_or(s.low);
    s.high = from.number("high_freq_factor", 0, largest, absent).value_or(s.high);
  }
  if (s.kind == rope_scaling_kind::yarn) {
    for (const char* key : {"attention_factor", "truncate"}) {
      if (!from.given(key)) continue;
      from.not_read(key, from.raw(key).dump(), "of YaRN, mscale and mscale_all_dim are");
    }
    s.beta_fast = from.number("beta_fast", 0, largest, absent).value_or(s.beta_fast);
    s.beta_slow = from.number("beta_slow", 0, largest, absent).value_or(s.beta_slow);
    s.mscale = from.number("mscale", 0, largest, absent).value_or(1);
    s.mscale_all_dim = from.number("mscale_all_dim", 0, largest, absent).value_or(0);
  }
  const char* problem = rope_scaling_problem(s, theta);
  if (problem != nullptr) from.refuse("factor", s.factor, std::string("another: ") + problem);
  return s;
}

inline void read_rotary(const config_values& file, checkpoint_config& c) {
  const auto parameters = file.object("rope_parameters", null_value::absent);
  const auto scaling = file.object("rope_scaling", null_value::absent);
  const config_values& theta_from =
      parameters && parameters->given("rope_theta") ? *parameters : file;
  c.rope_theta = theta_from.number("rope_theta", 1, 1e18, null_value::absent).value_or(1e4);
  if (parameters) {
    c.scaling = read_scaling(*parameters, file, c.rope_theta);
  } else if (scaling) {
    c.scaling = read_scaling(*scaling, file, c.rope_theta);
  }
}

inline void read_gate(const config_values& file, checkpoint_config& c) {
  const bool v3 = c.model_type == "deepseek_v3" || c.model_type == "deepseek_v32";
  const auto absent = null_value::absent;
  c.topk_method = file.text("topk_method", absent).value_or(v3 ? "noaux_tc" : "greedy");
  const bool biased = c.topk_method == "noaux_tc";
  if (!biased && c.topk_method != "greedy" && c.topk_method != "group_limited_greedy") {
    file.refuse("topk_method", c.topk_method, "greedy, group_limited_greedy or noaux_tc");
  }
  c.scoring_func = file.text("scoring_func", absent).value_or(biased ? "sigmoid" : "softmax");
  if (c.scoring_func != "sigmoid" && c.scoring_func != "softmax") {
    file.refuse("scoring_func", c.scoring_func, "softmax or sigmoid");
  }
  c.norm_topk_prob = file.flag("norm_topk_prob", absent).value_or(biased);
  c.routed_scaling_factor = file.number("routed_scaling_factor", 1e-6, 1e6, absent).value_or(1);
  if (c.topk_method == "greedy") c.n_group = c.topk_group = 1;  // not looked at by that method
  const auto frequency = file.size("moe_layer_freq", 1, absent);
  if (frequency && *frequency != 1) {
    file.refuse("moe_layer_freq", *frequency, "1: every layer after the dense ones has experts");
  }
}

inline void read_quantization(const config_values& file, checkpoint_config& c) {
  const auto from = file.object("quantization_config", null_value::absent);
  if (!from) return;
  const auto method = from->text("quant_method", null_value::refused);
  if (!method) from->missing("quant_method", "write fp8, for 8-bit floats in blocks");
  if (*method != "fp8") from->not_read("quant_method", *method, "fp8 in blocks is");
  c.fp8_block_rows = c.fp8_block_columns = 128;
  if (!from->given("weight_block_size")) return;
  const nlohmann::json& block = from->raw("weight_block_size");
  const bool two = block.is_array() && block.size() == 2;
  for (std::size_t i = 0; i < 2; ++i) {
    const bool fits = two && block[i].is_number_unsigned() && block[i].get<std::uint64_t>() > 0 &&
                      block[i].get<std::uint64_t>() <= 65536;
    if (!fits) from->refuse("weight_block_size", block, "[rows, columns], each from 1 to 65536");
    (i == 0 ? c.fp8_block_rows : c.fp8_block_columns) = block[i].get<index_t>();
  }
}

inline void read_rest(const config_values& file, checkpoint_config& c) {
  const auto absent = null_value::absent;
  c.rms_norm_eps = file.number("rms_norm_eps", 1e-12, 1, null_value::refused).value_or(1e-6);
  c.attention_bias =
      file.flag("attention_bias", null_value::refused).value_or(c.model_type == "qwen2");
  c.tie_word_embeddings = file.flag("tie_word_embeddings", null_value::refused).value_or(false);
  const char* type_key = file.given("dtype") ? "dtype" : "torch_dtype";
  c.dtype = file.text(type_key, absent).value_or("");
  const std::string act = file.text("hidden_act", null_value::refused).value_or("silu");
  if (act != "silu") file.not_read("hidden_act", act, "silu is");
  for (const char* key : {"mlp_bias", "use_sliding_window"}) {
    if (file.flag(key, absent).value_or(false)) file.not_read(key, "true", "false is");
  }
  if (!file.flag("rope_interleave", absent).value_or(true)) {
    file.not_read("rope_interleave", "false", "true is: weights as DeepSeek publishes them");
  }
}

}  // namespace detail

// Heads, groups and experts fit together, and what latent attention or experts need is there.
inline void check_consistent(const checkpoint_config& c, const std::string& what) {
  const auto expect = [&](bool holds, const char* key, index_t found, const auto&... expected) {
    require(holds, error_code::config, what, ": ", key, " is ", found, "; write ", expected...);
  };
  expect(c.num_attention_heads % c.num_key_value_heads == 0, "num_key_value_heads",
         c.num_key_value_heads, "a divisor of num_attention_heads ", c.num_attention_heads);
  if (c.is_latent()) {
    expect(c.qk_nope_head_dim > 0, "qk_nope_head_dim", c.qk_nope_head_dim, "a positive number");
    expect(c.qk_rope_head_dim % 2 == 0, "qk_rope_head_dim", c.qk_rope_head_dim, "an even number");
    expect(c.v_head_dim > 0, "v_head_dim", c.v_head_dim, "a positive number");
  } else {
    expect(c.head_dim > 0 && c.head_dim % 2 == 0, "head_dim", c.head_dim,
           "an even number (rotary embedding turns pairs), or hidden_size a multiple of heads");
  }
  if (!c.is_sparse()) return;
  expect(c.num_experts_per_tok > 0 && c.num_experts_per_tok <= c.n_routed_experts,
         "num_experts_per_tok", c.num_experts_per_tok, "a number from 1 to n_routed_experts ",
         c.n_routed_experts);
  expect(c.moe_intermediate_size > 0, "moe_intermediate_size", c.moe_intermediate_size,
         "a positive number");
  expect(c.n_routed_experts % c.n_group == 0, "n_group", c.n_group,
         "a divisor of n_routed_experts ", c.n_routed_experts);
  expect(c.topk_group <= c.n_group, "topk_group", c.topk_group, "at most n_group ", c.n_group);
  expect(c.topk_group * (c.n_routed_experts / c.n_group) >= c.num_experts_per_tok, "topk_group",
         c.topk_group, "more: the groups kept hold fewer experts than num_experts_per_tok ",
         c.num_experts_per_tok);
  expect(c.first_k_dense_replace <= c.num_hidden_layers, "first_k_dense_replace",
         c.first_k_dense_replace, "at most num_hidden_layers ", c.num_hidden_layers);
}

inline checkpoint_config parse_checkpoint_config(std::string_view text, const std::string& what) {
  const nlohmann::json document = parse_json(text, what);
  require(document.is_object(), error_code::schema, what,
          ": is no JSON object; write {key: value, ...}");
  const config_values file(document, what);
  checkpoint_config c;
  c.model_type = file.text("model_type", null_value::refused).value_or("");
  detail::read_sizes(file, c);
  detail::read_rest(file, c);
  detail::read_rotary(file, c);
  detail::read_gate(file, c);
  detail::read_quantization(file, c);
  check_consistent(c, what);
  return c;
}

inline checkpoint_config read_checkpoint_config(const std::filesystem::path& path) {
  return parse_checkpoint_config(read_text(path, 1'000'000),
                                 "config " + deepseek::escaped(path.string()));
}

}  // namespace deepseek
