// SPDX-License-Identifier: Apache-2.0
// Small configurations of DeepSeek sparse attention and their weights in the oracle's form.
#pragma once

#include "deepseek/layers/sparse_attention.hpp"

#include "layers/layer_trial.hpp"
#include "oracle/rope_scaling.hpp"
#include "oracle/sparse_attention.hpp"

namespace sparse_test {

namespace ds = deepseek;

constexpr ds::dsa_config with(ds::indexer_training how, ds::latent_form form, ds::index_t top_k) {
  return {.attention = {.dim = 10,
                        .heads = 3,
                        .q_rank = 7,
                        .kv_rank = 6,
                        .nope_dim = 5,
                        .rope_dim = 4,
                        .v_dim = 3,
                        .theta = 500,
                        .form = form},
          .index_heads = 3,
          .index_dim = 8,
          .top_k = top_k,
          .training = how,
          .loss_weight = 0.7};
}
constexpr ds::dsa_config with_yarn(ds::dsa_config c) {
  c.attention.scaling = {.kind = ds::rope_scaling_kind::yarn,
                         .factor = 40,
                         .original_length = 4096,
                         .mscale = 0.707,
                         .mscale_all_dim = 0.707};
  return c;
}

template <class Tensor>
std::vector<double> all_of(const Tensor& t) {
  return support::to_double(t.data(), static_cast<std::size_t>(t.size()));
}

template <class P>
oracle::dsa_weights weights_of(const P& p) {
  oracle::dsa_weights w;
  w.attention.wq_a = all_of(p.wq_a.weight);
  w.attention.q_norm = all_of(p.q_norm.weight);
  w.attention.wq_b = all_of(p.wq_b.weight);
  w.attention.wkv_a = all_of(p.wkv_a.weight);
  w.attention.kv_norm = all_of(p.kv_norm.weight);
  w.attention.wkv_b = all_of(p.wkv_b.weight);
  w.attention.wo = all_of(p.wo.weight);
  w.indexer = {all_of(p.indexer.wq_b.weight), all_of(p.indexer.wk.weight),
               all_of(p.indexer.k_norm.weight), all_of(p.indexer.k_norm.bias),
               all_of(p.indexer.weights_proj.weight)};
  return w;
}

template <ds::dsa_config C>
oracle::dsa_shape shape_of() {
  const auto u = [](ds::index_t i) { return static_cast<std::size_t>(i); };
  constexpr ds::mla_config a = C.attention;
  oracle::dsa_shape s{
      {u(a.dim), u(a.q_rank), {}, {}, a.eps}, u(C.index_heads), u(C.index_dim), u(C.top_k)};
  s.attention.heads = {0, 0, u(a.heads), u(a.kv_rank), u(a.nope_dim), u(a.rope_dim), u(a.v_dim), 1};
  s.attention.rotation.base = a.theta;
  double factor = 1;
  if (a.scaling.kind == ds::rope_scaling_kind::yarn) {
    s.attention.rotation.frequencies =
        oracle::yarn_table(a.theta, u(a.rope_dim), {40, 32, 1, 4096});
    factor = std::pow(0.1 * a.scaling.mscale_all_dim * std::log(40.0) + 1, 2);
  }
  s.attention.heads.scale = factor / std::sqrt(static_cast<double>(a.nope_dim + a.rope_dim));
  return s;
}

// Every factor matters: norm weights away from one, biases away from zero.
template <class P>
void unsettle(P& p) {
  ds::visit(
      [](const ds::tensor_name& at, auto& t) {
        if (at.path.find("norm") == std::string::npos) return;
        for (ds::index_t i = 0; i < t.size(); ++i) {
          t.data()[i] += static_cast<typename std::remove_cvref_t<decltype(t)>::value_type>(
              0.3 * std::sin(1.0 + static_cast<double>(i)));
        }
      },
      p);
}

inline double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double error = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    error += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(error / size);
}

}  // namespace sparse_test
