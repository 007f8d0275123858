// SPDX-License-Identifier: Apache-2.0
// dsa_config: the sizes and constants of DeepSeek sparse attention, what is asked of them, and
// which form of latent attention costs fewer flops once only top_k keys are seen: the naive one
// visits nearly all tiles of keys, the absorbed one gathers the selected rows
// (layers/sparse_attention.hpp). Source: DeepSeek-V3.2-Exp (2025), section 2.
#pragma once

#include "deepseek/layers/latent_config.hpp"

#include <bit>

namespace deepseek {

// How the indexer learns: not at all; from attention over all keys (the warm-up, in which the rest
// of the model is frozen); from attention over the selected ones.
enum class indexer_training { none, dense, sparse };

// How rows that a cache keeps, and what is compared with them, are rounded outside training.
enum class row_precision { exact, fp8 };

struct dsa_config {
  mla_config attention = {};  // q_rank > 0: the indexer reads the queries' latent
  index_t index_heads = 64;   // >= 1
  index_t index_dim = 128;    // of an index head, a power of two >= rope_dim
  index_t top_k = 2048;       // keys a query attends to, >= 1
  indexer_training training = indexer_training::sparse;
  double loss_weight = 1;  // >= 0, of the indexer's loss (mean over the call's queries)
  row_precision latents = row_precision::exact;     // fp8: 656 bytes a token at V3.2's sizes
  row_precision index_rows = row_precision::exact;  // of index keys and queries; fp8: 132 bytes
  bool operator==(const dsa_config&) const = default;
};

// One sentence for each thing that can be wrong.
template <dsa_config C>
consteval bool check_sparse_config() {
  static_assert(C.attention.q_rank > 0,
                "deepseek::deepseek_sparse_attention: queries are not compressed (the indexer "
                "reads their latent); write .q_rank = 1536 in .attention");
  static_assert(C.index_heads > 0,
                "deepseek::deepseek_sparse_attention: index_heads is not positive; write "
                ".index_heads = 64");
  static_assert(C.index_dim > 0 && std::has_single_bit(static_cast<std::uint64_t>(C.index_dim)),
                "deepseek::deepseek_sparse_attention: index_dim is not a power of two (the "
                "Hadamard transform needs one); write .index_dim = 128");
  static_assert(C.index_dim >= C.attention.rope_dim,
                "deepseek::deepseek_sparse_attention: rope_dim exceeds index_dim (the rotated "
                "part comes first in an index head); write a larger .index_dim");
  static_assert(C.top_k > 0,
                "deepseek::deepseek_sparse_attention: top_k is not positive; write .top_k = 2048");
  static_assert(C.loss_weight >= 0,
                "deepseek::deepseek_sparse_attention: loss_weight is negative; write 0 or more");
  return true;
}

// The form for queries that see top_k of their keys each, where the call leaves the choice.
constexpr latent_form chosen_sparse_form(const dsa_config& c, latent_form asked, index_t queries,
                                         index_t keys) {
  const mla_config& a = c.attention;
  if (asked != latent_form::by_cost) return asked;
  if (a.form != latent_form::by_cost) return a.form;
  const auto real = [](index_t n) { return static_cast<double>(n); };
  const double split = 2 * real(a.kv_rank) * real(a.nope_dim + a.v_dim);
  const double pairs = real(queries) * real(keys) - real(queries) * real(queries - 1) / 2;
  const double selected = real(queries) * real(keys < c.top_k ? keys : c.top_k);
  const double naive = real(keys) * split + pairs * 2 * real(a.key_dim() + a.v_dim);
  const double absorbed = real(queries) * split + selected * 2 * real(a.cache_width() + a.kv_rank);
  return absorbed < naive ? latent_form::absorbed : latent_form::naive;
}

}  // namespace deepseek
