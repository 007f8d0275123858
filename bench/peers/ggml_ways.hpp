// SPDX-License-Identifier: Apache-2.0
// What ggml and the ggml of ik_llama.cpp have in common: graphs of one node or a few, built once
// and computed at each call, with the weights' pointer moved to the next copy before it. A file of
// one of the two includes its ggml.h before this and gives `Flavour`, what differs:
//   graph_runner                                      plans a graph for some threads and computes
//   it stored_linear(element), stored_experts(element)   how weights of a row may be stored
//   quantize(...)                                     floats to a type
//   hidden(...), weighted_sum(...), norm(...), top_k(...)   nodes that one of them has fused
#pragma once

#include "module.hpp"

#include <cstring>
#include <map>

namespace peers {

// Weights of one kind, `copies` of them; those for experts of two types where the rows of w2 are no
// multiple of a type's block.
struct stored {
  const char* name;
  ggml_type type;
  ggml_type down = GGML_TYPE_COUNT;  // of w2; COUNT: the same
  bool repacked = false;             // by the library, in a buffer of its own
};

// A context whose tensors' data is its own, but for those that are made in `without_data`.
class graph {
 public:
  explicit graph(double bytes) {
    ggml_init_params how{};
    how.mem_size = static_cast<std::size_t>(bytes) + (std::size_t{16} << 20);
    context_ = ggml_init(how);
    graph_ = ggml_new_graph(context_);
  }
  ~graph() { ggml_free(context_); }
  graph(const graph&) = delete;
  graph& operator=(const graph&) = delete;

  ggml_context* context() const { return context_; }
  ggml_cgraph* nodes() const { return graph_; }

  ggml_tensor* tensor(ggml_type type, index_t a, index_t b = 1, index_t c = 1) {
    return ggml_new_tensor_3d(context_, type, a, b, c);
  }
  ggml_tensor* floats(const float* from, index_t a, index_t b = 1, index_t c = 1) {
    ggml_tensor* const t = tensor(GGML_TYPE_F32, a, b, c);
    std::memcpy(t->data, from, ggml_nbytes(t));
    return t;
  }
  // Its data is set later.
  ggml_tensor* without_data(ggml_type type, index_t a, index_t b, index_t c = 1) {
    ggml_set_no_alloc(context_, true);
    ggml_tensor* const t = tensor(type, a, b, c);
    ggml_set_no_alloc(context_, false);
    return t;
  }

 private:
  ggml_context* context_;
  ggml_cgraph* graph_;
};

template <class Flavour>
std::vector<char> quantized(ggml_type type, const float* from, index_t rows, index_t columns) {
  std::vector<char> to(ggml_row_size(type, columns) * static_cast<std::size_t>(rows));
  Flavour::quantize(type, from, to.data(), rows, columns);
  return to;
}

// Copies of weights in plain memory, as all types have them that quantizing already puts in order.
class plain_weights {
 public:
  explicit plain_weights(bool) {}
  void add(ggml_tensor*, std::vector<char> data) { copies_.push_back(std::move(data)); }
  void place(ggml_tensor* w, index_t call) {
    w->data = copies_[static_cast<std::size_t>(call) % copies_.size()].data();
  }
  index_t count() const { return static_cast<index_t>(copies_.size()); }

 private:
  std::vector<std::vector<char>> copies_;
};

template <class Flavour>
struct ggml_linear {
  linear_task t;
  graph g;
  ggml_tensor *w, *y;
  typename Flavour::weights weights;
  typename Flavour::graph_runner runner;

  ggml_linear(const linear_task& task, int threads, const stored& how)
      : t(task),
        g(4.0 * static_cast<double>(t.m * (t.n + t.k))),
        w(g.without_data(how.type, t.k, t.n)),
        weights(how.repacked) {
    const std::vector<char> one = quantized<Flavour>(how.type, t.w, t.n, t.k);
    for (index_t i = 0; i < t.copies(); ++i) weights.add(w, one);
    y = ggml_mul_mat(g.context(), w, g.floats(t.x, t.k, t.m));
    runner.plan(g, y, threads);
  }
  void run(index_t call) {
    weights.place(w, call);
    runner.compute();
  }
  const float* result() { return static_cast<const float*>(y->data); }
};

template <class Flavour>
struct ggml_attention {
  attention_task t;
  graph g;
  ggml_tensor* o;
  typename Flavour::graph_runner runner;

