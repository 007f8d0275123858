// SPDX-License-Identifier: Apache-2.0
// attention and its backward on the device; see ops/attention.hpp. bf16 and f16 with heads of 64,
// 96, 128 elements (or keys of 192 and values of 128), rows aligned to 16 bytes: tensor cores
// (attention/tensor_forward.hpp, tensor_backward.hpp); forward also keys of 576 or 512 whose first
// 512 elements are the values (attention/latent_forward.hpp); all else plain multiply-adds of any
// types, widths and strides (attention/forward.hpp, backward.hpp). Forward on sm_90a: warp groups
// where they can be had (attention/group_launch.hpp, latent_launch.hpp). Listed keys (index_set)
// are gathered, not read in tiles, by latent attention and where 8 heads share a key-value head. A
// decode step gives ranges of 512 keys to blocks of their own, to the same bits. Not measured on
// hardware yet.
#pragma once

#include "deepseek/backend/cuda/attention/backward.hpp"
#include "deepseek/backend/cuda/attention/forward.hpp"
#include "deepseek/backend/cuda/attention/group_launch.hpp"
#include "deepseek/backend/cuda/attention/latent_launch.hpp"
#include "deepseek/backend/cuda/attention/tensor_key_gradients.hpp"
#include "deepseek/backend/cuda/attention/tensor_query_gradients.hpp"
#include "deepseek/backend/cuda/elementwise.hpp"

