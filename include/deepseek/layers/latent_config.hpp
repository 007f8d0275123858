// SPDX-License-Identifier: Apache-2.0
// mla_config: the sizes and constants of multi-head latent attention, what is asked of them, and
// which of its two forms costs fewer flops (layers/latent_attention.hpp).
//   naive:    2 keys rank heads (nope + v)  +  pairs heads 2 (nope + rope + v)
//   absorbed: 2 queries rank heads (nope + v)  +  pairs heads 2 (2 rank + rope)
// The pairs are those of a causal mask whose last query meets the last key. Source: DeepSeek-V2
// (2024), section 2.1; DeepSeek-V3 (2024), section 2.1.1.
#pragma once

#include "deepseek/core/call.hpp"
#include "deepseek/ops/rope.hpp"

namespace deepseek {

struct mla_config {
  index_t dim = 0;       // model width, > 0
  index_t heads = 1;     // >= 1
  index_t q_rank = 0;    // width of the queries' latent; 0: queries are not compressed
  index_t kv_rank = 0;   // width of the latent of keys and values, > 0
  index_t nope_dim = 0;  // of a head's key without position, > 0
  index_t rope_dim = 0;  // of the rotated key part that all heads share, even; 0: none
  index_t v_dim = 0;     // of a head's value, > 0
  rope_layout rope = rope_layout::interleaved;
  double theta = 1e4;  // rotary base, > 1
  rope_scaling scaling = {};
  double eps = 1e-6;  // > 0, of the latents' norms
  double scale = 0;   // 0: (nope_dim + rope_dim)^-1/2 times the scaling's softmax factor
  latent_form form = latent_form::by_cost;
  bool operator==(const mla_config&) const = default;

  constexpr index_t key_dim() const { return nope_dim + rope_dim; }  // of a head
  constexpr index_t cache_width() const { return kv_rank + rope_dim; }
};

// One sentence for each thing that can be wrong.
template <mla_config C>
consteval bool check_latent_config() {
  static_assert(C.dim > 0, "deepseek::latent_attention: dim is not positive; write .dim = 2048");
  static_assert(C.heads > 0,
                "deepseek::latent_attention: heads is not positive; write .heads = 16");
  static_assert(
      C.kv_rank > 0,
      "deepseek::latent_attention: kv_rank is not positive (keys and values are made from "
      "that latent); write .kv_rank = 512");
  static_assert(C.q_rank >= 0,
                "deepseek::latent_attention: q_rank is negative; write 0 for queries without "
                "compression");
  static_assert(C.nope_dim > 0 && C.v_dim > 0,
                "deepseek::latent_attention: nope_dim or v_dim is not positive; write .nope_dim = "
                "128, .v_dim = 128");
  static_assert(C.rope_dim >= 0 && C.rope_dim % 2 == 0,
                "deepseek::latent_attention: rope_dim is odd or negative (rotary embedding turns "
                "pairs); write .rope_dim = 64, or 0 for none");
  static_assert(C.rope_dim == 0 || rope_scaling_problem(C.scaling, C.theta) == nullptr,
                "deepseek::latent_attention: the rotary scaling cannot be used (a factor or a "
                "length is out of range); see ops/rope_scaling.hpp");
  return true;
}

// The form with fewer flops for these queries, the last of `keys` positions.
constexpr latent_form cheaper_form(const mla_config& c, index_t queries, index_t keys) {
  const auto real = [](index_t n) { return static_cast<double>(n); };
  const double split = 2 * real(c.kv_rank) * real(c.nope_dim + c.v_dim);
  const double pairs = real(queries) * real(keys) - real(queries) * real(queries - 1) / 2;
  const double naive = real(keys) * split + pairs * 2 * real(c.key_dim() + c.v_dim);
  const double absorbed = real(queries) * split + pairs * 2 * real(c.cache_width() + c.kv_rank);
  return absorbed < naive ? latent_form::absorbed : latent_form::naive;
}

// The call's word, else the config's, else the cheaper one.
constexpr latent_form chosen_form(const mla_config& c, latent_form asked, index_t queries,
                                  index_t keys) {
  if (asked != latent_form::by_cost) return asked;
  return c.form != latent_form::by_cost ? c.form : cheaper_form(c, queries, keys);
}

}  // namespace deepseek
