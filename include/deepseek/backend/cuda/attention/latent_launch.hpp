// SPDX-License-Identifier: Apache-2.0
// The launch of latent_forward.hpp, or of group_latent_forward.hpp where the device has warp groups
// and a tensor map can say the strides, for all numbers of rows: how many rows a block has, and
// whether ranges of keys have blocks of their own. Listed keys (index_set, ascending) are gathered
// by latent_forward.hpp on every device: no tensor map of sm_90 says rows of a list.
#pragma once

#include "deepseek/backend/cuda/attention/group_latent_forward.hpp"
#include "deepseek/backend/cuda/attention/group_launch.hpp"
#include "deepseek/backend/cuda/attention/latent_forward.hpp"
#include "deepseek/backend/cuda/attention/tensor_launch.hpp"
#include "deepseek/backend/cuda/map.hpp"

namespace deepseek::cuda_attention {

using latent_and_rope = widths<576, 512>;
using latent_alone = widths<512, 512>;
inline bool has_latent_kernel(index_t d, index_t dv) {
  return (d == 576 || d == 512) && dv == 512;
}

// Each value is the beginning of its key.
template <class K, class V>
bool begins_key(const K& k, const V& v) {
  const bool same_heads = k.extent(1) <= 1 || k.stride(1) == v.stride(1);
  return static_cast<const void*>(k.data()) == v.data() && k.stride(0) == v.stride(0) &&
         same_heads && v.stride(2) == 1;
}

template <class Kernel, class B, class In, class Out, class Spec>
void launch_latent(const B& b, const In& in, const Out& out, const Spec& spec) {
  const range_parts<typename B::space> whole;
  const index_t tiles = Kernel{in, out, spec, whole, {}, nullptr}.launch().blocks();
  const index_t ranges = blocks_of(Kernel::source::most(in, spec), range_keys);
  if (ranges <= 1) {
    b.launch(Kernel{in, out, spec, whole, {0, tiles, tiles}, nullptr});
  } else if (splits_keys(in, spec, tiles, ranges)) {
    launch_few_rows(b, in, out, ranges, [&](const auto& parts) {
      return Kernel{in, out, spec, parts, {0, tiles, tiles}, nullptr};
    });
  } else {
    constexpr index_t numbers = index_t{Kernel::kept} * Kernel::threads;
    constexpr index_t fit = (index_t{1} << 24) / numbers, most = fit > 132 ? fit : 132;
    const scope freed(b.workspace());
    const index_t part = tiles < most ? tiles : most;
    float* const between = b.workspace().template make<float, dyn>(part * numbers).data();
    for (index_t first = 0; first < tiles; first += part) {
      const index_t count = tiles - first < part ? tiles - first : part;
      b.launch(Kernel{in, out, spec, whole, {first, count, tiles}, between});
    }
  }
}

// Whether warp groups took it.
template <class W, class B, class In, class Out, class Spec>
bool launch_latent_groups(const B& b, const In& in, const Out& out, const Spec& spec) {
  if constexpr (bulk::TileBackend<B>) {
    using T = typename decltype(out.o)::value_type;
    using shape = tensor_shape<T, W::width, W::value_width, 4, 1>;
    using rows = tensor_forward<shape, In, Out, Spec>;
    using kernel = group_latent_forward<rows>;
    if (!b.has_warp_groups() || !rows_mapped(in.q) || !rows_mapped(in.k) ||
        spec.pages.size % key_tile != 0) {
      return false;
    }
    const head_parts cut = head_parts::of(in.q.extent(1) / in.k.extent(1), shape::rows);
    const rows all{in, out, spec, {}};
    kernel whole{all,
                 b.tile_map(tiles_of(in.q, cut.heads, static_cast<int>(cut.queries))),
                 b.tile_map(tiles_of(in.k, 1, key_tile)),
                 all.blocks(),
                 b.multiprocessors(),
                 nullptr};
    const index_t keys = spec.pages.size > 0 ? spec.keys : in.k.extent(0);
    const index_t ranges = blocks_of(keys, range_keys);
    if (ranges > 1 && splits_keys(in, spec, whole.tasks, ranges)) {
      launch_few_rows(b, in, out, ranges, [&](const auto& parts) {
        const rows cut_rows{in, out, spec, parts};
        return kernel{cut_rows, whole.q, whole.k, cut_rows.blocks(), whole.most_blocks, nullptr};
      });
      return true;
    }
    const scope freed(b.workspace());
    if (ranges > 1) {
      const index_t numbers = whole.blocks() * kernel::kept * kernel::readers;
      whole.between = b.workspace().template make<float, dyn>(numbers).data();
    }
    b.launch(whole);
    return true;
  } else {
    return false;
  }
}

// Blocks of up to 64 rows, where `rows` of them have work and their shared memory can be had.
template <class W, template <class, class, int> class Source, class B, class In, class Out,
          class Spec>
void launch_latent_rows(const B& b, const In& in, const Out& out, const Spec& spec, index_t rows) {
  using T = typename decltype(out.o)::value_type;
  constexpr int d = W::width, dv = W::value_width;
  using one = latent_forward<latent_shape<T, d, dv, 1>, In, Out, Spec, Source>;
  using two = latent_forward<latent_shape<T, d, dv, 2>, In, Out, Spec, Source>;
  using four = latent_forward<latent_shape<T, d, dv, 4>, In, Out, Spec, Source>;
  const std::size_t most = most_shared_bytes(b);
  if (rows > 32 && four::shared_bytes() <= most) return launch_latent<four>(b, in, out, spec);
  if (rows > 16 && two::shared_bytes() <= most) return launch_latent<two>(b, in, out, spec);
  launch_latent<one>(b, in, out, spec);
}

// Rows of a block that has heads of one query: as many as leave 128 blocks, since ranges of a list
// are few; the bits are the same. Reasoned, not measured.
template <class In>
index_t rows_of_query(const In& in, index_t ranges) {
  const index_t group = in.q.extent(1) / in.k.extent(1);
  const auto blocks = [&](index_t rows) {
    return in.q.extent(0) * in.k.extent(1) * blocks_of(group, rows) * ranges;
  };
  if (group > 32 && blocks(64) >= 128) return group;
  return group > 16 && blocks(32) >= 128 ? 32 : 16;
}

// Whether listed keys were gathered.
template <class W, class B, class In, class Out, class Spec>
bool launch_chosen(const B& b, const In& in, const Out& out, const Spec& spec) {
  using chosen = listing<std::remove_cvref_t<decltype(spec.pattern)>>;
  if constexpr (chosen::exists) {
    const index_set& list = chosen::of(spec.pattern);
    if (list.order != index_order::ascending) return false;
    const index_t rows = rows_of_query(in, count_ranges(spec, list.count));
    launch_latent_rows<W, chosen_keys>(b, in, out, spec, rows);
    return true;
  } else {
    return false;
  }
}

// Whether tensor cores took it.
template <class B, class In, class Out, class Spec>
bool run_latent_forward(const B& b, const In& in, const Out& out, const Spec& spec) {
  if constexpr (tensor_types<decltype(in.q), decltype(in.k), decltype(in.v), decltype(out.o)>) {
    if (!begins_key(in.k, in.v) || !rows_aligned(in.q) || !rows_aligned(in.k) ||
        !rows_aligned(out.o)) {
      return false;
    }
    const auto run = [&](auto w) {
      using W = decltype(w);
      if (launch_chosen<W>(b, in, out, spec) || launch_latent_groups<W>(b, in, out, spec)) return;
      launch_latent_rows<W, placed_keys>(b, in, out, spec, rows_of_head(in, spec));
    };
    if constexpr (can_have<latent_and_rope, In>) {
      if (has_widths<latent_and_rope>(in)) return run(latent_and_rope{}), true;
    }
    if constexpr (can_have<latent_alone, In>) {
      if (has_widths<latent_alone>(in)) return run(latent_alone{}), true;
    }
    return false;
  } else {
    return false;
  }
}

}  // namespace deepseek::cuda_attention
