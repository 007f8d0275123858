// SPDX-License-Identifier: Apache-2.0
// Attention forward where each sequence asks with few rows (few_rows.hpp): who takes which.
#pragma once

#include "deepseek/backend/cpu/attention/few_rows.hpp"
#include "deepseek/backend/cpu/context.hpp"

#include <algorithm>
#include <memory>

namespace deepseek::cpu_attention {

// From so many keys on four regions cost less than they save.
inline constexpr index_t fewest_split = 512, tiles_per_task = 4;

// Whether rows of one key-value head are few, for every sequence, and keys can be read in place.
template <class Form, class In, class Spec>
bool all_rows_few(const In& in, const Spec& spec) {
  using pattern = std::remove_cvref_t<decltype(spec.pattern)>;
  const index_t group = in.q.extent(1) / in.k.extent(1);
  for (index_t s = 0; s < sequence_count(spec); ++s) {
    const auto range = sequence_range(spec, s, in.q.extent(0), in.k.extent(0));
    const head_group<pattern> rows{spec.pattern, range, 0, group};
    if (rows.query_tiles() > 1 || range.queries * group > lanes<typename Form::sum> ||
        !Form::in_place(in, range)) {
      return false;
    }
  }
  return true;
}

template <class Form, class In, class Out, class Spec>
class decode_tasks {
  using pattern = std::remove_cvref_t<decltype(Spec::pattern)>;
  using rows_type = few_rows<Form, In, Out, pattern>;
  using scores_of = typename rows_type::scores_of;

 public:
  decode_tasks(const cpu& b, const In& in, const Out& out, const Spec& spec)
      : b_(b), in_(in), out_(out), spec_(spec), kv_heads_(in.k.extent(1)) {
    const index_t groups = sequences() * kv_heads_;
    index_t most_keys = 0;
    for (index_t s = 0; s < sequences(); ++s)
      most_keys = std::max(most_keys, range_of_sequence(s).keys);
    splits_ = b.threads() > 1 && groups < 2 * b.threads() && most_keys >= fewest_split;
    pieces counted;
    for (index_t g = 0; g < groups; ++g) make(g, counted);
    const auto bytes = static_cast<index_t>(counted.used);
    pieces memory{b.workspace().template make<std::byte, dyn>(bytes).data()};
    all_ = b.workspace().template make<rows_type, dyn>(groups).data();
    for (index_t g = 0; g < groups; ++g) std::construct_at(all_ + g, make(g, memory));
  }

  void run() const { splits_ ? by_steps() : by_heads(); }

 private:
  index_t sequences() const { return sequence_count(spec_); }
  attention_range range_of_sequence(index_t s) const {
    return sequence_range(spec_, s, in_.q.extent(0), in_.k.extent(0));
  }
  rows_type make(index_t g, pieces& memory) const {
    const index_t group = in_.q.extent(1) / kv_heads_;
    const head_group<pattern> heads{spec_.pattern, range_of_sequence(g / kv_heads_),
                                    g % kv_heads_ * group, group};
    return {in_,
            out_,
            heads,
            static_cast<typename Form::sum>(spec_.scale),
            splits_ ? scores_of::all_tiles : scores_of::one_tile,
            memory};
  }

  // Neighbouring heads of a sequence a task: even parts, one for each thread.
  void by_heads() const {
    const index_t wanted = (b_.threads() + sequences() - 1) / sequences();
    const index_t least = (kv_heads_ + most_rows - 1) / most_rows;
    const index_t parts = std::clamp(wanted, least, kv_heads_);
    b_.parallel(sequences() * parts, [&](index_t task) {
      const index_t part = task % parts, first = part * kv_heads_ / parts;
      const index_t count = (part + 1) * kv_heads_ / parts - first;
      attend(std::span<rows_type>(all_ + task / parts * kv_heads_ + first,
                                  static_cast<std::size_t>(count)));
    });
  }
  void by_steps() const {
    const index_t groups = sequences() * kv_heads_;
    index_t tiles = 0, rows = 0;
    b_.parallel(groups, [&](index_t g) { all_[g].begin(); });
    for (index_t g = 0; g < groups; ++g) {
      tiles = std::max(tiles, all_[g].tiles()), rows = std::max(rows, all_[g].rows());
    }
    const index_t parts = (tiles + tiles_per_task - 1) / tiles_per_task;
    b_.parallel(groups * parts, [&](index_t task) {
      const simd::tile_scope given_back;
      const auto& at = all_[task / parts];
      const index_t first = task % parts * tiles_per_task;
      for (index_t t = first; t < std::min(first + tiles_per_task, at.tiles()); ++t) at.scores(t);
    });
    b_.parallel(groups * rows, [&](index_t task) {
      if (task % rows < all_[task / rows].rows()) all_[task / rows].weights(task % rows);
    });
    const index_t dv = in_.v.extent(2), columns = columns_per_task(dv * groups);
    const index_t slices = (dv + columns - 1) / columns;
    b_.parallel(groups * slices, [&](index_t task) {
      const simd::tile_scope given_back;
      const index_t first = task % slices * columns;
      all_[task / slices].values(first, std::min(columns, dv - first));
    });
  }

  // As wide as leaves each thread one, so that values are read in long pieces.
  index_t columns_per_task(index_t all) const {
    return std::clamp(all / b_.threads() / 64 * 64, index_t{64}, most_columns);
  }

  const cpu& b_;
  const In& in_;
  const Out& out_;
  const Spec& spec_;
  index_t kv_heads_;
  bool splits_;
  rows_type* all_;
};

}  // namespace deepseek::cpu_attention
