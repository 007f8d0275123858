// SPDX-License-Identifier: Apache-2.0
// lightning_indexer on the cpu, float or double, any strides of q, k, w and contiguous rows of
// scores: a product of one query's heads with a panel of keys in registers' size, whose strips of
// rows are folded at once into one row: acc = w[h] ReLU(r[h]) + acc, heads ascending. The scores of
// single heads are never stored. Every score is one chain, so its bits depend neither on threads
// nor on what stands around its query or key. Other types take the reference.
#pragma once

#include "deepseek/backend/cpu/attention.hpp"
#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/lightning_indexer.hpp"

namespace deepseek {

namespace cpu_indexer {

using cpu_attention::panel;
using cpu_attention::strip_rows;

inline constexpr index_t panels_per_task = 16;
inline constexpr index_t rows_per_block = 96;  // query heads that meet a panel while it is near

struct packed_heads;
struct packed_keys;
struct strips_of_query;

// The keys first .. first + n - 1 of one sequence as panels.
template <class T, class In>
void pack_keys(const In& in, const attention_range& range, index_t first, index_t n, T* panels) {
  const kernels::operand<T> turned{in.k.data() + (range.key + first) * in.k.stride(0),
                                   in.k.stride(1), in.k.stride(0)};
  kernels::pack_panels(turned, in.k.extent(1), n, panels);
}

// Some queries of one sequence, their heads packed as strips, against panels of its keys.
template <class T, class In, class Scores, class P>
class score_block {
 public:
  score_block(const In& in, const Scores& scores, const P& pattern, const attention_range& range)
      : in_(in), scores_(scores), pattern_(pattern), range_(range) {}

  void take_queries(index_t first, index_t last) {
    first_ = first, last_ = last;
    const index_t size = strips() * kernels::strip_size<T>(width());
    T* memory = kernels::scratch<packed_heads, T>(static_cast<std::size_t>((last - first) * size));
    strips_ = kernels::scratch<strips_of_query, kernels::strip<T>>(
        static_cast<std::size_t>((last - first) * strips()));
    for (index_t i = first; i < last; ++i) {
      const T* q = in_.q.data() + (range_.query + i) * in_.q.stride(0);
      kernels::pack_strips(kernels::operand<T>{q, in_.q.stride(1), in_.q.stride(2)}, width(),
                           heads(), memory + (i - first) * size, strips_ + (i - first) * strips());
    }
  }
  // The panel of keys k0 .. k0 + panel - 1.
  void meet(index_t k0, const T* keys, T scale) const {
    constexpr std::uint64_t columns = (std::uint64_t{1} << panel<T>)-1;
    const std::uint64_t there = span_bits(0, range_.keys, k0) & columns;
    for (index_t i = first_; i < last_; ++i) {
      const std::uint64_t seen = row_bits(pattern_, range_.start + i, k0) & there;
      write(i, k0, seen, seen == 0 ? folded{} : fold(i, keys), scale);
    }
  }

 private:
  using pack = simd::pack<T>;
  struct folded {
    pack part[2] = {pack::zero(), pack::zero()};
  };

  index_t heads() const { return in_.q.extent(1); }
  index_t width() const { return in_.q.extent(2); }
  index_t strips() const { return (heads() + strip_rows<T> - 1) / strip_rows<T>; }