  ggml_attention(const attention_task& task, int threads, ggml_type kept)
      : t(task), g(24.0 * static_cast<double>(t.tokens * (t.heads * t.dim + t.tokens))) {
    ggml_tensor* const q = by_head(t.q, GGML_TYPE_F32);
    ggml_tensor* const k = by_head(t.k, kept);
    ggml_tensor* const v = by_head(t.v, kept);
    o = ggml_flash_attn_ext(g.context(), q, k, v, mask(), 1 / std::sqrt(static_cast<float>(t.dim)),
                            0, 0);
    runner.plan(g, o, threads);
  }
  // [dim, tokens, heads]: the rows of a head one after another.
  ggml_tensor* by_head(const float* from, ggml_type type) {
    ggml_tensor* const to = g.tensor(type, t.dim, t.tokens, t.heads);
    std::vector<float> rows(static_cast<std::size_t>(t.tokens * t.heads * t.dim));
    for (index_t h = 0; h < t.heads; ++h) {
      for (index_t i = 0; i < t.tokens; ++i) {
        std::copy_n(from + (i * t.heads + h) * t.dim, t.dim,
                    rows.data() + (h * t.tokens + i) * t.dim);
      }
    }
    const std::vector<char> all = quantized<Flavour>(type, rows.data(), t.heads * t.tokens, t.dim);
    std::memcpy(to->data, all.data(), all.size());
    return to;
  }
  ggml_tensor* mask() {
    ggml_tensor* const m = g.tensor(GGML_TYPE_F16, t.tokens, t.tokens);
    auto* const to = static_cast<ggml_fp16_t*>(m->data);
    const ggml_fp16_t seen = ggml_fp32_to_fp16(0), hidden = ggml_fp32_to_fp16(-INFINITY);
    for (index_t i = 0; i < t.tokens; ++i) {
      const index_t keys = t.causal ? i + 1 : t.tokens;
      for (index_t j = 0; j < t.tokens; ++j) to[i * t.tokens + j] = j < keys ? seen : hidden;
    }
    return m;
  }
  void run(index_t) { runner.compute(); }
  const float* result() { return static_cast<const float*>(o->data); }
};

// A cache as llama.cpp keeps it: the heads of a token side by side.
template <class Flavour>
struct ggml_decode {
  decode_task t;
  graph g;
  plain_weights keys, values;
  ggml_tensor *k, *v, *o;
  typename Flavour::graph_runner runner;

