// SPDX-License-Identifier: Apache-2.0
// The launch of latent_forward.hpp: how many rows a block has, and whether ranges of keys have
// blocks of their own.
#pragma once

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

// Ranges get blocks of their own where the rows alone would leave the device idle and the sums of
// all ranges stay small (256 MiB).
template <class In, class Spec>
bool splits_keys(const In& in, const Spec& spec, index_t tiles, index_t ranges) {
  return spec.query_offsets.extent(0) == 0 && tiles <= 264 &&
         in.q.extent(0) * in.q.extent(1) * ranges <= index_t{1} << 17;
}

template <class Kernel, class B, class In, class Out, class Spec>
void launch_latent(const B& b, const In& in, const Out& out, const Spec& spec) {
  const range_parts<typename B::space> whole;
  const index_t tiles = Kernel{in, out, spec, whole, {}, nullptr}.launch().blocks();
  const index_t keys = spec.pages.size > 0 ? spec.keys : in.k.extent(0);
  const index_t ranges = blocks_of(keys, range_keys);
  if (ranges <= 1) {
    b.launch(Kernel{in, out, spec, whole, {0, tiles, tiles}, nullptr});
  } else if (splits_keys(in, spec, tiles, ranges)) {
    launch_few_rows(b, in, out, spec, [&](const auto& parts) {
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

// Whether tensor cores took it.
template <class B, class In, class Out, class Spec>
bool run_latent_forward(const B& b, const In& in, const Out& out, const Spec& spec) {
  if constexpr (tensor_types<decltype(in.q), decltype(in.k), decltype(in.v), decltype(out.o)>) {
    using T = typename decltype(out.o)::value_type;
    if (!begins_key(in.k, in.v) || !rows_aligned(in.q) || !rows_aligned(in.k) ||
        !rows_aligned(out.o)) {
      return false;
    }
    const index_t rows = rows_of_head(in, spec);
    const std::size_t most = most_shared_bytes(b);
    const auto run = [&](auto w) {
      using W = decltype(w);
      using one = latent_forward<latent_shape<T, W::width, W::value_width, 1>, In, Out, Spec>;
      using two = latent_forward<latent_shape<T, W::width, W::value_width, 2>, In, Out, Spec>;
      using four = latent_forward<latent_shape<T, W::width, W::value_width, 4>, In, Out, Spec>;
      if (rows > 32 && four::shared_bytes() <= most) return launch_latent<four>(b, in, out, spec);
      if (rows > 16 && two::shared_bytes() <= most) return launch_latent<two>(b, in, out, spec);
      launch_latent<one>(b, in, out, spec);
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
