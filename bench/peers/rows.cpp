// SPDX-License-Identifier: Apache-2.0
#include "rows.hpp"

#include "data.hpp"
#include "limits.hpp"
#include "oracle.hpp"

#include <algorithm>
#include <random>
#include <set>
#include <sstream>

namespace peers {
namespace {

using bench::arithmetic;
using bench::traffic;
using bench::work;

const std::vector<int> one_and_two{1, 2};

// Data and the task that points to it.
template <class Task, class Data>
class row_of : public loaded_row {
 public:
  row_of(Data data, const std::function<Task(Data&)>& task)
      : data_(std::move(data)), task_(task(data_)) {}
  ways from(library& lib, int threads) override { return lib.offer(task_, threads); }
  double error(const float* result) const override { return error_of(task_, result); }
  double allowed() const override { return peers::allowed(task_); }

 private:
  Data data_;
  Task task_;
};

template <class Task, class Data>
std::unique_ptr<loaded_row> loaded(Data data, const std::function<Task(Data&)>& task) {
  return std::make_unique<row_of<Task, Data>>(std::move(data), task);
}

const char* name_of(element e) {
  constexpr const char* names[] = {"f32", "bf16", "f16", "int8", "int4"};
  return names[static_cast<int>(e)];
}

// int4 is bytes by the time it is multiplied; f16 has no arithmetic of its own on these processors.
arithmetic arithmetic_of(element e) {
  if (e == element::bf16) return arithmetic::bf16;
  return e == element::int8 || e == element::int4 ? arithmetic::int8 : arithmetic::f32;
}

// The parts one after another; numbers as text.
template <class... Parts>
std::string joined(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

// Ways take turns: what the others read meanwhile pushes a way's copies out of larger caches.
double pool_bytes() {
  return double{1 << 28};
}

double product_of(index_t a, index_t b, index_t c = 1) {
  return static_cast<double>(a) * static_cast<double>(b) * static_cast<double>(c);
}

struct matrix_size {
  index_t n, k;
  bool on_two_threads;
};
constexpr matrix_size matrix_sizes[] = {
    {2048, 2048, false}, {5632, 2048, true}, {4096, 4096, true}, {1536, 7168, false}};
constexpr index_t row_counts[] = {1, 8, 32, 128, 512};
constexpr element elements[] = {element::f32, element::bf16, element::f16, element::int8,
                                element::int4};

std::string size_name(index_t m, index_t n, index_t k) {
  return joined("m", m, "_n", n, "_k", k);
}

struct two_arrays {
  floats a, b;
};

row linear_row(element type, index_t m, const matrix_size& s) {
  const double weights = bytes_of(type) * product_of(s.n, s.k), pool = pool_bytes();
  row r{joined("gemm_", name_of(type), "/", size_name(m, s.n, s.k)),
        s.on_two_threads && m != 128 ? one_and_two : std::vector<int>{1},
        work{2 * product_of(m, s.n, s.k), weights, pool, arithmetic_of(type), traffic::reads},
        {}};
  r.load = [=] {
    return loaded<linear_task, two_arrays>(
        {made_for(type, m * s.k, 1), made_for(type, s.n * s.k, 2)}, [=](two_arrays& d) {
          return linear_task{type, m, s.n, s.k, d.a.data(), d.b.data(), pool};
        });
  };
  return r;
}

// The three products of a linear layer in training: y = x w^T, dx = dy w, dw = dy^T x.
row training_row(const char* which, const product_task& s) {
  const double bytes = 4 * (product_of(s.m, s.k) + product_of(s.k, s.n) + product_of(s.m, s.n));
  row r{joined("training_f32/", which, "_", size_name(s.m, s.n, s.k)),
        one_and_two,
        work{2 * product_of(s.m, s.n, s.k), bytes, 0, arithmetic::f32, traffic::reads},
        {}};
  r.load = [=] {
    return loaded<product_task, two_arrays>({made(s.m * s.k, 1), made(s.k * s.n, 2)},
                                            [=](two_arrays& d) {
                                              product_task t = s;
                                              t.a = d.a.data(), t.b = d.b.data();
                                              return t;
                                            });
  };
  return r;
}

struct three_arrays {
  floats q, k, v;
};

row attention_row(element type, index_t dim, bool causal) {
  constexpr index_t tokens = 2048, heads = 16;
  const double pairs = causal ? product_of(tokens, tokens + 1) / 2 : product_of(tokens, tokens);
  row r{joined("attention_", name_of(type), causal ? "/causal_d" : "/full_d", dim, "_s", tokens),
        one_and_two,
        work{4 * pairs * product_of(heads, dim), 0, 0, arithmetic_of(type), traffic::reads},
        {}};
  r.load = [=] {
    const index_t size = tokens * heads * dim;
    return loaded<attention_task, three_arrays>(
        {made_for(type, size, 1, {-2, 2}), made_for(type, size, 2, {-2, 2}),
         made_for(type, size, 3)},
        [=](three_arrays& d) {
          return attention_task{type,   tokens,     heads,      dim,
                                causal, d.q.data(), d.k.data(), d.v.data()};
        });
  };
  return r;
}

// One query against a long cache: heads that share key-value heads, or a latent one of
// DeepSeek-V2's widths.
struct decode_size {
  const char* name;
  index_t heads, kv_heads, dim, value_dim;
  bool latent;
};
constexpr decode_size decode_sizes[] = {{"gqa_h32_kv8_d128", 32, 8, 128, 128, false},
                                        {"mla_h16_d576", 16, 1, 576, 512, true}};

row decode_row(element type, const decode_size& s, index_t keys) {
  const index_t copied = s.dim + (s.latent ? 0 : s.value_dim);
  const double bytes = bytes_of(type) * product_of(keys, s.kv_heads, copied), pool = pool_bytes();
  row r{joined("decode_", name_of(type), "/", s.name, "_s", keys),
        one_and_two,
        work{2 * product_of(keys, s.heads, s.dim + s.value_dim), bytes, pool, arithmetic_of(type),
             traffic::reads},
        {}};
  r.load = [=] {
    decode_task t{type,    keys,        s.heads,  s.kv_heads,
                  s.dim,   s.value_dim, s.latent, static_cast<index_t>(pool / bytes) + 1,
                  nullptr, nullptr,     nullptr};
    return loaded<decode_task, three_arrays>(
        {made_for(type, s.heads * s.dim, 1, {-2, 2}), made_for(type, t.k_size(), 2, {-2, 2}),
         made_for(type, t.v_size(), 3)},
        [t](three_arrays& d) {
          decode_task with = t;
          with.q = d.q.data(), with.k = d.k.data(), with.v = d.v.data();
          return with;
        });
  };
  return r;
}

// The routed part of a layer of DeepSeek-V2-Lite.
constexpr index_t experts = 64, active = 6, model_dim = 2048, hidden = 1408;

std::vector<std::int32_t> random_routings(index_t routings, index_t tokens) {
  std::mt19937 draw(7);
  std::vector<std::int32_t> ids;
  for (index_t t = 0; t < routings * tokens; ++t) {
    std::vector<std::int32_t> all(experts);
    for (std::size_t e = 0; e < all.size(); ++e) all[e] = static_cast<std::int32_t>(e);
    std::shuffle(all.begin(), all.end(), draw);
    ids.insert(ids.end(), all.begin(), all.begin() + active);
  }
  return ids;
}

// Of one call, the mean over the routings.
double experts_met(const std::vector<std::int32_t>& ids, index_t routings) {
  const auto each = static_cast<std::ptrdiff_t>(ids.size()) / routings;
  double met = 0;
  for (index_t i = 0; i < routings; ++i) {
    met += static_cast<double>(
        std::set<std::int32_t>(ids.begin() + i * each, ids.begin() + (i + 1) * each).size());
  }
  return met / static_cast<double>(routings);
}

struct experts_data {
  floats x, weights;
  std::vector<std::int32_t> ids;
  std::shared_ptr<expert_matrices> matrices;
};

row experts_row(element type, index_t tokens) {
  const index_t routings = tokens == 1 ? 16 : 4;
  const auto ids = random_routings(routings, tokens);
  const double of_one = 3 * bytes_of(type) * product_of(model_dim, hidden);
  row r{
      joined("experts_", name_of(type), "/t", tokens, "_e64_k6"),
      one_and_two,
      work{6 * product_of(tokens * active, model_dim, hidden), of_one * experts_met(ids, routings),
           of_one * experts, arithmetic_of(type), traffic::reads},
      {}};
  r.load = [=] {
    return loaded<experts_task, experts_data>(
        {made_for(type, tokens * model_dim, 1), made(tokens * active, 2, {0.1F, 0.3F}), ids,
         std::make_shared<expert_matrices>(type, experts, model_dim * hidden)},
        [=](experts_data& d) {
          return experts_task{type,
                              experts,
                              active,
                              model_dim,
                              hidden,
                              tokens,
                              routings,
                              d.x.data(),
                              d.ids.data(),
                              d.weights.data(),
                              [m = d.matrices](experts_task::part p, index_t e) {
                                return static_cast<const float*>(m->at(p, e));
                              },
                              [m = d.matrices](experts_task::part p) { return m->stacked(p); }};
        });
  };
  return r;
}

row row_wise(rows_task::kind op, const char* where, index_t rows, index_t dim) {
  const double elements_here = product_of(rows, dim);
  row r{joined(op == rows_task::softmax ? "softmax/" : "rms_norm/", where, "_", rows, "x", dim),
        one_and_two,
        work{0, 8 * elements_here, 0, arithmetic::none, traffic::updates},
        {}};
  r.load = [=] {
    return loaded<rows_task, two_arrays>({made(rows * dim, 1, {-4, 4}), made(dim, 2, {0.5F, 1.5F})},
                                         [=](two_arrays& d) {
                                           return rows_task{op, rows, dim, d.a.data(), d.b.data()};
                                         });
  };
  return r;
}

row gate_row(index_t of, index_t chosen) {
  constexpr index_t tokens = 512;
  row r{joined("gate/t", tokens, "_e", of, "_k", chosen),
        one_and_two,
        work{0, 4 * product_of(tokens, of), 0, arithmetic::none, traffic::reads},
        {}};
  r.load = [=] {
    return loaded<gate_task, floats>(made(tokens * of, 1, {-2, 2}), [=](floats& d) {
      return gate_task{tokens, of, chosen, d.data()};
    });
  };
  return r;
}

}  // namespace

std::vector<row> all_rows() {
  std::vector<row> rows;
  for (const element type : elements) {
    for (const matrix_size& s : matrix_sizes) {
      for (const index_t m : row_counts) rows.push_back(linear_row(type, m, s));
    }
  }
  rows.push_back(training_row("y", {512, 2048, 2048, false, true, nullptr, nullptr}));
  rows.push_back(training_row("dx", {512, 2048, 2048, false, false, nullptr, nullptr}));
  rows.push_back(training_row("dw", {2048, 2048, 512, true, false, nullptr, nullptr}));
  for (const element type : {element::f32, element::bf16}) {
    for (const index_t dim : {64, 128}) {
      for (const bool causal : {false, true}) rows.push_back(attention_row(type, dim, causal));
    }
  }
  for (const element type : {element::f32, element::bf16, element::f16}) {
    for (const decode_size& s : decode_sizes) rows.push_back(decode_row(type, s, 4096));
  }
  for (const element type : {element::f32, element::bf16, element::int8, element::int4}) {
    for (const index_t tokens : {1, 32, 512}) rows.push_back(experts_row(type, tokens));
  }
  for (const auto op : {rows_task::softmax, rows_task::rms_norm}) {
    rows.push_back(row_wise(op, "memory", 8192, 2048));
    rows.push_back(row_wise(op, "cache", 32, 2048));
  }
  rows.push_back(gate_row(64, 6));
  rows.push_back(gate_row(256, 8));
  return rows;
}

}  // namespace peers
