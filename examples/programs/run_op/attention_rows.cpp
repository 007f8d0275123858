// SPDX-License-Identifier: Apache-2.0
// run_op: attention under a mask or any pattern, its gradient, rotary embedding. Files hold
// [heads, tokens, d], ops take [tokens, heads, d]: views with other strides, no copy.
#include "run_op/seen_keys.hpp"

namespace run_op {
namespace {

template <class T>
struct attention_case {
  array<T, 3> q, k, v;
  index_t page_size, key_count;
  seen_keys seen;
  array<std::int32_t, 1> pages;
  array<T, 3> o;
  array<ds::accumulate_t<T>, 2> lse;

  explicit attention_case(op_case& in)
      : q(in.read<T, 3>("q")),
        k(in.read<T, 3>("k")),
        v(in.read<T, 3>("v")),
        page_size(in.integer("page_size", 0)),
        key_count(keys_of(in)),
        seen(in, q.extent(1), key_count, q.extent(0)),
        o({q.extent(0), q.extent(1), v.extent(2)}),
        lse({q.extent(0), q.extent(1)}) {
    if (page_size == 0) return;
    pages = in.read_ids<1>("pages");
    seen.spec.pages = {pages.view(), page_size};
    seen.spec.keys = key_count;
  }
  // In pages a case says how many there are, or its mask does.
  index_t keys_of(op_case& in) const {
    ds::require(page_size > 0 || !in.has("page_size"), error_code::invalid_argument,
                "attention: page_size is ", page_size, "; leave it out for keys in order");
    if (page_size == 0) return k.extent(1);
    return in.has("keys") ? in.integer("keys") : in.read_mask<2>("mask").extent(1);
  }
  auto inputs() const { return ds::attention_inputs{swapped(q), swapped(k), swapped(v)}; }
  auto outputs() { return ds::attention_outputs{swapped(o), ds::transposed(lse.view())}; }
};

struct attention {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    attention_case<T> c(in);
    ds::ops::attention(b, c.inputs(), c.outputs(), c.seen.spec);
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
    ds::ops::attention(b, c.inputs(), c.outputs(), c.seen.spec);
    ds::ops::attention_backward(
        b, c.inputs(), c.outputs(),
        ds::attention_gradients{swapped(dout), swapped(dq), swapped(dk), swapped(dv)}, c.seen.spec);
    out.add("dq", dq);
    out.add("dk", dk);
    out.add("dv", dv);
  }
};

// One of `names`, by its place.
int choice(op_case& in, const char* key, std::initializer_list<const char*> names) {
  const std::string word = in.word(key, *names.begin());
  std::string known;
  int at = 0;
  for (const char* name : names) {
    if (word == name) return at;
    (known += at++ > 0 ? " " : "") += name;
  }
  ds::fail(error_code::config, in.op(), ": ", key, " is ", ds::escaped(word), "; write one of ",
           known);
}

struct rope {
  static ds::rope_spec spec(op_case& in) {
    const int style = choice(in, "style", {"interleaved", "half"});
    const int turn = choice(in, "turn", {"forward", "inverse"});
    return {.theta = in.number("theta"),
            .layout = static_cast<ds::rope_layout>(style),
            .turn = static_cast<ds::rope_turn>(turn),
            .scaling = scaling(in),
            .length = in.integer("length", 0)};
  }
  static ds::rope_scaling scaling(op_case& in) {
    ds::rope_scaling s;
    s.kind = static_cast<ds::rope_scaling_kind>(
        choice(in, "scaling", {"none", "linear", "dynamic_ntk", "llama3", "yarn"}));
    s.factor = in.number("factor", s.factor);
    s.original_length = in.integer("original_length", s.original_length);
    s.low = in.number("low", s.low);
    s.high = in.number("high", s.high);
    s.beta_fast = in.number("beta_fast", s.beta_fast);
    s.beta_slow = in.number("beta_slow", s.beta_slow);
    s.mscale = in.number("mscale", s.mscale);
    s.mscale_all_dim = in.number("mscale_all_dim", s.mscale_all_dim);
    return s;
  }
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 3>("x");
    const auto pos = in.read_ids<1>("pos");
    auto y = like(x);
    ds::ops::rope(b, swapped(x), pos, swapped(y), spec(in));
    out.add("out", y);
  }
};

}  // namespace

std::span<const op_row> attention_rows() {
  static constexpr op_row rows[] = {row_of<attention>("attention"),
                                    row_of<attention_backward>("attention_backward"),
                                    row_of<rope>("rope")};
  return rows;
}

}  // namespace run_op
