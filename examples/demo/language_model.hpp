// SPDX-License-Identifier: Apache-2.0
// The demo's language model on the CPU, and what is counted of it.
#pragma once

#include <deepseek/deepseek.hpp>

#include "net.hpp"

namespace demo {

using model = ds::model<net, float, ds::cpu>;

// Parameters that one token meets when the next is predicted: of the routed experts only the active
// ones, and nothing of what predicts further.
inline ds::index_t active_parameters(const model& m) {
  ds::index_t n = 0;
  ds::visit(
      [&](const ds::tensor_name& at, const auto& t) {
        if (at.role == ds::field_role::state || at.path.starts_with("mtp.")) return;
        const bool routed = at.path.find(".experts.") != std::string::npos;
        n += routed ? t.size() / experts.routed * experts.active : t.size();
      },
      m.parameters());
  return n;
}

// Of the layers that predict the next byte, in float; and of as many heads without latents.
inline constexpr ds::index_t cache_bytes_per_token = layers * latent.cache_width() * 4;
inline constexpr ds::index_t mha_cache_bytes_per_token =
    layers * latent.heads * (latent.key_dim() + latent.v_dim) * 4;

}  // namespace demo
