// SPDX-License-Identifier: Apache-2.0
// head_sinks<H>: the sink logits of H attention heads, one tensor [H] named like the part itself
// (attn_sink).
// Kept in accumulate_t. First values are drawn like a weight's.
#pragma once

#include "deepseek/core/dtype.hpp"
#include "deepseek/layers/layer.hpp"
#include "deepseek/ops/attention_sink.hpp"

namespace deepseek {

enum class sinks { absent, present };

template <index_t H>
struct head_sinks {
  static constexpr index_t out = H;
  static constexpr const char* label = "attn_sink";

  template <class T, class S>
  struct parameters {
    using layer = head_sinks;
    tensor<accumulate_t<T>, S, H> logits;
    static constexpr auto fields() { return std::tuple{named("", &parameters::logits)}; }
  };
};

template <index_t H, sinks Sinks>
using head_sinks_or_absent = std::conditional_t<Sinks == sinks::present, head_sinks<H>, absent>;

}  // namespace deepseek
