// SPDX-License-Identifier: Apache-2.0
// attention_sink and attention_merge on the cpu: the reference's bodies on all threads, 16 queries
// or one head a task; the bits are those of the reference. See ops/attention_sink.hpp.
#pragma once

#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/attention_sink.hpp"

namespace deepseek {

template <class Sinks, class Out>
void attention_sink_impl(const cpu& b, const Sinks& sinks, const Out& out) {
  parallel_rows(b, out.o.extent(0), 16, [&](index_t first, index_t last) {
    for (index_t i = first; i < last; ++i) attention_sink_query(sinks, out, i);
  });
}

template <class Sinks, class Out, class DO, class DS>
void attention_sink_backward_impl(const cpu& b, const Sinks& sinks, const Out& out, const DO& d_o,
                                  const DS& dsinks) {
  using T = typename DS::value_type;
  using A = accumulate_t<T>;
  b.parallel(sinks.extent(0), [&](index_t h) {
    dsinks(h) =
        static_cast<T>(static_cast<A>(dsinks(h)) + attention_sink_head<A>(sinks, out, d_o, h));
  });
}

template <class From, class Into>
void attention_merge_impl(const cpu& b, const From& from, const Into& into) {
  parallel_rows(b, into.o.extent(0), 16, [&](index_t first, index_t last) {
    for (index_t i = first; i < last; ++i) attention_merge_query(from, into, i);
  });
}

}  // namespace deepseek
