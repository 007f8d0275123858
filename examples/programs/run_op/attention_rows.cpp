// SPDX-License-Identifier: Apache-2.0
// run_op: attention under a mask given as a tensor, its gradient, rotary embedding. Files hold
// [heads, tokens, d], ops take [tokens, heads, d]: views with other strides, no copy.
#include "run_op/op_rows.hpp"

#include "deepseek/pattern/given_mask.hpp"

namespace run_op {
namespace {

// [A, B, d] seen as [B, A, d].
template <class Array>
auto swapped(Array& t) {
  const auto v = t.view();
  return ds::view<typename decltype(v)::element_type, ds::host, ds::dyn, ds::dyn, ds::dyn>(
      v.data(), {v.extent(1), v.extent(0), v.extent(2)}, {v.stride(1), v.stride(0), v.stride(2)});
}

template <class T>
struct attention_case {
  array<T, 3> q, k, v;
  array<std::uint8_t, 2> mask;
  ds::attention_spec<ds::given_mask> spec;
  array<T, 3> o;
  array<ds::accumulate_t<T>, 2> lse;

  explicit attention_case(op_case& in)
      : q(in.read<T, 3>("q")),
        k(in.read<T, 3>("k")),
        v(in.read<T, 3>("v")),
        mask(in.read_mask<2>("mask")),
        o({q.extent(0), q.extent(1), v.extent(2)}),
        lse({q.extent(0), q.extent(1)}) {
    const auto m = mask.view();
    ds::require(m.extent(0) == q.extent(1) && m.extent(1) == k.extent(1),
                error_code::shape_mismatch, "attention: mask", ds::shape_string(m),
                " does not match q", ds::shape_string(q.view()), " and k",
                ds::shape_string(k.view()), "; pass mask[queries, keys]");
    const double scale = in.number("scale", 0);
    ds::require(scale != 0 || !in.has("scale"), error_code::invalid_argument,
                "attention: scale is 0; leave it out for 1 / sqrt(d)");
    spec = {.pattern = ds::given_mask(ds::as_const(m)), .scale = scale, .start = 0};
  }
  auto inputs() const { return ds::attention_inputs{swapped(q), swapped(k), swapped(v)}; }
  auto outputs() { return ds::attention_outputs{swapped(o), ds::transposed(lse.view())}; }
};

struct attention {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    attention_case<T> c(in);
    ds::ops::attention(b, c.inputs(), c.outputs(), c.spec);
    out.add("out", c.o);
    out.add("out_lse", c.lse);
  }
};

struct attention_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    attention_case<T> c(in);
    const auto dout = in.read<T, 3>("dout");
    auto dq = like(c.q), dk = like(c.k), dv = like(c.v);
    ds::ops::attention(b, c.inputs(), c.outputs(), c.spec);
    ds::ops::attention_backward(
        b, c.inputs(), c.outputs(),
        ds::attention_gradients{swapped(dout), swapped(dq), swapped(dk), swapped(dv)}, c.spec);
    out.add("dq", dq);
    out.add("dk", dk);
    out.add("dv", dv);
  }
};

struct rope {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 3>("x");
    const auto pos = in.read_ids<1>("pos");
    auto y = like(x);
    const std::string style = in.word("style", "interleaved"), turn = in.word("turn", "forward");
    ds::require(style == "interleaved" || style == "half", error_code::config, "rope: style is ",
                ds::escaped(style), "; write interleaved or half");
    ds::require(turn == "forward" || turn == "inverse", error_code::config, "rope: turn is ",
                ds::escaped(turn), "; write forward or inverse");
    const ds::rope_spec how{
        .theta = in.number("theta"),
        .layout = style == "half" ? ds::rope_layout::half : ds::rope_layout::interleaved,
        .turn = turn == "inverse" ? ds::rope_turn::inverse : ds::rope_turn::forward};
    ds::ops::rope(b, swapped(x), pos, swapped(y), how);
    out.add("out", y);
  }
};

void mla(const machine&, op_case&, results&) {
  ds::fail(error_code::unsupported,
           "mla: this version has no latent attention; attention with heads is there");
}

}  // namespace

std::span<const op_row> attention_rows() {
  static constexpr op_row rows[] = {row_of<attention>("attention"),
                                    row_of<attention_backward>("attention_backward"),
                                    row_of<rope>("rope"),
                                    {"mla", &mla}};
  return rows;
}

}  // namespace run_op
