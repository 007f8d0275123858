// SPDX-License-Identifier: Apache-2.0
// The routed experts of ours: what moe::forward does after its gate, with a stack of swiglu
// experts.
#include "deepseek/layers/mlp.hpp"
#include "deepseek/layers/quantize.hpp"
#include "deepseek/layers/weight_formats.hpp"
#include "deepseek/ops/combine.hpp"
#include "deepseek/ops/expert_plan.hpp"
#include "deepseek/ops/permute.hpp"

#include "deepseek/layers/expert_bank.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "ours_data.hpp"

namespace peers {
namespace {

constexpr index_t experts = 64, dim = 2048, hidden = 1408, active = 6;

template <element E>
struct experts_case {
  using format = typename stored_as<E>::format;
  using T = typename stored_as<E>::activations;
  using layer = ds::reformatted<ds::swiglu<dim, hidden>, format>;
  using bank = ds::expert_bank<experts, layer>;
  using weights_of = typename bank::template parameters<T, ds::host>;
  experts_task t;
  ds::cpu cpu;
  matrix_of<T> x, xs, ys, y;
  matrix_of<float> weights;
  matrix_of<std::int32_t> slot;
  ds::tensor<std::int32_t, ds::host, ds::dyn> offsets, source;
  std::unique_ptr<weights_of> parameters = std::make_unique<weights_of>();
  std::vector<float> room;

  experts_case(const experts_task& task, int threads)
      : t(task),
        cpu({.threads = threads}),
        x(copied<matrix_of<T>>({t.tokens, dim}, t.x)),
        xs({t.tokens * active, dim}),
        ys({t.tokens * active, dim}),
        y({t.tokens, dim}),
        weights(copied<matrix_of<float>>({t.tokens, active}, t.weights)),
        slot({t.tokens, active}),
        offsets({experts + 1}),
        source({t.tokens * active}) {
    for (index_t e = 0; e < experts; ++e) {
      store(experts_task::w1, e, parameters->w1.weight);
      store(experts_task::w3, e, parameters->w3.weight);
      store(experts_task::w2, e, parameters->w2.weight);
    }
  }
  template <class W>
  void store(experts_task::part p, index_t e, W& to) {
    const ds::view<const float, ds::host, ds::dyn, ds::dyn> plain(t.matrix(p, e),
                                                                  {t.out(p), t.in(p)});
    ds::make_expert_weight(format{}, plain, {}, to, e);
  }
  void run(index_t call) {
    const ds::view<const std::int32_t, ds::host, ds::dyn, ds::dyn> ids(t.routing(call),
                                                                       {t.tokens, active});
    ds::ops::expert_plan(cpu, ids, experts, ds::expert_plan_views{offsets, source, slot});
    ds::ops::permute(cpu, x, source, active, xs);
    const ds::scope freed(cpu.workspace());
    ds::keep<ds::nothing, bank, T, ds::host> nothing_kept;
    struct {
      ds::view<const std::int32_t, ds::host, ds::dyn> offsets;
    } const rows{std::as_const(offsets).view()};
    const ds::call<ds::cpu> here{cpu, {}, cpu.workspace(), cpu.workspace()};
    bank::run(here, rows, *parameters, std::as_const(xs).view(), ys.view(), nothing_kept);
    ds::ops::combine(cpu, ys, ds::combine_by{weights, slot}, y);
  }
  const float* result() { return as_floats(y, room); }
};

}  // namespace

ways ours(const experts_task& t, int threads) {
  if (t.experts != experts || t.dim != dim || t.hidden != hidden || t.active != active) return {};
  return with_element(t.type, [&](auto e) -> ways {
    return {way_of("experts", std::make_shared<experts_case<e()>>(t, threads))};
  });
}

}  // namespace peers
