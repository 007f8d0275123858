// SPDX-License-Identifier: Apache-2.0
// latent_attention on the host backends, from their own products and attention; on the reference
// backend all are plain loops. See ops/latent_attention.hpp.
#pragma once

#include "deepseek/backend/reference/attention.hpp"
#include "deepseek/backend/reference/copy.hpp"
#include "deepseek/backend/reference/gemm.hpp"
#include "deepseek/backend/rows/latent_attention.hpp"

namespace deepseek {

template <class B, class In, class W, class Out, class Spec>
requires std::is_base_of_v<reference, B>
void latent_attention_impl(const B& b, const In& in, const W& w, const Out& out, const Spec& spec) {
  using A = accumulate_t<typename decltype(out.o)::value_type>;
  absorbed_attention<A>(b, in, w, out, spec);
}

}  // namespace deepseek