namespace deepseek {

namespace cuda_attention {

// f(widths) for the widths that have kernels; false: there are none for these.
template <class In, class F>
bool with_widths(const In& in, const F& f) {
  bool taken = false;
  const auto offer = [&](auto w) {
    if constexpr (can_have<decltype(w), In>) {
      if (!taken && has_widths<decltype(w)>(in)) f(w), taken = true;
    }
  };
  offer(widths<64, 64>{}), offer(widths<96, 96>{});
  offer(widths<128, 128>{}), offer(widths<192, 128>{});
  return taken;
}

// Many rows: blocks of 128 where their shared memory can be had, else of 64.
template <class W, class B, class In, class Out, class Spec>
void launch_rows(const B& b, const In& in, const Out& out, const Spec& spec) {
  using T = typename decltype(out.o)::value_type;
  const range_parts<typename B::space> whole;
  // Two blocks of rows a warp would not leave wider heads their registers.
  constexpr int m = W::width == 64 ? 2 : 1;
  using large = tensor_forward<tensor_shape<T, W::width, W::value_width, 8 / m, m>, In, Out, Spec>;
  const large kernel{in, out, spec, whole};
  if constexpr (m == 1) {
    using small = tensor_forward<tensor_shape<T, W::width, W::value_width, 4, 1>, In, Out, Spec>;
    if (kernel.shared_bytes() > most_shared_bytes(b)) {
      b.launch(small{in, out, spec, whole});
      return;
    }
  }
  b.launch(kernel);
}

// So many heads share a key-value head that a list of their keys is gathered.
inline constexpr index_t fewest_gathering = 8;

// Whether listed keys were gathered: blocks of 16 or 64 heads of one query.
template <class W, class B, class In, class Out, class Spec>
bool launch_chosen_heads(const B& b, const In& in, const Out& out, const Spec& spec) {
  if constexpr (std::same_as<std::remove_cvref_t<decltype(spec.pattern)>, index_set>) {
    using T = typename decltype(out.o)::value_type;
    const index_t group = in.q.extent(1) / in.k.extent(1), count = spec.pattern.count;
    if (group < fewest_gathering || spec.pattern.order != index_order::ascending) return false;
    const auto launch = [&](auto warps) {
      using shape = tensor_shape<T, W::width, W::value_width, decltype(warps)::value, 1>;
      using kernel = tensor_forward<shape, In, Out, Spec, chosen_keys>;
      const index_t ranges = blocks_of(count, range_keys);
      const index_t tiles = kernel{in, out, spec, {}}.blocks();
      const bool cut = ranges > 1 && splits_keys(in, spec, tiles, ranges);
      launch_few_rows(b, in, out, cut ? ranges : 1, [&](const auto& parts) {
        return kernel{in, out, spec, parts};
      });
    };
    group > 16 ? launch(std::integral_constant<int, 4>{})
               : launch(std::integral_constant<int, 1>{});
    return true;
  } else {
    return false;
  }
}

// Whether tensor cores took it.
template <class B, class In, class Out, class Spec>
bool run_tensor_forward(const B& b, const In& in, const Out& out, const Spec& spec) {
  if constexpr (tensor_types<decltype(in.q), decltype(in.k), decltype(in.v), decltype(out.o)>) {
    using T = typename decltype(out.o)::value_type;
    if (!rows_aligned(in.q) || !rows_aligned(in.k) || !rows_aligned(in.v) || !rows_aligned(out.o)) {
      return false;
    }
    return with_widths(in, [&](auto w) {
      using W = decltype(w);
      if (launch_chosen_heads<W>(b, in, out, spec) || launch_groups<W>(b, in, out, spec)) return;
      if (rows_of_head(in, spec) > 16) return launch_rows<W>(b, in, out, spec);
      using shape = tensor_shape<T, W::width, W::value_width, 1, 1>;
      launch_few_rows(b, in, out, count_ranges(in, spec), [&](const auto& parts) {
        return tensor_forward<shape, In, Out, Spec>{in, out, spec, parts};
      });
    });
  } else {
    return false;
  }
}

// Whether tensor cores took it.
template <class B, class Inputs, class G>
bool run_tensor_backward(const B& b, const Inputs& from, const G& g) {
  using In = decltype(from.in);
  if constexpr (tensor_types<decltype(In::q), decltype(In::k), decltype(In::v), decltype(g.d_o),
                             decltype(g.dq), decltype(g.dk), decltype(g.dv)>) {
    using T = typename decltype(g.dq)::value_type;
    using DQ = std::remove_cvref_t<decltype(g.dq)>;
    using DK = std::remove_cvref_t<decltype(g.dk)>;
    using DV = std::remove_cvref_t<decltype(g.dv)>;
    const auto& in = from.in;
    if (!rows_aligned(in.q) || !rows_aligned(in.k) || !rows_aligned(in.v) || !rows_aligned(g.d_o) ||
        !rows_aligned(g.dq) || !rows_aligned(g.dk) || !rows_aligned(g.dv) || in.q.extent(1) == 0) {
      return false;
    }
    return with_widths(in, [&](auto w) {
      using W = decltype(w);
      using shape = gradient_shape<T, W::width, W::value_width>;
      b.launch(tensor_query_gradients<shape, Inputs, DQ>{from, g.dq});
      b.launch(tensor_key_gradients<shape, Inputs, DK, DV>{from, g.dk, g.dv});
    });
  } else {
    return false;
  }
}

}  // namespace cuda_attention

template <DeviceBackend B, class In, class Out, class Spec>
void attention_impl(const B& b, const In& in, const Out& out, const Spec& spec) {
  if (cuda_attention::run_tensor_forward(b, in, out, spec)) return;
  if (cuda_attention::run_latent_forward(b, in, out, spec)) return;
  b.launch(cuda_attention::pair_forward<In, Out, Spec>{in, out, spec});
}

template <DeviceBackend B, class In, class Out, class G, class Spec>
void attention_backward_impl(const B& b, const In& in, const Out& out, const G& g,
                             const Spec& spec) {
  namespace parts = cuda_attention;
  using A = accumulate_t<typename decltype(g.dq)::value_type>;
  using D = view<A, typename B::space, dyn, dyn>;
  using DO = std::remove_cvref_t<decltype(g.d_o)>;
  using Inputs = parts::backward_inputs<In, std::remove_cvref_t<decltype(out.lse)>, DO, D, Spec>;
  const index_t queries = in.q.extent(0), heads = in.q.extent(1);
  const scope freed(b.workspace());
  const D delta = b.workspace().template make<A, dyn, dyn>(queries, heads);
  run_each_row(
      b, queries * heads, out.o.extent(2),
      parts::output_dots<std::remove_cvref_t<decltype(out.o)>, DO, D>{out.o, g.d_o, delta});
  const Inputs from{in, out.lse, g.d_o, delta, spec};
  if (parts::run_tensor_backward(b, from, g)) return;
  b.launch(parts::query_gradients<Inputs, std::remove_cvref_t<decltype(g.dq)>>{from, g.dq});
  b.launch(parts::key_gradients<Inputs, std::remove_cvref_t<decltype(g.dk)>,
                                std::remove_cvref_t<decltype(g.dv)>>{from, g.dk, g.dv});
}

}  // namespace deepseek
