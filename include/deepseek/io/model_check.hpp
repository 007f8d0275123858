// SPDX-License-Identifier: Apache-2.0
// config.json against a compile-time model_config, key by key, before any weight is read.
//   describe(config)                    what its config.json would say
//   differences(file, config)           keys that say something else, with both values
//   check_model(directory, config)      an error that lists them
// Compared: whatever changes the numbers that come out, or the shapes. Not compared: model_type,
// dtype, positions, tied embeddings (a file's business), the layers of multi-token prediction.
// Errors: config (keys and both values; or there is no config.json).
#pragma once

#include <charconv>

#include "deepseek/io/checkpoint_directory.hpp"
#include "deepseek/models/config.hpp"

namespace deepseek {

namespace detail {

inline void describe_attention(const model_config& m, checkpoint_config& c) {
  if (m.attention == attention_kind::heads) {
    c.num_attention_heads = m.heads.heads;
    c.num_key_value_heads = m.heads.kv();
    c.head_dim = m.heads_config().width();
    c.rope_theta = m.heads.theta;
    c.scaling = m.heads.scaling;
    c.attention_bias = m.heads.projection_bias == bias::present;
    return;
  }
  c.num_attention_heads = m.latent.heads;
  c.q_lora_rank = m.latent.q_rank;
  c.kv_lora_rank = m.latent.kv_rank;
  c.qk_nope_head_dim = m.latent.nope_dim;
  c.qk_rope_head_dim = m.latent.rope_dim;
  c.v_head_dim = m.latent.v_dim;
  c.rope_theta = m.latent.theta;
  c.scaling = m.latent.scaling;
  if (m.attention != attention_kind::sparse) return;
  c.index_n_heads = m.indexer.index_heads;
  c.index_head_dim = m.indexer.index_dim;
  c.index_topk = m.indexer.top_k;
}

inline void describe_experts(const model_config& m, checkpoint_config& c) {
  c.n_routed_experts = m.experts.routed;
  c.n_shared_experts = m.experts.shared;
  c.num_experts_per_tok = m.experts.active;
  c.moe_intermediate_size = m.experts.hidden;
  c.first_k_dense_replace = m.dense_layers;
  c.n_group = m.gate.groups;
  c.topk_group = m.gate.top_groups;
  const bool biased = m.gate.bias == selection_bias::present;
  c.topk_method = biased ? "noaux_tc" : m.gate.groups > 1 ? "group_limited_greedy" : "greedy";
  c.scoring_func = m.gate.score == gate_score::sigmoid ? "sigmoid" : "softmax";
  c.norm_topk_prob = m.gate.norm == renormalize::yes;
  c.routed_scaling_factor = m.gate.scale;
}

inline std::string shown(const std::string& value) {
  return deepseek::escaped(value);
}
inline std::string shown(bool value) {
  return value ? "true" : "false";
}
// As short as it can be read back.
template <class Number>
requires(!std::is_same_v<Number, bool> && std::is_arithmetic_v<Number>) std::string
    shown(Number value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

}  // namespace detail

inline checkpoint_config describe(const model_config& m) {
  checkpoint_config c;
  c.vocab_size = m.vocabulary;
  c.hidden_size = m.dim;
  c.num_hidden_layers = m.layers;
  c.intermediate_size = m.hidden;
  c.rms_norm_eps = m.eps;
  detail::describe_attention(m, c);
  if (m.has_experts()) detail::describe_experts(m, c);
  return c;
}

struct config_difference {
  std::string key, file, model;  // what each says
};

namespace detail {

// Collects the keys that differ.
struct config_comparison {
  std::vector<config_difference> found = {};

  template <class Value>
  void operator()(const char* key, const Value& file, const Value& model) {
    if (file != model) found.push_back({key, shown(file), shown(model)});
  }
  void scaling(const rope_scaling& file, const rope_scaling& model) {
    constexpr const char* kinds[] = {"default", "linear", "dynamic", "llama3", "yarn"};
    (*this)("rope_type", std::string(kinds[static_cast<int>(file.kind)]),
            std::string(kinds[static_cast<int>(model.kind)]));
    (*this)("factor", file.factor, model.factor);
    (*this)("original_max_position_embeddings", file.original_length, model.original_length);
    (*this)("low_freq_factor", file.low, model.low);
    (*this)("high_freq_factor", file.high, model.high);
    (*this)("beta_fast", file.beta_fast, model.beta_fast);
    (*this)("beta_slow", file.beta_slow, model.beta_slow);
    (*this)("mscale", file.mscale, model.mscale);
    (*this)("mscale_all_dim", file.mscale_all_dim, model.mscale_all_dim);
  }
};

inline bool is_compared(const checkpoint_config& file, const model_config& model,
                        std::string_view key) {
  // Of latent attention, head sizes for grouped heads mean nothing; without dense layers, their
  // width does not.
  if (key == "num_key_value_heads" || key == "head_dim") {
    return !file.is_latent() || model.attention == attention_kind::heads;
  }
  if (key == "intermediate_size") return !model.has_experts() || model.dense_layers > 0;
  return key != "num_nextn_predict_layers";
}

}  // namespace detail

inline std::vector<config_difference> differences(const checkpoint_config& file,
                                                  const model_config& model) {
  const checkpoint_config wanted = describe(model);
  detail::config_comparison compare;
  for (const auto& row : config_size_rows) {
    const bool gate =
        std::string_view(row.key) == "n_group" || std::string_view(row.key) == "topk_group";
    if (gate && !file.is_sparse() && !model.has_experts()) continue;
    if (detail::is_compared(file, model, row.key)) {
      compare(row.key, file.*row.member, wanted.*row.member);
    }
  }
  compare("rms_norm_eps", file.rms_norm_eps, wanted.rms_norm_eps);
  compare("rope_theta", file.rope_theta, wanted.rope_theta);
  compare("attention_bias", file.attention_bias, wanted.attention_bias);
  compare.scaling(file.scaling, wanted.scaling);
  if (!file.is_sparse() || !model.has_experts()) return compare.found;
  compare("topk_method", file.topk_method, wanted.topk_method);
  compare("scoring_func", file.scoring_func, wanted.scoring_func);
  compare("norm_topk_prob", file.norm_topk_prob, wanted.norm_topk_prob);
  compare("routed_scaling_factor", file.routed_scaling_factor, wanted.routed_scaling_factor);
  return compare.found;
}

inline void check_model(const checkpoint_directory& from, const model_config& model) {
  require(from.config().has_value(), error_code::config, "checkpoint ", from.name(),
          ": has no config.json; name a folder that says what model it holds");
  const auto found = differences(*from.config(), model);
  std::string text;
  for (const auto& d : found) {
    (text += text.empty() ? "" : ", ") += d.key + " is " + d.file + " and not " + d.model;
  }
  require(found.empty(), error_code::config, "checkpoint ", from.name(),
          ": config.json is not of this model: ", text,
          "; build for it by changing these members of the model's config");
}

}  // namespace deepseek