  ggml_decode(const decode_task& task, int threads, ggml_type kept)
      : t(task), g(64.0 * static_cast<double>(t.heads * t.keys)), keys(false), values(false) {
    k = cache(kept, t.dim);
    v = cache(kept, t.value_dim);
    const std::vector<char> one = quantized<Flavour>(kept, t.k, t.keys * t.kv_heads, t.dim);
    for (index_t i = 0; i < t.copies; ++i) keys.add(k, one);
    if (!t.latent) {
      const std::vector<char> two = quantized<Flavour>(kept, t.v, t.keys * t.kv_heads, t.value_dim);
      for (index_t i = 0; i < t.copies; ++i) values.add(v, two);
    }
    ggml_tensor* const q = g.floats(t.q, t.dim, 1, t.heads);
    o = ggml_flash_attn_ext(g.context(), q, k, v, all_seen(),
                            1 / std::sqrt(static_cast<float>(t.dim)), 0, 0);
    run_at(0);
    runner.plan(g, o, threads);
  }
  // [width, keys, heads]
  ggml_tensor* cache(ggml_type kept, index_t width) {
    ggml_tensor* const c = g.without_data(kept, width, t.keys, t.kv_heads);
    c->nb[2] = ggml_row_size(kept, t.latent ? t.dim : width);
    c->nb[1] = static_cast<std::size_t>(t.kv_heads) * c->nb[2];
    c->nb[3] = static_cast<std::size_t>(t.keys) * c->nb[1];
    return c;
  }
  // The faster kernels ask for a mask, of whole blocks of rows.
  ggml_tensor* all_seen() {
    ggml_tensor* const m = g.tensor(GGML_TYPE_F16, t.keys, 64);
    std::fill_n(static_cast<ggml_fp16_t*>(m->data), t.keys * 64, ggml_fp32_to_fp16(0));
    return m;
  }
  void run_at(index_t call) {
    keys.place(k, call);
    t.latent ? keys.place(v, call) : values.place(v, call);
  }
  void run(index_t call) {
    run_at(call);
    runner.compute();
  }
  const float* result() { return static_cast<const float*>(o->data); }
};

template <class Flavour>
struct ggml_experts {
  using part = experts_task::part;
  experts_task t;
  graph g;
  ggml_tensor *ids, *y;
  typename Flavour::weights weights;
  typename Flavour::graph_runner runner;

  ggml_experts(const experts_task& task, int threads, const stored& how)
      : t(task),
        g(4.0 * static_cast<double>(t.tokens * t.active * 4 * (t.hidden + 2 * t.dim))),
        ids(g.without_data(GGML_TYPE_I32, t.active, t.tokens)),
        weights(how.repacked) {
    ggml_tensor* const gate = matrices(part::w1, how.type);
    ggml_tensor* const up = matrices(part::w3, how.type);
    ggml_tensor* const down = matrices(part::w2, how.down == GGML_TYPE_COUNT ? how.type : how.down);
    ggml_tensor* const x = g.floats(t.x, t.dim, 1, t.tokens);
    ggml_tensor* const h = Flavour::hidden(g.context(), gate, up, x, ids);
    ggml_tensor* const rows = ggml_mul_mat_id(g.context(), down, h, ids);
    ggml_tensor* const by = g.floats(t.weights, 1, t.active, t.tokens);
    y = Flavour::weighted_sum(g.context(), rows, by);
    runner.plan(g, y, threads);
  }
  ggml_tensor* matrices(part p, ggml_type type) {
    ggml_tensor* const w = g.without_data(type, t.in(p), t.out(p), t.experts);
    const std::size_t size = ggml_row_size(type, t.in(p)) * static_cast<std::size_t>(t.out(p));
    std::vector<char> all;
    std::map<const float*, std::size_t> made;  // where each different matrix stands
    for (index_t e = 0; e < t.experts; ++e) {
      const float* const from = t.matrix(p, e);
      const auto [at, is_new] = made.try_emplace(from, all.size());
      all.resize(all.size() + size);
      char* const to = all.data() + all.size() - size;
      if (is_new) {
        Flavour::quantize(type, from, to, t.out(p), t.in(p));
      } else {
        std::copy_n(all.data() + at->second, size, to);
      }
    }
    weights.add(w, std::move(all));
    weights.place(w, weights.count() - 1);
    return w;
  }
  void run(index_t call) {
    ids->data = const_cast<std::int32_t*>(t.routing(call));
    runner.compute();
  }
  const float* result() { return static_cast<const float*>(y->data); }
};

template <class Flavour>
struct ggml_rows {
  graph g;
  ggml_tensor* y;
  typename Flavour::graph_runner runner;

  ggml_rows(const rows_task& t, int threads) : g(20.0 * static_cast<double>(t.rows * t.dim)) {
    ggml_tensor* const x = g.floats(t.x, t.dim, t.rows);
    y = t.op == rows_task::softmax
            ? ggml_soft_max(g.context(), x)
            : Flavour::norm(g.context(), x, g.floats(t.weight, t.dim), rms_norm_eps);
    runner.plan(g, y, threads);
  }
  void run(index_t) { runner.compute(); }
  const float* result() { return static_cast<const float*>(y->data); }
};

template <class Flavour>
struct ggml_gate {
  graph g;
  ggml_tensor* chosen;
  typename Flavour::graph_runner runner;

