// SPDX-License-Identifier: Apache-2.0
// attention on the cpu, any strides: flash tiles in registers' size on the thread pool; see
// ops/attention.hpp and attention/tiles.hpp. Sums in float for elements of 32 and 16 bits, which
// may differ, in double for double. Those of bf16 are multiplied in pairs or whole tiles where
// the processor can (attention/pairs.hpp); else 16-bit elements are widened in tiles.
// Tasks: one key-value head of one sequence, or one tile of it where those are few, or some of the
// query heads where even tiles are few (a decoding step with one key-value head); the bits are the
// same. Listed keys of many heads are gathered (attention/gathered.hpp). Memory: packed keys and
// values of the sequences at work, linear in the keys.
#pragma once

#include "deepseek/backend/cpu/attention/backward_pairs.hpp"
#include "deepseek/backend/cpu/attention/backward_wide.hpp"
#include "deepseek/backend/cpu/attention/decode.hpp"
#include "deepseek/backend/cpu/attention/forward.hpp"
#include "deepseek/backend/cpu/attention/gathered.hpp"
#include "deepseek/backend/cpu/context.hpp"
#include "deepseek/backend/reference/attention.hpp"

namespace deepseek {

namespace cpu_attention {

// All elements are float, or all are double.
template <class V, class... More>
concept one_type = (std::is_same_v<typename V::value_type, float> ||
                    std::is_same_v<typename V::value_type,
                                   double>)&&(std::is_same_v<typename V::value_type,
                                                             typename More::value_type>&&...);

// What is summed in one type: elements of 32 and 16 bits in float, double in double.
template <class V, class... More>
concept one_sum = (std::is_same_v<accumulate_t<typename V::value_type>,
                                  accumulate_t<typename More::value_type>> &&
                   ...);

// Where the tiles of one sequence stand among those of all.
struct sequence_tiles {
  attention_range range;
  index_t first_query_tile = 0, first_key_tile = 0;
  bool packed = false;  // key tiles are read often enough to be packed once, before
};

template <class P, class S>
head_group<P> group_of(const attention_spec<P, S>& spec, const attention_range& range,
                       index_t kv_head, index_t group) {
  return {spec.pattern, range, kv_head * group, group};
}

// Whether key tiles that are read once are listed, too.
enum class packing { where_it_pays, always };

// One entry for each sequence and one more with the totals; `group` query heads share a tile.
template <class In, class Spec>
view<sequence_tiles, host, dyn> list_tiles(arena<host>& memory, const In& in, const Spec& spec,
                                           packing which, index_t group) {
  const index_t count = sequence_count(spec);
  const auto list = memory.make<sequence_tiles, dyn>(count + 1);
  sequence_tiles next;
  for (index_t s = 0; s < count; ++s) {
    next.range = sequence_range(spec, s, in.q.extent(0), in.k.extent(0));
    const auto head_rows = group_of(spec, next.range, 0, group);
    next.packed = which == packing::always || head_rows.query_tiles() > 1;
    list(s) = next;
    next.first_query_tile += head_rows.query_tiles();
    if (next.packed) next.first_key_tile += head_rows.key_tiles();
  }
  list(count) = next;
  return list;
}

// The sequence that holds tile t, by the given counter.
inline const sequence_tiles& find_tile(const view<sequence_tiles, host, dyn>& list, index_t t,
                                       index_t sequence_tiles::*first) {
  const auto* end = list.data() + list.extent(0);
  const auto* after = std::upper_bound(
      static_cast<const sequence_tiles*>(list.data()), end, t,
      [first](index_t value, const sequence_tiles& entry) { return value < entry.*first; });
  return *(after - 1);
}

struct packed_memory;

// What forward's tasks share. Both ways of dealing them out give the same bits.
template <class Form, class In, class Out, class Spec>
struct forward_tasks {
  using element = typename Form::element;
  const cpu& b;
  const In& in;
  const Out& out;
  const Spec& spec;
  view<sequence_tiles, host, dyn> list;
  index_t kv_heads, group;
  index_t parts = 1;  // groups of query heads that share one key-value head

  using pattern = std::remove_cvref_t<decltype(Spec::pattern)>;
  using heads_of = head_group<pattern>;