  folded fold(index_t i, const T* keys) const {
    alignas(64) T r[strip_rows<T> * panel<T>];
    folded sum;
    for (index_t s = 0; s < strips(); ++s) {
      const auto& left = strips_[(i - first_) * strips() + s];
      const index_t first = s * strip_rows<T>, count = std::min(strip_rows<T>, heads() - first);
      kernels::multiply_padded_rows<T, 2>({left.data, left.row, left.step, keys, panel<T>, width(),
                                           r, panel<T>, kernels::start::zero},
                                          static_cast<int>(count));
      for (index_t h = 0; h < count; ++h) {
        const pack w = pack::broadcast(in_.w(range_.query + i, first + h));
        for (int v = 0; v < 2; ++v) {
          const pack dots = pack::load(r + h * panel<T> + v * pack::width);
          sum.part[v] = fma(w, max(pack::zero(), dots), sum.part[v]);
        }
      }
    }
    return sum;
  }
  void write(index_t i, index_t k0, std::uint64_t seen, const folded& sum, T scale) const {
    const pack hidden = pack::broadcast(-std::numeric_limits<T>::infinity());
    T* to = scores_.data() + i * scores_.stride(0) + k0;
    for (int v = 0; v < 2; ++v) {
      const index_t rest = range_.keys - k0 - v * pack::width;
      if (rest <= 0) break;
      cpu_attention::select_bits(seen >> (v * pack::width), sum.part[v] * pack::broadcast(scale),
                                 hidden)
          .store_up_to(to + v * pack::width, rest);
    }
  }

  const In& in_;
  const Scores& scores_;
  const P& pattern_;
  const attention_range& range_;
  kernels::strip<T>* strips_ = nullptr;
  index_t first_ = 0, last_ = 0;
};

}  // namespace cpu_indexer

template <class Scores>
void hide_columns_from(const cpu& b, const Scores& scores, index_t first) {
  using T = typename Scores::value_type;
  if (scores.extent(1) == first) return;
  parallel_rows(b, scores.extent(0), 64, [&](index_t from, index_t last) {
    for (index_t i = from; i < last; ++i) {
      T* row = scores.data() + i * scores.stride(0);
      std::fill(row + first, row + scores.extent(1), -std::numeric_limits<T>::infinity());
    }
  });
}

template <class In, class Scores, class Spec>
requires cpu_attention::one_type<decltype(In::q), decltype(In::k), decltype(In::w), Scores>
void indexer_scores(const cpu& b, const In& in, const Scores& scores, const Spec& spec,
                    const attention_range& range) {
  namespace indexer = cpu_indexer;
  using T = typename Scores::value_type;
  if (!unit_rows(scores) || in.q.extent(1) == 0 || in.q.extent(2) == 0) {
    return indexer_scores(static_cast<const reference&>(b), in, scores, spec, range);
  }
  constexpr index_t columns = indexer::panel<T>, most = indexer::panels_per_task * columns;
  const auto pattern = bind_pattern(spec.pattern, scope_of(range, 0));
  const index_t block = std::max<index_t>(1, indexer::rows_per_block / in.q.extent(1));
  const index_t blocks = chunks_of(range.queries, block), chunks = chunks_of(range.keys, most);
  const index_t chunk_size = most * in.q.extent(2);
  const auto pack_chunk = [&](index_t chunk, T* to) {
    indexer::pack_keys(in, range, chunk * most, std::min(most, range.keys - chunk * most), to);
  };
  const scope freed(b.workspace());
  T* packed = nullptr;  // one block of queries reads every panel once: it is packed there and then
  if (blocks > 1) {
    packed = b.workspace().template make<T, dyn>(chunks * chunk_size).data();
    b.parallel(chunks, [&](index_t chunk) { pack_chunk(chunk, packed + chunk * chunk_size); });
  }
  b.parallel(blocks * chunks, [&](index_t task) {
    const index_t first = task / chunks * block, chunk = task % chunks;
    indexer::score_block<T, In, Scores, std::remove_const_t<decltype(pattern)>> queries(
        in, scores, pattern, range);
    queries.take_queries(first, std::min(first + block, range.queries));
    T* keys = nullptr;
    if (packed != nullptr) {
      keys = packed + chunk * chunk_size;
    } else {
      keys = kernels::scratch<indexer::packed_keys, T>(static_cast<std::size_t>(chunk_size));
      pack_chunk(chunk, keys);
    }
    const index_t last = std::min(range.keys, (chunk + 1) * most);
    for (index_t k0 = chunk * most; k0 < last; k0 += columns, keys += columns * in.q.extent(2)) {
      queries.meet(k0, keys, static_cast<T>(spec.scale));
    }
  });
  hide_columns_from(b, scores, range.keys);
}

}  // namespace deepseek
