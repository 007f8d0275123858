// SPDX-License-Identifier: Apache-2.0
// attention_sink and attention_merge on the reference backend, query by query and head by head; see
// ops/attention_sink.hpp and ops/attention_merge.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/rows/attention_sink.hpp"
#include "deepseek/ops/attention_merge.hpp"
#include "deepseek/ops/attention_sink.hpp"

namespace deepseek {

// One query: all its heads.
template <class Sinks, class Out>
void attention_sink_query(const Sinks& sinks, const Out& out, index_t i) {
  using L = typename decltype(out.lse)::value_type;
  using A = accumulate_t<typename decltype(out.o)::value_type>;
  for (index_t h = 0; h < out.o.extent(1); ++h) {
    out.lse(i, h) = static_cast<L>(attention_sink_row(serial_team{}, static_cast<A>(sinks(h)),
                                                      static_cast<A>(out.lse(i, h)),
                                                      slice(slice(out.o, i), h)));
  }
}
template <class Sinks, class Out>
void attention_sink_impl(const reference&, const Sinks& sinks, const Out& out) {
  for (index_t i = 0; i < out.o.extent(0); ++i) attention_sink_query(sinks, out, i);
}

// The gradient of one head's sink: over the queries in order, 16 sums at a time.
template <class A, class Sinks, class Out, class DO>
A attention_sink_head(const Sinks& sinks, const Out& out, const DO& d_o, index_t h) {
  return row_sum(serial_team{}, out.o.extent(0), [&](index_t i) {
    const A sink = static_cast<A>(sinks(h));
    const bool absent = sink == -std::numeric_limits<A>::infinity();
    const A share = absent ? A(0) : share_of(sink, static_cast<A>(out.lse(i, h)));
    return -attention_sink_slope(serial_team{}, share, slice(slice(out.o, i), h),
                                 slice(slice(d_o, i), h));
  });
}
template <class Sinks, class Out, class DO, class DS>
void attention_sink_backward_impl(const reference&, const Sinks& sinks, const Out& out,
                                  const DO& d_o, const DS& dsinks) {
  using T = typename DS::value_type;
  using A = accumulate_t<T>;
  for (index_t h = 0; h < sinks.extent(0); ++h) {
    dsinks(h) =
        static_cast<T>(static_cast<A>(dsinks(h)) + attention_sink_head<A>(sinks, out, d_o, h));
  }
}

template <class From, class Into>
void attention_merge_query(const From& from, const Into& into, index_t i) {
  using L = typename decltype(into.lse)::value_type;
  using A = accumulate_t<typename decltype(into.o)::value_type>;
  for (index_t h = 0; h < into.o.extent(1); ++h) {
    const log_sums<A> lse{static_cast<A>(from.lse(i, h)), static_cast<A>(into.lse(i, h))};
    into.lse(i, h) = static_cast<L>(attention_merge_row(
        serial_team{}, lse, slice(slice(from.o, i), h), slice(slice(into.o, i), h)));
  }
}
template <class From, class Into>
void attention_merge_impl(const reference&, const From& from, const Into& into) {
  for (index_t i = 0; i < into.o.extent(0); ++i) attention_merge_query(from, into, i);
}

}  // namespace deepseek
