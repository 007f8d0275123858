// SPDX-License-Identifier: Apache-2.0
// Products of ours: of a linear layer with weights in the order that cpu likes, and of training.
#include "deepseek/ops/gemm.hpp"
#include "deepseek/ops/int4_int8_gemm.hpp"
#include "deepseek/ops/quant_gemm.hpp"
#include "deepseek/ops/weight_gemm.hpp"

#include "deepseek/backend/cpu/gemm.hpp"
#include "deepseek/backend/cpu/int4_int8_gemm.hpp"
#include "deepseek/backend/cpu/quant_gemm.hpp"
#include "deepseek/backend/cpu/weight_gemm.hpp"

#include "ours_data.hpp"

namespace peers {
namespace {

template <element E, index_t N, index_t K>
struct linear_case {
  using format = typename stored_as<E>::format;
  using T = typename stored_as<E>::activations;
  using weight = typename format::template weight<T, ds::host, N, K>;
  ds::cpu cpu;
  matrix_of<T> x, y;
  std::vector<weight> weights;
  std::vector<float> room;

  linear_case(const linear_task& t, int threads)
      : cpu({.threads = threads}),
        x(copied<matrix_of<T>>({t.m, t.k}, t.x)),
        y({t.m, t.n}),
        weights(1) {
    const ds::view<const float, ds::host, ds::dyn, ds::dyn> plain(t.w, {t.n, t.k});
    ds::make_expert_weight(format{}, plain, {}, weights[0], 0);
    const auto copies = static_cast<std::size_t>(t.copies());
    weights.reserve(copies);
    while (weights.size() < copies) weights.push_back(weight(weights[0]));
  }
  void run(index_t call) {
    const auto& w = weights[static_cast<std::size_t>(call) % weights.size()];
    if constexpr (E == element::int8) {
      ds::ops::quant_gemm(cpu, x, w.operand(), y);
    } else if constexpr (E == element::int4) {
      ds::ops::int4_int8_gemm(cpu, x, w.operand(), y);
    } else {
      ds::ops::weight_gemm(cpu, x, w.operand(), y);
    }
  }
  const float* result() { return as_floats(y, room); }
};

template <element E, index_t N, index_t K>
void add_if_size(const linear_task& t, int threads, ways& found) {
  if (t.n == N && t.k == K) {
    found.push_back(way_of("packed", std::make_shared<linear_case<E, N, K>>(t, threads)));
  }
}

struct product_case {
  product_task t;
  ds::cpu cpu;
  matrix_of<float> c;

  product_case(const product_task& task, int threads)
      : t(task), cpu({.threads = threads}), c({t.m, t.n}) {}
  static ds::view<const float, ds::host, ds::dyn, ds::dyn> seen(const float* p, index_t rows,
                                                                index_t columns, bool turned) {
    if (turned) return {p, {rows, columns}, {1, rows}};
    return {p, {rows, columns}, {columns, 1}};
  }
  void run(index_t) {
    ds::ops::gemm(cpu, seen(t.a, t.m, t.k, t.a_turned), seen(t.b, t.k, t.n, t.b_turned), c);
  }
  const float* result() { return c.data(); }
};

}  // namespace

// The sizes of weights are part of their type; these are the sizes of rows.cpp.
ways ours(const linear_task& t, int threads) {
  return with_element(t.type, [&](auto e) {
    ways found;
    add_if_size<e(), 2048, 2048>(t, threads, found);
    add_if_size<e(), 5632, 2048>(t, threads, found);
    add_if_size<e(), 4096, 4096>(t, threads, found);
    add_if_size<e(), 1536, 7168>(t, threads, found);
    return found;
  });
}

ways ours(const product_task& t, int threads) {
  return {way_of("gemm", std::make_shared<product_case>(t, threads))};
}

}  // namespace peers