  index_t tile_size() const { return Form::tile_size(in.q.extent(2), in.v.extent(2)); }
  void query_tile(const heads_of& head_rows, index_t tile, const packed_tiles<Form>& packed) const {
    const index_t i0 = tile * head_rows.queries_per_tile();
    const index_t i1 = std::min(i0 + head_rows.queries_per_tile(), head_rows.range.queries);
    forward_tile<Form, In, Out, pattern>(in, out, head_rows,
                                         static_cast<typename Form::sum>(spec.scale))
        .run(i0, i1, packed);
  }

  void all_query_tiles(const heads_of& head_rows, const packed_tiles<Form>& packed) const {
    for (index_t t = 0; t < head_rows.query_tiles(); ++t) query_tile(head_rows, t, packed);
  }

  // One group of heads of one sequence a task: its packed keys stay in the core's cache.
  void by_head() const {
    const index_t groups = kv_heads * parts;
    b.parallel((list.extent(0) - 1) * groups, [&](index_t task) {
      const auto& at = list(task / groups);
      const auto head_rows = group_of(spec, at.range, task % groups, group);
      if (!at.packed) return all_query_tiles(head_rows, {});
      key_slots slots(head_rows);
      const index_t most = head_rows.key_tiles() * tile_size();
      all_query_tiles(
          head_rows,
          {kernels::scratch<packed_memory, element>(static_cast<std::size_t>(most)), &slots});
    });
  }
  // One tile of queries a task, all keys packed before: for few head_rows.
  void by_tile() const {
    const auto& total = list(list.extent(0) - 1);
    element* packed =
        b.workspace()
            .template make<element, dyn>(total.first_key_tile * kv_heads * tile_size())
            .data();
    const auto tiles_of = [&](const sequence_tiles& at, const heads_of& head_rows, index_t kv) {
      return packed + (at.first_key_tile * kv_heads + kv * head_rows.key_tiles()) * tile_size();
    };
    b.parallel(total.first_key_tile * kv_heads, [&](index_t task) {
      const auto& at = find_tile(list, task / kv_heads, &sequence_tiles::first_key_tile);
      const index_t kv = task % kv_heads;
      const auto head_rows = group_of(spec, at.range, kv, group);
      const index_t t = task / kv_heads - at.first_key_tile;
      Form::pack(in, at.range, {kv, t * key_tile}, tiles_of(at, head_rows, kv) + t * tile_size());
    });
    b.parallel(total.first_query_tile * kv_heads, [&](index_t task) {
      const auto& at = find_tile(list, task / kv_heads, &sequence_tiles::first_query_tile);
      const index_t kv = task % kv_heads;
      const auto head_rows = group_of(spec, at.range, kv, group);
      query_tile(head_rows, task / kv_heads - at.first_query_tile,
                 {at.packed ? tiles_of(at, head_rows, kv) : nullptr, nullptr});
    });
  }
};

// Heads of sequences are enough tasks, or there is one thread.
inline bool heads_suffice(const cpu& b, index_t head_rows) {
  return b.threads() == 1 || head_rows >= 2 * b.threads();
}

// The largest divisor of n that is at most `most`.
constexpr index_t divisor_of(index_t n, index_t most) {
  for (index_t d = std::min(n, most); d > 1; --d) {
    if (n % d == 0) return d;
  }
  return 1;
}

}  // namespace cpu_attention

template <class In, class Out, class Spec>
requires cpu_attention::one_sum<decltype(In::q), decltype(In::k), decltype(In::v), decltype(Out::o)>
void attention_impl(const cpu& b, const In& in, const Out& out, const Spec& spec) {
  namespace tiles = cpu_attention;
  if (in.q.extent(2) == 0 || in.v.extent(2) == 0) {
    return attention_impl(static_cast<const reference&>(b), in, out, spec);
  }
  if constexpr (std::is_same_v<std::remove_cvref_t<decltype(spec.pattern)>, index_set>) {
    const bool shared = in.q.extent(1) / in.k.extent(1) >= tiles::fewest_gathering;
    if (shared && spec.pattern.order == index_order::ascending) {
      return tiles::attention_gathered(b, in, out, spec);
    }
  }
  const scope freed(b.workspace());
  const index_t kv_heads = in.k.extent(1);
  using form = tiles::form_of<In, Out>;
  if constexpr (form::template as_they_are<In>) {
    if (tiles::all_rows_few<form>(in, spec)) {
      return tiles::decode_tasks<form, In, Out, Spec>(b, in, out, spec).run();
    }
  }
  tiles::forward_tasks<form, In, Out, Spec> tasks{
      b, in, out, spec, {}, kv_heads, in.q.extent(1) / kv_heads};
  const auto list = [&] {
    tasks.list =
        tiles::list_tiles(b.workspace(), in, spec, tiles::packing::where_it_pays, tasks.group);
    return tasks.list(tasks.list.extent(0) - 1).first_query_tile * kv_heads;
  };
  const index_t query_tiles = list();
  if (query_tiles > 0 && query_tiles < b.threads()) {
    tasks.parts = tiles::divisor_of(tasks.group, b.threads() / query_tiles);
    tasks.group /= tasks.parts;
    list();
  }
  tasks.parts > 1 || tiles::heads_suffice(b, sequence_count(spec) * kv_heads) ? tasks.by_head()
                                                                              : tasks.by_tile();
}

namespace cpu_attention {

template <class In, class Out, class G, class P>
using backward_head = std::conditional_t<
    multiplies_pairs<decltype(In::q), decltype(In::k), decltype(In::v), decltype(G::d_o)>,
    pair_backward<In, Out, G, P>,
    wide_backward<accumulate_t<typename decltype(G::dq)::value_type>, In, Out, G, P>>;

// Which sequence, key-value head, and tile of queries or keys a task is about.
template <class T, class In, class Out, class G, class Spec>
struct backward_tasks {
  const cpu& b;
  const In& in;
  const Out& out;
  const G& g;
  const Spec& spec;
  view<sequence_tiles, host, dyn> list;
  index_t kv_heads, group;