  ggml_gate(const gate_task& t, int threads) : g(40.0 * static_cast<double>(t.tokens * t.experts)) {
    ggml_tensor* const s = ggml_soft_max(g.context(), g.floats(t.logits, t.experts, t.tokens));
    ggml_tensor* const ids = Flavour::top_k(g.context(), s, static_cast<int>(t.active));
    chosen =
        ggml_get_rows(g.context(), ggml_reshape_3d(g.context(), s, 1, t.experts, t.tokens), ids);
    runner.plan(g, chosen, threads);
  }
  void run(index_t) { runner.compute(); }
  const float* result() { return static_cast<const float*>(chosen->data); }
};

template <class Flavour>
class ggml_library : public library {
 public:
  ways offer(const linear_task& t, int n) override {
    ways all;
    for (const stored& how : Flavour::stored_linear(t.type)) {
      all.push_back(way_of<ggml_linear<Flavour>>(how.name, t, n, how));
    }
    return all;
  }
  // Keys and values in f16 count for a float row as well: they have no faster form for it.
  ways offer(const attention_task& t, int n) override {
    using attention = ggml_attention<Flavour>;
    ways all{way_of<attention>("flash, f16 keys", t, n, GGML_TYPE_F16)};
    all[0].allowed = 0.01;
    if (t.type == element::f32 && Flavour::float_keys) {
      all.push_back(way_of<attention>("flash, f32 keys", t, n, GGML_TYPE_F32));
    }
    if (t.type == element::bf16) {
      all.push_back(way_of<attention>("flash, bf16 keys", t, n, GGML_TYPE_BF16));
    }
    return all;
  }
  ways offer(const decode_task& t, int n) override {
    constexpr double of_f16 = 0.02;  // sums in f16
    ggml_type kept = GGML_TYPE_F16;
    if (t.type == element::f32) kept = GGML_TYPE_F32;
    if (t.type == element::bf16) kept = GGML_TYPE_BF16;
    ways all;
    if (t.type != element::f32 || Flavour::float_keys) {
      all.push_back(way_of<ggml_decode<Flavour>>("flash", t, n, kept));
      if (kept == GGML_TYPE_F16) all.back().allowed = of_f16;
    }
    if (t.type == element::bf16) {
      all.push_back(way_of<ggml_decode<Flavour>>("flash, f16 keys", t, n, GGML_TYPE_F16));
      all.back().allowed = of_f16;
    }
    return all;
  }
  ways offer(const experts_task& t, int n) override {
    ways all;
    for (const stored& how : Flavour::stored_experts(t.type)) {
      all.push_back(way_of<ggml_experts<Flavour>>(how.name, t, n, how));
    }
    return all;
  }
  ways offer(const rows_task& t, int n) override {
    return {way_of<ggml_rows<Flavour>>("graph", t, n)};
  }
  ways offer(const gate_task& t, int n) override {
    return {way_of<ggml_gate<Flavour>>("softmax, top_k", t, n)};
  }
};

// rows [dim, active, tokens] times by [1, active, tokens], added over the active.
inline ggml_tensor* sum_over_active(ggml_context* c, ggml_tensor* rows, ggml_tensor* by) {
  ggml_tensor* const weighted = ggml_mul(c, rows, by);
  ggml_tensor* sum = nullptr;
  for (int64_t a = 0; a < weighted->ne[1]; ++a) {
    ggml_tensor* const one =
        ggml_view_2d(c, weighted, weighted->ne[0], weighted->ne[2], weighted->nb[2],
                     static_cast<std::size_t>(a) * weighted->nb[1]);
    sum = sum == nullptr ? one : ggml_add(c, sum, one);
  }
  return sum;
}

}  // namespace peers
