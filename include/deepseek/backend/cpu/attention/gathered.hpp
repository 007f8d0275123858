// SPDX-License-Identifier: Apache-2.0
// Attention forward over listed keys (pattern index_set, ascending) for heads that share one
// key-value head: a query's keys and values are gathered, and its heads are the rows of one tile
// that sees them all. Cost and memory follow the list, not the sequence. Used wherever so many
// heads share a list that gathering pays, whatever the number of queries: a query of a batch has
// the bits it has alone. Few heads, and backward, visit the tiles that hold listed keys.
#pragma once

#include "deepseek/backend/cpu/attention/forward.hpp"
#include "deepseek/backend/cpu/context.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/index_set.hpp"

namespace deepseek::cpu_attention {

inline constexpr index_t fewest_gathering = 8;  // heads to a key-value head
inline constexpr index_t heads_per_task = 48;

struct gathered_memory;
struct gathered_rows;

// The rows of one head's keys or values, side by side; every head index reads them.
template <class T>
using gathered_view = view<const T, host, dyn, dyn, dyn>;

template <class View, class T>
gathered_view<T> gather(const View& from, index_t kv, const attention_range& range,
                        const std::int32_t* ids, index_t n, T* to) {
  const index_t width = from.extent(2), row = row_size<T>(width);
  for (index_t i = 0; i < n; ++i) {
    read_row<T>(row_of(from, range.key_row(ids[i]), kv), width, to + i * row);
  }
  return {to, {n, from.extent(1), width}, {row, 0, 1}};
}

// Values that are the first columns of the keys (a latent cache) are gathered with them.
template <class In>
bool values_inside_keys(const In& in) {
  return in.v.data() == in.k.data() && in.v.extent(2) <= in.k.extent(2) &&
         in.v.stride(0) == in.k.stride(0) && in.v.stride(1) == in.k.stride(1) &&
         in.v.stride(2) == in.k.stride(2);
}

// One query of one sequence: those of its listed keys that the sequence has, each once.
inline index_t keep_present(const index_set::listed& ids, index_t keys, std::int32_t* out) {
  index_t n = 0;
  for (index_t i = 0; i < ids.count && ids(i) < keys; ++i) {
    const auto id = static_cast<std::int32_t>(ids(i));
    if (n == 0 || out[n - 1] != id) out[n++] = id;
  }
  return n;
}

// Heads first .. first + count - 1 of query i.
struct gathered_task {
  index_t i, kv, first, count;
};

template <class T, class In, class Out>
void attend_gathered(const In& in, const Out& out, const index_set& pattern,
                     const attention_range& range, T scale, const gathered_task& task) {
  const auto listed = pattern.of(range.start + task.i);
  auto* const ids = kernels::scratch<gathered_rows, std::int32_t>(
      static_cast<std::size_t>(std::max<index_t>(listed.count, 1)));
  const index_t n = keep_present(listed, range.keys, ids);
  const index_t key_size = row_size<T>(in.k.extent(2)), value_size = row_size<T>(in.v.extent(2));
  T* const memory =
      kernels::scratch<gathered_memory, T>(static_cast<std::size_t>(n * (key_size + value_size)));
  const auto keys = gather(in.k, task.kv, range, ids, n, memory);
  auto values = keys;
  if (values_inside_keys(in)) {
    values = {keys.data(), {n, in.v.extent(1), in.v.extent(2)}, {key_size, 0, 1}};
  } else {
    values = gather(in.v, task.kv, range, ids, n, memory + n * key_size);
  }
  using inputs = attention_inputs<decltype(In::q), gathered_view<T>, gathered_view<T>>;
  const inputs near{in.q, keys, values};
  const everyone all;
  const head_group<everyone> rows{all, {range.query + task.i, 1, 0, n, 0}, task.first, task.count};
  forward_tile<T, inputs, Out, everyone>(near, out, rows, scale).run(0, 1, {});
}

template <class In, class Out, class Spec>
void attention_gathered(const cpu& b, const In& in, const Out& out, const Spec& spec) {
  using T = typename decltype(out.o)::value_type;
  const index_t kv_heads = in.k.extent(1), group = in.q.extent(1) / kv_heads;
  for (index_t s = 0; s < sequence_count(spec); ++s) {
    const auto range = sequence_range(spec, s, in.q.extent(0), in.k.extent(0));
    const auto pattern = spec.pattern.bind(scope_of(range, 0));
    // Rows are independent: few queries are cut finer, to the same bits.
    const bool few = range.queries * kv_heads < 2 * b.threads();
    const index_t most = few ? heads_per_task : group, parts = (group + most - 1) / most;
    b.parallel(range.queries * kv_heads * parts, [&](index_t task) {
      const index_t part = task % parts * most, kv = task / parts % kv_heads;
      attend_gathered(
          in, out, pattern, range, static_cast<T>(spec.scale),
          {task / parts / kv_heads, kv, kv * group + part, std::min(most, group - part)});
    });
  }
}

}  // namespace deepseek::cpu_attention
