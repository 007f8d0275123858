// SPDX-License-Identifier: Apache-2.0
// latent_attention on the device, from its products and attention; see ops/latent_attention.hpp.
// bf16 and f16 with rows of 576 (or 512) of which 512 are the latent, aligned to 16 bytes: tensor
// cores, so the absorbed queries and the sums of latents are rounded to that type; all else keeps
// them in accumulate_t and takes plain multiply-adds.
#pragma once

#include "deepseek/backend/cuda/attention.hpp"
#include "deepseek/backend/cuda/elements.hpp"
#include "deepseek/backend/cuda/gemm.hpp"
#include "deepseek/backend/rows/latent_attention.hpp"

namespace deepseek {

template <DeviceBackend B, class In, class W, class Out, class Spec>
void latent_attention_impl(const B& b, const In& in, const W& w, const Out& out, const Spec& spec) {
  using T = typename decltype(out.o)::value_type;
  if constexpr (cuda_attention::tensor_types<decltype(out.o), decltype(in.q_nope),
                                             decltype(in.q_pe), decltype(in.kv), decltype(w.w_uk),
                                             decltype(w.w_uv)>) {
    const bool aligned = in.kv.stride(1) == 1 && in.kv.stride(0) % 8 == 0 &&
                         reinterpret_cast<std::uintptr_t>(in.kv.data()) % 16 == 0;
    if (aligned && cuda_attention::has_latent_kernel(in.kv.extent(1), w.w_uk.extent(2))) {
      return absorbed_attention<T>(b, in, w, out, spec);
    }
  }
  absorbed_attention<accumulate_t<T>>(b, in, w, out, spec);
}

}  // namespace deepseek
