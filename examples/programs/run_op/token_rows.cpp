// SPDX-License-Identifier: Apache-2.0
// run_op: what knows tokens: embedding, cross entropy, the k largest of a row, positions, next
// tokens.
#include "run_op/op_rows.hpp"

namespace run_op {
namespace {

struct embedding {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto ids = in.read_ids<1>("ids");
    const auto table = in.read<T, 2>("table");
    array<T, 2> y({ids.extent(0), table.extent(1)});
    ds::ops::embedding(b, ids, table, y);
    out.add("out", y);
  }
};
struct embedding_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto ids = in.read_ids<1>("ids");
    const auto table = in.read<T, 2>("table"), dout = in.read<T, 2>("dout");
    auto dtable = like(table);
    ds::ops::embedding_backward(b, ids, dout, dtable);
    out.add("dtable", dtable);
  }
};

std::int32_t read_ignore(op_case& in) {
  return static_cast<std::int32_t>(in.integer("ignore", -100));
}

struct cross_entropy {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto logits = in.read<T, 2>("logits");
    const auto targets = in.read_ids<1>("targets");
    array<ds::accumulate_t<T>, 1> losses({logits.extent(0)});
    const auto r =
        ds::ops::cross_entropy(b, logits, targets, losses, ds::cross_entropy_spec{read_ignore(in)});
    array<double, 1> mean({1});
    array<std::int64_t, 1> counted({1});
    mean.data()[0] = r.mean;
    counted.data()[0] = r.counted;
    out.add("out", losses);
    out.add("out_mean", mean);
    out.add("out_counted", counted);
  }
};
struct cross_entropy_gradient {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto logits = in.read<T, 2>("logits");
    const auto targets = in.read_ids<1>("targets");
    auto dlogits = like(logits);
    ds::ops::cross_entropy_gradient(
        b, logits, targets, dlogits,
        ds::cross_entropy_gradient_spec{.ignore = read_ignore(in),
                                        .scale = in.number("factor", 1)});
    out.add("dlogits", dlogits);
  }
};

struct top_k {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x");
    const index_t k = in.integer("top_k");
    ds::require(k >= 0 && k <= x.extent(1), error_code::config, "top_k: top_k is ", k,
                "; write a number from 0 to ", x.extent(1));
    array<T, 2> values({x.extent(0), k});
    auto ids = like<std::int32_t>(values);
    ds::ops::top_k(b, x, values, ids);
    out.add("out", values);
    out.add("out_idx", ids);
  }
};
struct top_k_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x"), dout = in.read<T, 2>("dout");
    const auto ids = in.read_ids<2>("ids");
    auto dx = like(x);
    ds::ops::top_k_backward(b, ids, dout, dx);
    out.add("dx", dx);
  }
};

// The positions of packed sequences: offsets [sequences + 1], from 0 to the number of tokens.
struct positions {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    constexpr index_t most = index_t{1} << 28;
    const auto offsets = in.read_ids<1>("offsets");
    const index_t n = offsets.size() > 0 ? offsets.data()[offsets.size() - 1] : 0;
    ds::require(n >= 0 && n <= most, error_code::offsets, "positions: the last offset is ", n,
                "; it is the number of tokens, 0 to ", most);
    array<std::int32_t, 1> y({n});
    ds::ops::positions(b, in.integer("start", 0), offsets, y, in.integer("step", 1));
    out.add("out", y);
  }
};

// Rows written where `first` says: the op reads it itself.
struct place_rows {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x");
    const auto first = in.read_ids<1>("first");
    auto y = in.read<T, 2>("y");
    ds::ops::place_rows(b, x, first, y);
    out.add("out", y);
  }
};

// Each sequence's tokens moved up by one; `last` at its end.
struct next_tokens {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    auto ids = in.read_ids<1>("ids");
    const auto offsets = in.read_ids<1>("offsets");
    ds::ops::next_tokens(b, ids, offsets, static_cast<std::int32_t>(in.integer("last")), ids);
    out.add("out", ids);
  }
};

}  // namespace

std::span<const op_row> token_rows() {
  static constexpr op_row rows[] = {row_of<embedding>("embedding"),
                                    row_of<embedding_backward>("embedding_backward"),
                                    row_of<cross_entropy>("cross_entropy"),
                                    row_of<cross_entropy_gradient>("cross_entropy_gradient"),
                                    row_of<top_k>("top_k"),
                                    row_of<top_k_backward>("top_k_backward"),
                                    row_of<positions>("positions"),
                                    row_of<place_rows>("place_rows"),
                                    row_of<next_tokens>("next_tokens")};
  return rows;
}

}  // namespace run_op
