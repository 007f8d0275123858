// SPDX-License-Identifier: Apache-2.0
// attention_sink on the device: the row body of backend/rows, a warp (or a block) for each query
// and head; see ops/attention_sink.hpp.
#pragma once

#include "deepseek/backend/cuda/column_sums.hpp"
#include "deepseek/backend/rows/attention_sink.hpp"
#include "deepseek/ops/attention_sink.hpp"

namespace deepseek {

namespace cuda_attention_sink {

// Row r of [queries, heads, ...].
template <class V>
DEEPSEEK_HOST_DEVICE auto head_row(const V& v, index_t r) {
  return slice(slice(v, r / v.extent(1)), r % v.extent(1));
}

template <class Sinks, class Out>
struct forward {
  using A = accumulate_t<typename decltype(Out::o)::value_type>;
  Sinks sinks;
  Out out;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t r) const {
    const index_t i = r / out.o.extent(1), h = r % out.o.extent(1);
    const A whole = attention_sink_row(team, static_cast<A>(sinks(h)),
                                       static_cast<A>(out.lse(i, h)), head_row(out.o, r));
    team.sync();  // all have read lse
    if (team.rank() == 0)
      out.lse(i, h) = static_cast<typename decltype(out.lse)::value_type>(whole);
  }
};

// What each query gives to the gradient of its head's sink.
template <class Sinks, class Out, class DO, class Terms>
struct slopes {
  using A = typename Terms::value_type;
  Sinks sinks;
  Out out;
  DO d_o;
  Terms terms;  // [queries, heads]
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t r) const {
    constexpr A nothing = -math::infinity<A>;
    const index_t i = r / out.o.extent(1), h = r % out.o.extent(1);
    const A sink = static_cast<A>(sinks(h));
    const A share = sink == nothing ? A(0) : share_of(sink, static_cast<A>(out.lse(i, h)));
    const A slope = attention_sink_slope(team, share, head_row(out.o, r), head_row(d_o, r));
    if (team.rank() == 0) terms(i, h) = -slope;
  }
};

}  // namespace cuda_attention_sink

template <DeviceBackend B, class Sinks, class Out>
void attention_sink_impl(const B& b, const Sinks& sinks, const Out& out) {
  run_each_row(b, out.lse.size(), out.o.extent(2),
               cuda_attention_sink::forward<Sinks, Out>{sinks, out});
}

template <DeviceBackend B, class Sinks, class Out, class DO, class DS>
void attention_sink_backward_impl(const B& b, const Sinks& sinks, const Out& out, const DO& d_o,
                                  const DS& dsinks) {
  using A = accumulate_t<typename DS::value_type>;
  using Terms = view<A, typename B::space, dyn, dyn>;
  const index_t queries = out.o.extent(0), heads = out.o.extent(1);
  const scope freed(b.workspace());
  const Terms terms = b.workspace().template make<A, dyn, dyn>(queries, heads);
  run_each_row(b, queries * heads, out.o.extent(2),
               cuda_attention_sink::slopes<Sinks, Out, DO, Terms>{sinks, out, d_o, terms});
  add_term_columns(b, queries, cuda_column_sums::element_term<Terms, A>{terms}, dsinks);
}

}  // namespace deepseek
