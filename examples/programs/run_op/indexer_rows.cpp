// SPDX-License-Identifier: Apache-2.0
// run_op: what sparse attention selects keys by: the Hadamard transform, the scores of the
// lightning indexer, their gradient and the keys chosen (causal, the last query at the last key);
// what the indexer learns from; rows through 8 bits.
#include "run_op/op_rows.hpp"

#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/given_mask.hpp"

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

// The mean over heads of attention's weights; files hold [heads, tokens, d], ops [tokens, heads,
// d].
struct attention_weights {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto q = in.read<T, 3>("q"), k = in.read<T, 3>("k");
    const auto mask = in.read_mask<2>("mask");
    ds::require(mask.extent(0) == q.extent(1) && mask.extent(1) == k.extent(1),
                error_code::shape_mismatch, "attention_weights: mask",
                ds::shape_string(mask.view()), " does not match q", ds::shape_string(q.view()),
                " and k", ds::shape_string(k.view()), "; pass mask[queries, keys]");
    const ds::attention_spec<ds::given_mask> spec{
        .pattern = ds::given_mask(mask.view()), .scale = in.number("scale", 0), .start = 0};
    using A = ds::accumulate_t<T>;
    array<A, 2> lse({q.extent(1), q.extent(0)}), p({q.extent(1), k.extent(1)});
    array<T, 3> o({q.extent(1), q.extent(0), k.extent(2)});
    ds::ops::attention(b, ds::attention_inputs{by_token(q), by_token(k), by_token(k)},
                       ds::attention_outputs{o, lse}, spec);
    ds::ops::attention_weights(b, ds::attention_weights_inputs{by_token(q), by_token(k), lse}, p,
                               spec);
    out.add("out", p);
  }
  template <class Array>
  static auto by_token(const Array& t) {
    const auto v = t.view();
    return ds::view<typename decltype(v)::element_type, ds::host, ds::dyn, ds::dyn, ds::dyn>(
        v.data(), {v.extent(1), v.extent(0), v.extent(2)}, {v.stride(1), v.stride(0), v.stride(2)});
  }
};

struct kl_divergence {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto p = in.read<T, 2>("p"), logits = in.read<T, 2>("logits");
    array<double, 1> value({1});
    auto dlogits = like(logits);
    value.data()[0] = ds::ops::kl_divergence(b, p, logits);
    ds::ops::kl_divergence_gradient(b, p, logits, dlogits, 1);
    out.add("out", value);
    out.add("dlogits", dlogits);
  }
};

// Through 8 bits and back.
struct dequantize_fp8 {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x");
    auto y = like(x);
    array<float, 2> scale({x.extent(0), ds::fp8_blocks_in(x.extent(1))});
    auto codes = like<ds::f8_e4m3>(x);
    const bool powers = in.flag("power_of_two", false);
    ds::ops::quantize_fp8(b, x, ds::fp8_rows{codes, scale},
                          powers ? ds::fp8_scales::power_of_two : ds::fp8_scales::any);
    ds::ops::dequantize_fp8(b, ds::fp8_rows{codes, scale}, y);
    out.add("out", y);
    out.add("out_scale", scale);
  }
};

}  // namespace

std::span<const op_row> indexer_rows() {
  static constexpr op_row rows[] = {
      row_of<hadamard>("hadamard"),
      row_of<lightning_indexer>("lightning_indexer"),
      row_of<lightning_indexer_backward>("lightning_indexer_backward"),
      row_of<indexer_topk>("indexer_topk"),
      row_of<attention_weights>("attention_weights"),
      row_of<kl_divergence>("kl_divergence"),
      row_of<dequantize_fp8>("dequantize_fp8")};
  return rows;
}

}  // namespace run_op