  using pattern = std::remove_cvref_t<decltype(Spec::pattern)>;
  backward_head<In, Out, G, pattern> head(const head_group<pattern>& head_rows) const {
    return {in, out, g, head_rows, static_cast<T>(spec.scale)};
  }
  // Both gradients in one pass over the pairs of tiles.
  void by_head() const {
    b.parallel((list.extent(0) - 1) * kv_heads, [&](index_t task) {
      const auto head_rows = group_of(spec, list(task / kv_heads).range, task % kv_heads, group);
      head(head_rows).run(0, head_rows.query_tiles(), {0, head_rows.range.keys},
                          gradients_of::both);
    });
  }
  // More and smaller tasks, which compute the scores twice: the same bits.
  void by_tile() const {
    const auto& total = list(list.extent(0) - 1);
    b.parallel(total.first_query_tile * kv_heads, [&](index_t task) {
      const auto& at = find_tile(list, task / kv_heads, &sequence_tiles::first_query_tile);
      const auto head_rows = group_of(spec, at.range, task % kv_heads, group);
      const index_t t = task / kv_heads - at.first_query_tile;
      head(head_rows).run(t, t + 1, {0, head_rows.range.keys}, gradients_of::queries);
    });
    b.parallel(total.first_key_tile * kv_heads, [&](index_t task) {
      const auto& at = find_tile(list, task / kv_heads, &sequence_tiles::first_key_tile);
      const auto head_rows = group_of(spec, at.range, task % kv_heads, group);
      const index_t k0 = (task / kv_heads - at.first_key_tile) * key_tile;
      const index_t k1 = std::min(k0 + key_tile, head_rows.range.keys);
      head(head_rows).run(0, head_rows.query_tiles(), {k0, k1}, gradients_of::keys);
    });
  }
};

}  // namespace cpu_attention

template <class In, class Out, class G, class Spec>
requires cpu_attention::one_sum<decltype(In::q), decltype(In::k), decltype(In::v), decltype(Out::o),
                                decltype(Out::lse), decltype(G::d_o), decltype(G::dq),
                                decltype(G::dk), decltype(G::dv)>
void attention_backward_impl(const cpu& b, const In& in, const Out& out, const G& g,
                             const Spec& spec) {
  namespace tiles = cpu_attention;
  using T = accumulate_t<typename decltype(g.dq)::value_type>;
  if (in.q.extent(1) == 0 || in.q.extent(2) == 0 || in.v.extent(2) == 0) {
    return attention_backward_impl(static_cast<const reference&>(b), in, out, g, spec);
  }
  const scope freed(b.workspace());
  const index_t kv_heads = in.k.extent(1), group = in.q.extent(1) / kv_heads;
  const tiles::backward_tasks<T, In, Out, G, Spec> tasks{
      b,        in,   out,
      g,        spec, tiles::list_tiles(b.workspace(), in, spec, tiles::packing::always, group),
      kv_heads, group};
  tiles::heads_suffice(b, sequence_count(spec) * kv_heads) ? tasks.by_head() : tasks.by_tile();
}

}  // namespace deepseek
