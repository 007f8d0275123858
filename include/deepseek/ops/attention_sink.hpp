// SPDX-License-Identifier: Apache-2.0
// attention_sink: a learned logit a_h for each head that enters the softmax's denominator only.
//   o_ih <- o_ih / (1 + e^(a_h - lse_ih));  lse_ih <- log(e^lse_ih + e^a_h), in place, after any
//   attention: o[queries, heads, dv], lse[queries, heads], sinks[heads]. No key: o = 0, lse = a_h.
// Backward. With lse after the sink, p_ij = e^(s_ij - lse_i) and o_i = sum_j p_ij v_j hold, the
// sink being one more key of value 0: ds_ij = p_ij (do_i . v_j - do_i . o_i). So attention_backward
// takes o and lse as they are now, and dsinks_h += - sum_i e^(a_h - lse_ih) do_ih . o_ih is all
// that is new. In accumulate_t, rounded once; sums over queries in fixed order. a = -inf: no sink.
// Errors: shape_mismatch, invalid_argument. Bits do not depend on threads. Cost: 1 pass over o.
// Sources: DeepSeek-V4's published inference code as ported by others; FlashMLA's tests.
#pragma once

#include "deepseek/ops/attention.hpp"

namespace deepseek {

namespace attention_checks {

template <class Out, class Sinks>
void require_sinks(const Out& out, const Sinks& sinks) {
  static_assert(decltype(out.o)::rank == 3 && decltype(out.lse)::rank == 2 && Sinks::rank == 1,
                "deepseek::attention_sink: wrong ranks; pass o[queries, heads, dv], lse[queries, "
                "heads], sinks[heads]");
  require_extent(out.lse, 0, out.o.extent(0), "attention_sink: lse");
  require_extent(out.lse, 1, out.o.extent(1), "attention_sink: lse");
  require_extent(sinks, 0, out.o.extent(1), "attention_sink: sinks");
  require_data(out.o, "attention_sink: o");
  require_data(out.lse, "attention_sink: lse");
  require_data(sinks, "attention_sink: sinks");
}

}  // namespace attention_checks

struct attention_sink_op {
  static constexpr std::string_view name = "attention_sink";

  template <class B, class Sinks, class Out>
  void operator()(const B& b, const Sinks& sinks_in, const Out& out) const {
    const auto sinks = as_const(as_view(sinks_in));
    const attention_outputs to{as_view(out.o), as_view(out.lse)};
    check_spaces(b, sinks, to.o, to.lse);
    attention_checks::require_sinks(to, sinks);
    if (!to.lse.empty()) attention_sink_impl(b, sinks, to);
  }
};

struct attention_sink_backward_op {
  static constexpr std::string_view name = "attention_sink_backward";

  // `out` holds what attention_sink left; dsinks is added to.
  template <class B, class Sinks, class Out, class DO, class DS>
  void operator()(const B& b, const Sinks& sinks_in, const Out& out, const DO& d_o_in,
                  DS&& dsinks_in) const {
    const auto sinks = as_const(as_view(sinks_in));
    const attention_outputs from{as_const(as_view(out.o)), as_const(as_view(out.lse))};
    const auto d_o = as_const(as_view(d_o_in));
    const auto dsinks = as_view(dsinks_in);
    check_spaces(b, sinks, from.o, from.lse, d_o, dsinks);
    attention_checks::require_sinks(from, sinks);
    require_same_shape(d_o, from.o, "attention_sink_backward: d_o");
    require_same_shape(dsinks, sinks, "attention_sink_backward: dsinks");
    require_data(d_o, "attention_sink_backward: d_o");
    require_data(dsinks, "attention_sink_backward: dsinks");
    if (!from.lse.empty()) attention_sink_backward_impl(b, sinks, from, d_o, dsinks);
  }
};

namespace ops {
inline constexpr attention_sink_op attention_sink{};
inline constexpr attention_sink_backward_op attention_sink_backward{};
}  // namespace ops

}  // namespace deepseek
