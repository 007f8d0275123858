// SPDX-License-Identifier: Apache-2.0
// latent_attention on the device, from its products and attention; see ops/latent_attention.hpp.
#pragma once

#include "deepseek/backend/cuda/attention.hpp"
#include "deepseek/backend/cuda/elements.hpp"
#include "deepseek/backend/cuda/gemm.hpp"
#include "deepseek/backend/rows/latent_attention.hpp"

namespace deepseek {

template <DeviceBackend B, class In, class W, class Out, class Spec>
void latent_attention_impl(const B& b, const In& in, const W& w, const Out& out, const Spec& spec) {
  absorbed_attention(b, in, w, out, spec);
}

}  // namespace deepseek
