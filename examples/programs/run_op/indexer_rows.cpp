// SPDX-License-Identifier: Apache-2.0
// run_op: what selects keys for sparse attention: the Hadamard transform, the scores of the
// lightning indexer, their gradient, and the keys chosen. Causal, the last query at the last key.
#include "run_op/op_rows.hpp"

#include "deepseek/pattern/band.hpp"

namespace run_op {
namespace {

struct hadamard {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x");
    auto y = like(x);
    ds::ops::hadamard(b, x, y);
    out.add("out", y);
  }
};

template <class T>
struct indexer_case {
  array<T, 3> q;
  array<T, 2> k, w;
  ds::attention_spec<ds::causal> spec;

  explicit indexer_case(op_case& in)
      : q(in.read<T, 3>("q")), k(in.read<T, 2>("k")), w(in.read<T, 2>("w")) {
    spec.scale = in.number("scale", 1);
    ds::require(spec.scale != 0, error_code::invalid_argument, in.op(),
                ": scale is 0; leave it out for 1");
  }
  auto inputs() const { return ds::indexer_inputs{q, k, w}; }
  template <class B>
  array<ds::accumulate_t<T>, 2> scores(const B& b) const {
    array<ds::accumulate_t<T>, 2> s({q.extent(0), k.extent(0)});
    ds::ops::lightning_indexer(b, inputs(), s, spec);
    return s;
  }
};

struct lightning_indexer {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    out.add("out", indexer_case<T>(in).scores(b));
  }
};

struct lightning_indexer_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const indexer_case<T> c(in);
    const auto dout = in.read<T, 2>("dout");
    auto dq = like(c.q);
    auto dk = like(c.k), dw = like(c.w);
    ds::ops::lightning_indexer_backward(b, c.inputs(), dout, ds::indexer_gradients{dq, dk, dw},
                                        c.spec);
    out.add("dq", dq);
    out.add("dk", dk);
    out.add("dw", dw);
  }
};

struct indexer_topk {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const indexer_case<T> c(in);
    const index_t k = in.integer("top_k");
    ds::require(k >= 0 && k <= (index_t{1} << 31), error_code::config, "indexer_topk: top_k is ", k,
                "; write a number from 0 to 2^31");
    array<std::int32_t, 2> ids({c.q.extent(0), k});
    ds::ops::indexer_top_k(b, c.inputs(), ids, c.spec, ds::selection_order::by_score);
    out.add("out_idx", ids);
    out.add("out_scores", c.scores(b));
  }
};

}  // namespace

std::span<const op_row> indexer_rows() {
  static constexpr op_row rows[] = {
      row_of<hadamard>("hadamard"), row_of<lightning_indexer>("lightning_indexer"),
      row_of<lightning_indexer_backward>("lightning_indexer_backward"),
      row_of<indexer_topk>("indexer_topk")};
  return rows;
}

}  // namespace run_op
