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

template <class T>
struct decode_case {
  decode_task t;
  ds::cpu cpu;
  cube_of<T> q, o;
  std::vector<cube_of<T>> k, v;
  std::vector<float> room;

  decode_case(const decode_task& task, int threads)
      : t(task),
        cpu({.threads = threads}),
        q(copied<cube_of<T>>({1, t.heads, t.dim}, t.q)),
        o({1, t.heads, t.value_dim}) {
    for (index_t i = 0; i < t.copies; ++i) {
      k.push_back(copied<cube_of<T>>({t.keys, t.kv_heads, t.dim}, t.k));
      if (!t.latent) v.push_back(copied<cube_of<T>>({t.keys, t.kv_heads, t.value_dim}, t.v));
    }
  }
  void run(index_t call) {
    const auto copy = static_cast<std::size_t>(call % t.copies);
    const auto keys = ds::as_const(k[copy].view());
    auto values = keys;
    if (t.latent) {
      values = {keys.data(),
                {t.keys, t.kv_heads, t.value_dim},
                {keys.stride(0), keys.stride(1), keys.stride(2)}};
    } else {
      values = ds::as_const(v[copy].view());
    }
    ds::ops::attention(cpu, ds::attention_inputs{q, keys, values}, ds::attention_outputs{o.view()},
                       ds::attention_spec<ds::causal>{});
  }
  const float* result() { return as_floats(o, room); }
};

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

ways ours(const decode_task& t, int threads) {
  if (t.type == element::bf16) {
    return {way_of("flash", std::make_shared<decode_case<ds::bf16>>(t, threads))};
  }
  if (t.type == element::f16) {
    return {way_of("flash", std::make_shared<decode_case<ds::f16>>(t, threads))};
  }
  return {way_of("flash", std::make_shared<decode_case<float>>(t, threads))};
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
