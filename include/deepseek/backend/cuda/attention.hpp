// SPDX-License-Identifier: Apache-2.0
// attention and its backward on the device; see ops/attention.hpp.
#pragma once

#include "deepseek/backend/cuda/attention/backward.hpp"
#include "deepseek/backend/cuda/attention/forward.hpp"
#include "deepseek/backend/cuda/elementwise.hpp"

namespace deepseek {

template <DeviceBackend B, class In, class Out, class Spec>
void attention_impl(const B& b, const In& in, const Out& out, const Spec& spec) {
  b.launch(cuda_attention::pair_forward<In, Out, Spec>{in, out, spec});
}

template <DeviceBackend B, class In, class Out, class G, class Spec>
void attention_backward_impl(const B& b, const In& in, const Out& out, const G& g,
                             const Spec& spec) {
  namespace parts = cuda_attention;
  using A = accumulate_t<typename decltype(g.dq)::value_type>;
  using D = view<A, typename B::space, dyn, dyn>;
  using DO = std::remove_cvref_t<decltype(g.d_o)>;
  using Inputs =
      parts::backward_inputs<In, std::remove_cvref_t<decltype(out.lse)>, DO, D, Spec>;
  const index_t queries = in.q.extent(0), heads = in.q.extent(1);
  const scope freed(b.workspace());
  const D delta = b.workspace().template make<A, dyn, dyn>(queries, heads);
  run_each_row(b, queries * heads, out.o.extent(2),
               parts::output_dots<std::remove_cvref_t<decltype(out.o)>, DO, D>{out.o, g.d_o, delta});
  const Inputs from{in, out.lse, g.d_o, delta, spec};
  b.launch(parts::query_gradients<Inputs, std::remove_cvref_t<decltype(g.dq)>>{from, g.dq});
  b.launch(parts::key_gradients<Inputs, std::remove_cvref_t<decltype(g.dk)>,
                                std::remove_cvref_t<decltype(g.dv)>>{from, g.dk, g.dv});
}

}  // namespace deepseek
