// SPDX-License-Identifier: Apache-2.0
// How attention forward is launched on warp groups where the device has them (group_forward.hpp):
// heads of 64 or 128 elements, strides that a tensor map can say, keys in order or in pages of a
// multiple of 64. Nothing here depends on how many queries there are: a query alone and in a batch
// take one way.
#pragma once

#include "deepseek/backend/cuda/attention/group_forward.hpp"
#include "deepseek/backend/cuda/attention/tensor_launch.hpp"

namespace deepseek::cuda_attention {

// Tiles of `heads` heads of `tokens` tokens, 64 columns each.
template <class View>
bulk::tile_source tiles_of(const View& x, int heads, int tokens) {
  const auto step = [&](int i) -> index_t {
    return 2 * (x.extent(i) == 1 ? x.extent(2) : x.stride(i));
  };
  return {
      x.data(), {x.extent(2), x.extent(1), x.extent(0)}, {step(1), step(0)}, {64, heads, tokens}};
}

// A tile map can say what rows_aligned holds of.
template <class View>
bool rows_mapped(const View& x) {
  return bulk::can_map(tiles_of(x, 1, 1));
}

// Whether warp groups took it.
template <class W, class B, class In, class Out, class Spec>
bool launch_groups(const B& b, const In& in, const Out& out, const Spec& spec) {
  constexpr bool widths = W::width == W::value_width && W::width % 64 == 0;
  if constexpr (bulk::TileBackend<B> && widths) {
    using T = typename decltype(out.o)::value_type;
    using rows = tensor_forward<tensor_shape<T, W::width, W::value_width, 8, 1>, In, Out, Spec>;
    if (!b.has_warp_groups() || !rows_mapped(in.q) || !rows_mapped(in.k) || !rows_mapped(in.v) ||
        spec.pages.size % key_tile != 0) {
      return false;
    }
    const head_parts cut = head_parts::of(in.q.extent(1) / in.k.extent(1),
                                          tensor_shape<T, W::width, W::value_width, 8, 1>::rows);
    const auto kernel_of = [&](const range_parts<typename B::space>& parts) {
      const rows r{in, out, spec, parts};
      return group_forward<rows>{
          r,
          b.tile_map(tiles_of(in.q, cut.heads, static_cast<int>(cut.queries))),
          b.tile_map(tiles_of(in.k, 1, key_tile)),
          b.tile_map(tiles_of(in.v, 1, key_tile)),
          r.blocks(),
          b.multiprocessors()};
    };
    if (rows_of_head(in, spec) > 16) {
      b.launch(kernel_of({}));
    } else {
      launch_few_rows(b, in, out, count_ranges(in, spec), kernel_of);
    }
    return true;
  } else {
    return false;
  }
}

}  // namespace deepseek::cuda_attention
