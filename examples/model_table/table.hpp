// SPDX-License-Identifier: Apache-2.0
// The rows of the table and what is measured for each. Rows are added by files that CMake makes of
// the lists in CMakeLists.txt.
#pragma once

#include <deepseek/deepseek.hpp>

#include <memory>
#include <string>
#include <vector>

#include "demo/corpus.hpp"

namespace model_table {

namespace ds = deepseek;

// The demo's model in small: two layers of attention and experts on bytes.
inline constexpr ds::index_t dim = 96, layers = 2;
inline constexpr ds::attention_config heads{.dim = dim, .heads = 4};
inline constexpr ds::attention_config grouped{.dim = dim, .heads = 4, .kv_heads = 1};
inline constexpr ds::mla_config latent{
    .dim = dim, .heads = 4, .kv_rank = 32, .nope_dim = 16, .rope_dim = 8, .v_dim = 24};
inline constexpr ds::dsa_config selecting{.attention = {.dim = dim,
                                                        .heads = 4,
                                                        .q_rank = 48,
                                                        .kv_rank = 32,
                                                        .nope_dim = 16,
                                                        .rope_dim = 8,
                                                        .v_dim = 24},
                                          .index_heads = 2,
                                          .index_dim = 16,
                                          .top_k = 32,
                                          .loss_weight = 0.1};
inline constexpr ds::dynamic_sparse_config important{.attention = heads, .window = 32};
inline constexpr ds::head_gate_config by_token{.by = ds::head_gate_by::token};
inline constexpr ds::nsa_config native{
    .attention = heads, .stride = 8, .blocks = {.block = 16, .count = 4}, .window = 32};
inline constexpr ds::moe_config experts{
    .dim = dim, .hidden = 128, .routed = 8, .shared = 1, .active = 2};
inline constexpr ds::gate_config routing{.score = ds::gate_score::sigmoid,
                                         .bias = ds::selection_bias::present,
                                         .norm = ds::renormalize::yes,
                                         .bias_step = 1e-2};

template <class Attention>
using block = ds::transformer_block<Attention, ds::moe<experts, ds::top_k_gate<routing>>>;
template <class Attention>
struct net : ds::chain<ds::embedding<256, dim>, ds::repeat<layers, block<Attention>>,
                       ds::rms_norm<dim>, ds::called<"head", ds::linear<dim, 256>>> {};
using base_attention = ds::multi_head_attention<heads, ds::causal>;
using base_model = ds::model<net<base_attention>, float, ds::cpu>;

struct run {
  const ds::cpu& backend;
  const demo::corpus& text;
  ds::index_t steps;
  std::size_t stride;  // every so many held-out documents are measured
};

struct figures {
  double bits_per_byte = 0;
  ds::index_t bytes = 0;           // of the weights
  double prefill = 0, decode = 0;  // tokens per second
  double training = 0;             // tokens per second; 0: not trained
};

struct attention_row {
  int index;
  std::string name;
  figures (*measure)(const run&);
};
struct format_row {
  int index;
  std::string name;
  figures (*measure)(const run&, const base_model&);
};
struct pruning_row {
  std::string name;
  void (*prune)(const run&, const ds::cpu&, base_model&);
};

std::vector<attention_row>& attention_rows();
std::vector<format_row>& format_rows();
const std::vector<pruning_row>& pruning_rows();
inline bool add(attention_row row) {
  return attention_rows().push_back(std::move(row)), true;
}
inline bool add(format_row row) {
  return format_rows().push_back(std::move(row)), true;
}

// The model that formats and pruning start from (base.cpp).
std::unique_ptr<base_model> trained_base(const run&, figures&);
figures measured_base(const run&, const base_model&);

}  // namespace model_table
