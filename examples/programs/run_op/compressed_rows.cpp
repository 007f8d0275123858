// SPDX-License-Identifier: Apache-2.0
// run_op: attention sinks, two attentions merged, windows of tokens as entries. Files hold [heads,
// tokens, d], ops take [tokens, heads, d].
#include "run_op/op_rows.hpp"

namespace run_op {
namespace {

struct attention_sink {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    using L = ds::accumulate_t<T>;
    auto o = in.read<T, 3>("o");
    auto lse = in.read<L, 2>("lse");
    const auto sinks = in.read<L, 1>("sinks");
    ds::ops::attention_sink(b, sinks,
                            ds::attention_outputs{swapped(o), ds::transposed(lse.view())});
    out.add("out", o);
    out.add("out_lse", lse);
  }
};
struct attention_sink_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    using L = ds::accumulate_t<T>;
    const auto o = in.read<T, 3>("o"), dout = in.read<T, 3>("dout");
    const auto lse = in.read<L, 2>("lse");
    const auto sinks = in.read<L, 1>("sinks");
    auto dsinks = like(sinks);
    ds::ops::attention_sink_backward(b, sinks,
                                     ds::attention_outputs{swapped(o), ds::transposed(lse.view())},
                                     swapped(dout), dsinks);
    out.add("dsinks", dsinks);
  }
};

struct attention_merge {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    using L = ds::accumulate_t<T>;
    auto o = in.read<T, 3>("o1");
    const auto other = in.read<T, 3>("o2");
    auto lse = in.read<L, 2>("lse1");
    const auto other_lse = in.read<L, 2>("lse2");
    ds::ops::attention_merge(
        b, ds::attention_outputs{swapped(other), ds::transposed(other_lse.view())},
        ds::attention_outputs{swapped(o), ds::transposed(lse.view())});
    out.add("out", o);
    out.add("out_lse", lse);
  }
};

template <class T>
struct compress_case {
  array<T, 2> kv, gate, ape;
  array<std::int32_t, 1> offsets, entry_offsets;
  ds::compress_spec<> spec;
  index_t entries;

  compress_case(const auto& b, op_case& in)
      : kv(in.read<T, 2>("kv")),
        gate(in.read<T, 2>("gate")),
        ape(in.read<T, 2>("ape")),
        offsets(read_offsets(in, kv.extent(0))),
        entry_offsets(like(offsets)) {
    spec = {ape.extent(0), in.flag("overlap", false) ? ds::overlap::present : ds::overlap::absent,
            ds::as_const(offsets.view())};
    entries = ds::ops::compressed_offsets(b, offsets, spec.ratio, entry_offsets);
  }
  auto inputs() const { return ds::compress_views{kv, gate, ape}; }
};
struct compress {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const compress_case<T> c(b, in);
    const index_t parts = c.spec.windows == ds::overlap::present ? 2 : 1;
    array<T, 2> y({c.entries, c.kv.extent(1) / parts});
    ds::ops::compress(b, c.inputs(), y, c.spec);
    out.add("out", y);
  }
};
struct compress_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const compress_case<T> c(b, in);
    const auto dout = in.read<T, 2>("dout");
    auto dkv = like(c.kv), dgate = like(c.gate), dape = like(c.ape);
    ds::ops::compress_backward(b, c.inputs(), dout, ds::compress_views{dkv, dgate, dape}, c.spec);
    out.add("dkv", dkv);
    out.add("dgate", dgate);
    out.add("dape", dape);
  }
};
struct compressed_offsets {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto offsets = in.read_ids<1>("offsets");
    auto y = like(offsets);
    ds::ops::compressed_offsets(b, offsets, in.integer("ratio"), y);
    out.add("out", y);
  }
};

}  // namespace

std::span<const op_row> compressed_rows() {
  static constexpr op_row rows[] = {row_of<attention_sink>("attention_sink"),
                                    row_of<attention_sink_backward>("attention_sink_backward"),
                                    row_of<attention_merge>("attention_merge"),
                                    row_of<compress>("compress"),
                                    row_of<compress_backward>("compress_backward"),
                                    row_of<compressed_offsets>("compressed_offsets")};
  return rows;
}

}  // namespace run_op
