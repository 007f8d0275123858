// SPDX-License-Identifier: Apache-2.0
// What a layer of experts does beside its products: the gate, the plan, rows to their experts and
// back.
#include "deepseek/ops/combine.hpp"
#include "deepseek/ops/expert_plan.hpp"
#include "deepseek/ops/gate.hpp"
#include "deepseek/ops/permute.hpp"

#include "deepseek/backend/cpu/combine.hpp"
#include "deepseek/backend/cpu/gate.hpp"
#include "deepseek/backend/cpu/permute.hpp"
#include "deepseek/backend/reference/expert_plan.hpp"

#include "shapes.hpp"
#include "support/op_case.hpp"

namespace bench {
namespace {

struct gate_case {
  static constexpr const char* op = "gate";
  matrix logits, scores, weights;
  integer_matrix ids;

  explicit gate_case(const routing_size& s)
      : logits(filled<matrix>({s.tokens, s.experts}, 1, {-2, 2})),
        scores(logits),
        weights({s.tokens, s.active}),
        ids({s.tokens, s.active}) {}
  template <class B>
  void run(const B& b) {
    ds::ops::gate(b, scores, ds::none{}, ds::gate_outputs{weights, ids},
                  {.norm = ds::renormalize::yes});
  }
  work cost() const {
    const double elements = static_cast<double>(scores.size());
    return {12 * elements, 8 * elements};
  }
  std::vector<output> outputs() const {
    return {out(scores, static_cast<double>(scores.extent(1))), out(weights), out(ids)};
  }
};

// Sigmoid, selection bias, 4 of 8 groups: the gate of DeepSeek-V3.
struct balanced_gate_case : gate_case {
  static constexpr const char* op = "balanced_gate";
  ds::tensor<float, ds::host, ds::dyn> bias;

  explicit balanced_gate_case(const routing_size& s)
      : gate_case(s),
        bias(filled<ds::tensor<float, ds::host, ds::dyn>>({s.experts}, 2, {-0.1F, 0.1F})) {}
  template <class B>
  void run(const B& b) {
    ds::ops::gate(b, scores, bias, ds::gate_outputs{weights, ids},
                  {.score = ds::gate_score::sigmoid,
                   .norm = ds::renormalize::yes,
                   .scale = 2.5,
                   .groups = 8,
                   .top_groups = 4,
                   .group = ds::group_score::best_two});
  }
};

struct plan_case {
  static constexpr const char* op = "expert_plan";
  routing_size s;
  integer_matrix ids, slot;
  integers offsets, source;

  explicit plan_case(const routing_size& size)
      : s(size),
        ids({s.tokens, s.active}),
        slot({s.tokens, s.active}),
        offsets({s.experts + 1}),
        source({s.tokens * s.active}) {
    matrix scores = filled<matrix>({s.tokens, s.experts}, 1), weights({s.tokens, s.active});
    ds::ops::gate(ds::reference(), scores, ds::none{}, ds::gate_outputs{weights, ids});
  }
  template <class B>
  void run(const B& b) {
    ds::ops::expert_plan(b, ids, s.experts, ds::expert_plan_views{offsets, source, slot});
  }
  work cost() const { return {0, 12.0 * static_cast<double>(ids.size()), 0, arithmetic::none}; }
  std::vector<output> outputs() const { return {out(offsets), out(source), out(slot)}; }
};

// x [tokens, dim], sorted [rows, dim]
struct routed_data : plan_case {
  matrix x, sorted, weights;

  explicit routed_data(const routing_size& size)
      : plan_case(size),
        x(filled<matrix>({s.tokens, s.dim}, 2)),
        sorted(filled<matrix>({s.tokens * s.active, s.dim}, 3)),
        weights(filled<matrix>({s.tokens, s.active}, 4, {0, 1})) {
    plan_case::run(ds::reference());
  }
  work moved(double flops, double times_sorted, double times_x) const {
    const double elements = static_cast<double>(sorted.size());
    return {flops * elements,
            4 * (times_sorted * elements + times_x * static_cast<double>(x.size()))};
  }
};

struct permute_case : routed_data {
  static constexpr const char* op = "permute";
  using routed_data::routed_data;
  template <class B>
  void run(const B& b) {
    ds::ops::permute(b, x, source, s.active, sorted);
  }
  work cost() const { return moved(0, 1, 1); }
  std::vector<output> outputs() const { return {out(sorted)}; }
};

struct permute_backward_case : routed_data {
  static constexpr const char* op = "permute_backward";
  using routed_data::routed_data;
  template <class B>
  void run(const B& b) {
    ds::ops::permute_backward(b, sorted, slot, x);
  }
  work cost() const { return moved(1, 1, 1); }
  std::vector<output> outputs() const { return {out(x)}; }
};

struct combine_case : routed_data {
  static constexpr const char* op = "combine";
  using routed_data::routed_data;
  template <class B>
  void run(const B& b) {
    ds::ops::combine(b, sorted, ds::combine_by{weights, slot}, x);
  }
  work cost() const { return moved(2, 1, 1); }
  std::vector<output> outputs() const { return {out(x)}; }
};

struct combine_backward_case : routed_data {
  static constexpr const char* op = "combine_backward";
  matrix dsorted, dweights;

  explicit combine_backward_case(const routing_size& size)
      : routed_data(size), dsorted({s.tokens * s.active, s.dim}), dweights({s.tokens, s.active}) {}
  template <class B>
  void run(const B& b) {
    ds::ops::combine_backward(b, ds::combine_inputs{sorted, weights, slot}, x,
                              ds::combine_gradients{dsorted, dweights});
  }
  work cost() const { return moved(3, 2, 1); }
  std::vector<output> outputs() const {
    return {out(dsorted), out(dweights, static_cast<double>(s.dim))};
  }
};

}  // namespace

void add_cases() {
  add_both<gate_case>(routing.name, routing);
  add_both<balanced_gate_case>(many_experts.name, many_experts);
  add_reference<plan_case>(routing.name, routing);
  add_cpu<plan_case>("loops", routing.name, routing);
  add_both<permute_case>(routing.name, routing);
  add_both<permute_backward_case>(routing.name, routing);
  add_both<combine_case>(routing.name, routing);
  add_both<combine_backward_case>(routing.name, routing);
}

}  // namespace bench
