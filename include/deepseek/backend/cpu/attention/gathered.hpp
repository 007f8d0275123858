// SPDX-License-Identifier: Apache-2.0
// Attention forward over listed keys (pattern index_set, ascending) for heads that share one
// key-value head: a query's keys and values are gathered, and its heads are the rows of one tile
// that sees them all. Cost and memory follow the list, not the sequence. Used wherever so many
// heads share a list that gathering pays, whatever the number of queries: a query of a batch has
// the bits it has alone. Few heads, and backward, visit the tiles that hold listed keys.
#pragma once

#include "deepseek/backend/cpu/attention/few_rows.hpp"
#include "deepseek/backend/cpu/context.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/index_set.hpp"

namespace deepseek::cpu_attention {

inline constexpr index_t fewest_gathering = 8;  // heads to a key-value head
inline constexpr index_t heads_per_task = 48;

struct gathered_keys;
struct gathered_values;
struct gathered_rows;

// The rows of one head's keys or values, side by side; every head index reads them.
template <class E>
using gathered_view = view<const E, host, dyn, dyn, dyn>;
template <class E>
constexpr index_t gathered_row(index_t width) {
  return round_up(width, 32) + 64 / static_cast<index_t>(sizeof(E));
}

template <class Purpose, class View>
auto gather(const View& from, index_t kv, const attention_range& range, const std::int32_t* ids,
            index_t n) {
  using E = typename View::value_type;
  const index_t width = from.extent(2), row = gathered_row<E>(width);
  E* const to = kernels::scratch<Purpose, E>(static_cast<std::size_t>(n * row));
  for (index_t i = 0; i < n; ++i) {
    read_row<E>(row_of(from, range.key_row(ids[i]), kv), width, to + i * row);
  }
  return gathered_view<E>{to, {n, from.extent(1), width}, {row, 0, 1}};
}

// Values that are the first columns of the keys (a latent cache) are gathered with them.
template <class In>
bool values_inside_keys(const In& in) {
  if constexpr (!std::is_same_v<typename decltype(In::k)::value_type,
                                typename decltype(In::v)::value_type>) {
    return false;
  } else {
    return in.v.data() == in.k.data() && in.v.extent(2) <= in.k.extent(2) &&
           in.v.stride(0) == in.k.stride(0) && in.v.stride(1) == in.k.stride(1) &&
           in.v.stride(2) == in.k.stride(2);
  }
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

struct gathered_state;

template <class Form, class In, class Out, class T>
void attend_few(const In& in, const Out& out, const head_group<everyone>& group, T scale) {
  using rows_type = few_rows<Form, In, Out, everyone>;
  constexpr auto kept = rows_type::scores_of::one_tile;
  pieces counted;
  rows_type(in, out, group, scale, kept, counted);
  pieces memory{kernels::scratch<gathered_state, std::byte>(counted.used)};
  rows_type rows(in, out, group, scale, kept, memory);
  attend(std::span<rows_type>(&rows, 1));
}

template <class T, class In, class Out>
void attend_gathered(const In& in, const Out& out, const index_set& pattern,
                     const attention_range& range, T scale, const gathered_task& task) {
  const auto listed = pattern.of(range.start + task.i);
  auto* const ids = kernels::scratch<gathered_rows, std::int32_t>(
      static_cast<std::size_t>(std::max<index_t>(listed.count, 1)));
  const index_t n = keep_present(listed, range.keys, ids);
  const auto keys = gather<gathered_keys>(in.k, task.kv, range, ids, n);
  const auto values = [&] {
    using view_of_values = gathered_view<typename decltype(In::v)::value_type>;
    if constexpr (std::is_same_v<view_of_values, std::remove_const_t<decltype(keys)>>) {
      if (values_inside_keys(in)) {
        return view_of_values{
            keys.data(), {n, in.v.extent(1), in.v.extent(2)}, {keys.stride(0), 0, 1}};
      }
    }
    return gather<gathered_values>(in.v, task.kv, range, ids, n);
  }();
  using inputs = attention_inputs<decltype(In::q), std::remove_const_t<decltype(keys)>,
                                  std::remove_const_t<decltype(values)>>;
  const inputs near{in.q, keys, values};
  const everyone all;
  const head_group<everyone> rows{all, {range.query + task.i, 1, 0, n, 0}, task.first, task.count};
  using form = form_of<inputs, Out>;
  if constexpr (form::template as_they_are<inputs>) {
    if (task.count <= lanes<T> && form::in_place(near, rows.range)) {
      return attend_few<form>(near, out, rows, scale);
    }
  }
  forward_tile<form, inputs, Out, everyone>(near, out, rows, scale).run(0, 1, {});
}

template <class In, class Out, class Spec>
void attention_gathered(const cpu& b, const In& in, const Out& out, const Spec& spec) {
  using T = accumulate_t<typename decltype(out.o)::value_type>;
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
