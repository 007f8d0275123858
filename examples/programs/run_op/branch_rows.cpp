// SPDX-License-Identifier: Apache-2.0
// run_op: what attention layers of several branches weigh and select by: sigmoid, masks over heads,
// blocks of keys. Files hold [heads, tokens, d], ops take [tokens, heads, d].
#include "run_op/op_rows.hpp"

#include "deepseek/pattern/given_mask.hpp"

namespace run_op {
namespace {

struct sigmoid {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x");
    auto y = like(x);
    ds::ops::sigmoid(b, x, y);
    out.add("out", y);
  }
};
struct sigmoid_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x"), dout = in.read<T, 2>("dout");
    auto dx = like(x);
    ds::ops::sigmoid_backward(b, x, dout, dx);
    out.add("dx", dx);
  }
};

ds::head_mask_rule mask_rule(op_case& in) {
  const auto edge = in.word("edge", "hard");
  ds::require(edge == "hard" || edge == "soft", error_code::config, in.op(), ": edge is ",
              ds::escaped(edge), "; write hard or soft");
  return {edge == "hard" ? ds::mask_edge::hard : ds::mask_edge::soft, in.number("temperature", 1)};
}
struct head_mask {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto g = in.read<T, 2>("g");
    const index_t heads = in.integer("heads");
    ds::require(heads >= 0 && heads <= (index_t{1} << 20), error_code::config,
                "head_mask: heads is ", heads, "; write a number from 0 to 2^20");
    array<T, 2> mask({g.extent(0), heads});
    ds::ops::head_mask(b, g, mask, mask_rule(in));
    out.add("out", mask);
  }
};
struct head_mask_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto g = in.read<T, 2>("g"), dout = in.read<T, 2>("dout");
    auto dg = like(g);
    ds::ops::head_mask_backward(b, g, dout, dg, mask_rule(in));
    out.add("dg", dg);
  }
};

struct prefix_topk {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 1>("x");
    const index_t k = in.integer("top_k"), start = in.integer("start", 0);
    ds::require(k >= 0 && k <= (index_t{1} << 20), error_code::config, "prefix_topk: top_k is ", k,
                "; write a number from 0 to 2^20");
    ds::require(start >= 0 && start <= x.extent(0), error_code::config, "prefix_topk: start is ",
                start, " for ", x.extent(0), " scores; write a position from 0 to that");
    array<std::int32_t, 2> ids({x.extent(0) - start, k});
    const bool all = in.flag("everywhere", false);
    ds::ops::prefix_top_k(
        b, x, ids,
        ds::prefix_spec<>{.among = all ? ds::reach::everywhere : ds::reach::past, .start = start});
    out.add("out_idx", ids);
  }
};

// Entries are seen as the mask says; what attention would write as lse is an input.
struct block_top_k {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto q = in.read<T, 3>("q"), k = in.read<T, 3>("k");
    const auto lse = in.read<ds::accumulate_t<T>, 2>("lse");
    const auto mask = in.read_mask<2>("mask");
    const index_t count = in.integer("count");
    ds::require(count >= 0 && count <= (index_t{1} << 20), error_code::config,
                "block_top_k: count is ", count, "; write a number from 0 to 2^20");
    ds::require(mask.extent(0) == q.extent(1) && mask.extent(1) == k.extent(1),
                error_code::shape_mismatch, "block_top_k: mask", ds::shape_string(mask.view()),
                " does not match q", ds::shape_string(q.view()), " and k",
                ds::shape_string(k.view()), "; pass mask[queries, entries]");
    array<std::int32_t, 3> ids({q.extent(1), k.extent(0), count});
    ds::ops::block_top_k(
        b, ds::attention_weights_inputs{swapped(q), swapped(k), ds::transposed(lse.view())}, ids,
        ds::attention_spec<ds::given_mask>{
            .pattern = ds::given_mask(mask.view()), .scale = in.number("scale", 0), .start = 0},
        ds::block_rule{in.integer("ratio"), in.integer("windows", 1),
                       in.flag("overlap", false) ? ds::overlap::present : ds::overlap::absent,
                       in.integer("initial", 0), in.integer("recent", 0)});
    out.add("out_idx", ids);
  }
};

}  // namespace

std::span<const op_row> branch_rows() {
  static constexpr op_row rows[] = {
      row_of<sigmoid>("sigmoid"),         row_of<sigmoid_backward>("sigmoid_backward"),
      row_of<head_mask>("head_mask"),     row_of<head_mask_backward>("head_mask_backward"),
      row_of<prefix_topk>("prefix_topk"), row_of<block_top_k>("block_top_k")};
  return rows;
}

}  // namespace run_op
