// SPDX-License-Identifier: Apache-2.0
// hash_gate<V, config>: a token always meets the experts tid2eid[token id], tid2eid [V, K] int32, a
// buffer (saved in files, not trained); the weights still come from the scores. Of the config only
// score, norm and scale count. The token ids are lent by the chain that begins with an embedding,
// or by tied<>. Source: Roller et al. 2021 (hash layers); DeepSeek-V4's files name the table.
#pragma once

#include "deepseek/core/random.hpp"
#include "deepseek/layers/gate.hpp"
#include "deepseek/ops/embedding.hpp"

#include <vector>

namespace deepseek {

template <index_t V, gate_config C = sqrt_softplus_gate>
struct hash_gate {
  static_assert(V > 0, "deepseek::hash_gate: no vocabulary; write hash_gate<vocabulary>");
  static_assert(C.groups == 1 && C.top_groups == 1,
                "deepseek::hash_gate: groups limit a choice by scores (here the table chooses); "
                "leave .groups = 1");
  static constexpr gate_config config = C;
  template <class S, index_t E, index_t K>
  struct state {
    tensor<std::int32_t, S, V, K> tid2eid;
    static constexpr auto fields() { return std::tuple{buffer("tid2eid", &state::tid2eid)}; }
  };

  template <class Call, class State, class P, class W, class I>
  static void forward(const Call& c, const State& own, const P& scores,
                      const gate_outputs<W, I>& out) {
    ops::embedding(c.backend, c.template get<token_ids>(), own.tid2eid, out.ids);
    ops::gate(c.backend, scores, none{}, out, C.rule(gate_choice::given));
  }
  template <class Call, class Saved, class DW, class DS>
  static void backward(const Call& c, const Saved& saved, const DW& dweights, const DS& dscores) {
    ops::gate_backward(c.backend, saved, dweights, dscores, C.rule(gate_choice::given));
  }
  template <class Call, class P, class W, class I>
  static void weigh(const Call& c, const P& scores, const gate_outputs<W, I>& out) {
    ops::gate_weights(c.backend, scores, out, C.rule(gate_choice::given));
  }
};

// Fills tid2eid (host) with K different experts of `experts` for each token, drawn by seed.
template <class Table>
void draw_experts(Table& table, index_t experts, std::uint64_t seed) {
  const auto rows = table.view();
  const index_t active = rows.extent(1);
  require(active <= experts, error_code::invalid_argument, "draw_experts: ", active,
          " different experts of ", experts, "; give the number that a gate chooses from");
  std::vector<std::uint32_t> drawn(static_cast<std::size_t>(active));
  for (index_t v = 0; v < rows.extent(0); ++v) {
    const stream_key key{seed, 0, static_cast<std::uint32_t>(v), 0, random_use::initial_values};
    sample_without_replacement(key, static_cast<std::uint32_t>(experts),
                               static_cast<std::uint32_t>(active), drawn.data());
    for (index_t k = 0; k < active; ++k) {
      rows(v, k) = static_cast<std::int32_t>(drawn[static_cast<std::size_t>(k)]);
    }
  }
}

}  // namespace deepseek
