// SPDX-License-Identifier: Apache-2.0
// Attention, row-wise ops and the gate of ours.
#include "deepseek/ops/attention.hpp"
#include "deepseek/ops/gate.hpp"
#include "deepseek/ops/rms_norm.hpp"
#include "deepseek/ops/softmax.hpp"
#include "deepseek/pattern/band.hpp"

#include "deepseek/backend/cpu/attention.hpp"
#include "deepseek/backend/cpu/gate.hpp"
#include "deepseek/backend/cpu/rms_norm.hpp"
#include "deepseek/backend/cpu/softmax.hpp"

#include "deepseek/config.hpp"

#include "ours_data.hpp"

namespace peers {
namespace {

template <class T, class Pattern>
struct attention_case {
  ds::cpu cpu;
  cube_of<T> q, k, v, o;
  std::vector<float> room;

  attention_case(const attention_task& t, int threads)
      : cpu({.threads = threads}),
        q(copied<cube_of<T>>({t.tokens, t.heads, t.dim}, t.q)),
        k(copied<cube_of<T>>({t.tokens, t.heads, t.dim}, t.k)),
        v(copied<cube_of<T>>({t.tokens, t.heads, t.dim}, t.v)),
        o({t.tokens, t.heads, t.dim}) {}
  void run(index_t) {
    ds::ops::attention(cpu, ds::attention_inputs{q, k, v}, ds::attention_outputs{o.view()},
                       ds::attention_spec<Pattern>{});
  }
  const float* result() { return as_floats(o, room); }
};

template <class T>
way attention_way(const attention_task& t, int threads) {
  if (t.causal) {
    return way_of("flash", std::make_shared<attention_case<T, ds::causal>>(t, threads));
  }
  return way_of("flash", std::make_shared<attention_case<T, ds::everyone>>(t, threads));
}

struct rows_case {
  rows_task t;
  ds::cpu cpu;
  ds::view<const float, ds::host, ds::dyn, ds::dyn> x;  // the one that the others read, too
  matrix_of<float> y;
  ds::tensor<float, ds::host, ds::dyn> weight;

  rows_case(const rows_task& task, int threads)
      : t(task),
        cpu({.threads = threads}),
        x(t.x, {t.rows, t.dim}),
        y({t.rows, t.dim}),
        weight(copied<decltype(weight)>({t.dim}, t.weight)) {}
  void run(index_t) {
    if (t.op == rows_task::softmax) {
      ds::ops::softmax(cpu, x, y);
    } else {
      ds::ops::rms_norm(cpu, x, weight, y, double{rms_norm_eps});
    }
  }
  const float* result() { return y.data(); }
};

// The op turns logits into scores in place: they are brought back before each call.
struct gate_case {
  gate_task t;
  ds::cpu cpu;
  matrix_of<float> scores, weights;
  matrix_of<std::int32_t> ids;

  gate_case(const gate_task& task, int threads)
      : t(task),
        cpu({.threads = threads}),
        scores({t.tokens, t.experts}),
        weights({t.tokens, t.active}),
        ids({t.tokens, t.active}) {}
  void before(index_t) { std::copy_n(t.logits, scores.size(), scores.data()); }
  void run(index_t) { ds::ops::gate(cpu, scores, ds::none{}, ds::gate_outputs{weights, ids}); }
  const float* result() { return weights.data(); }
};

}  // namespace

ways ours(const attention_task& t, int threads) {
  if (t.type == element::f32) return {attention_way<float>(t, threads)};
  if (t.type == element::bf16) return {attention_way<ds::bf16>(t, threads)};
  return {};
}

ways ours(const rows_task& t, int threads) {
  return {way_of("simd", std::make_shared<rows_case>(t, threads))};
}

ways ours(const gate_task& t, int threads) {
  return {way_of("simd", std::make_shared<gate_case>(t, threads))};
}

std::string our_library::version() const {
  return std::to_string(DEEPSEEK_VERSION_MAJOR) + "." + std::to_string(DEEPSEEK_VERSION_MINOR) +
         "." + std::to_string(DEEPSEEK_VERSION_PATCH);
}

}  // namespace peers
