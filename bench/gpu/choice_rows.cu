// SPDX-License-Identifier: Apache-2.0
// Choices: top-k of rows, the gate of DeepSeek-V3, the plan of rows.
#include "timing.cuh"

namespace bench {

namespace {

void top_k_row(const ds::cuda& b, timer& t, index_t rows, index_t of, index_t k) {
  const auto x = normal<matrix<float>>(b, {rows, of}, 1);
  matrix<float> values({rows, k});
  matrix<std::int32_t> ids({rows, k});
  t.row("topk", std::to_string(rows) + "x" + std::to_string(of) + " k" + std::to_string(k),
        {0, 4.0 * static_cast<double>(rows * of)}, [&] { ds::ops::top_k(b, x, values, ids); });
}

}  // namespace

void choice_rows(const ds::cuda& b, timer& t) {
  constexpr index_t sizes[][3] = {{8192, 256, 8}, {128, 256, 8}, {65536, 64, 6}};
  for (const auto& [tokens, experts, k] : sizes) {
    top_k_row(b, t, tokens, experts, k);
    auto scores = normal<matrix<float>>(b, {tokens, experts}, 1);
    const auto bias = normal<vec<float>>(b, {experts}, 2, 0.1);
    matrix<float> weights({tokens, k});
    matrix<std::int32_t> ids({tokens, k}), slot({tokens, k});
    const std::string shape = std::to_string(tokens) + "x" + std::to_string(experts);
    const ds::gate_rule rule{.score = ds::gate_score::sigmoid,
                             .norm = ds::renormalize::yes,
                             .scale = 2.5,
                             .groups = 8,
                             .top_groups = 4,
                             .group = ds::group_score::best_two};
    t.row("gate_group_limited", shape + " g8/4 k" + std::to_string(k),
          {0, 4.0 * static_cast<double>(tokens * experts)}, [&] {
            ds::ops::gate(b, scores, bias, ds::gate_outputs{weights, ids}, rule);
          });
    vec<std::int32_t> offsets({experts + 1}), source({tokens * k});
    t.row("moe_sort", std::to_string(tokens * k) + " ids<" + std::to_string(experts), {}, [&] {
      ds::ops::expert_plan(b, ids, experts, ds::expert_plan_views{offsets, source, slot});
    });
  }
  for (const auto& [rows, of, k] : {std::tuple{index_t{64}, index_t{65536}, index_t{2048}},
                                    std::tuple{index_t{2048}, index_t{8192}, index_t{2048}},
                                    std::tuple{index_t{256}, index_t{131072}, index_t{2048}}}) {
    top_k_row(b, t, rows, of, k);
  }
}

}  // namespace bench
