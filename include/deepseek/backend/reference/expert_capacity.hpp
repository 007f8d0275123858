// SPDX-License-Identifier: Apache-2.0
// expert_capacity on the reference backend: assignments in order of priority take the places; see
// ops/expert_capacity.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/reference/index_check.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/ops/expert_capacity.hpp"

#include <algorithm>
#include <limits>

namespace deepseek {

using capacity_counts = view<index_t, host, dyn>;

// A score that can be compared: NaN comes last.
template <class P>
double capacity_score(const P& scores, index_t t, index_t e) {
  const double s = convert_to<double>(scores(t, e));
  return s == s ? s : -std::numeric_limits<double>::infinity();
}

// The assignments t K + k in the order in which they take places.
template <class P, class I>
void order_assignments(const capacity_inputs<P, I>& in, const capacity_rule& rule,
                       const view<std::int32_t, host, dyn>& order) {
  const index_t tokens = in.ids.extent(0), choices = in.ids.extent(1);
  index_t next = 0;
  for (index_t k = 0; k < choices; ++k) {
    for (index_t t = 0; t < tokens; ++t) order(next++) = static_cast<std::int32_t>(t * choices + k);
  }
  if (rule.order == drop_order::by_position) return;
  const stream_key key = routing_stream(rule.draw);
  const auto priority = [&](std::int32_t a) {
    if (rule.order == drop_order::at_random) {
      return static_cast<double>(random_word(key, static_cast<std::uint64_t>(a)));
    }
    return capacity_score(in.scores, a / choices, in.ids(a / choices, a % choices));
  };
  const auto place = [&](std::int32_t a) { return a % choices * tokens + a / choices; };
  std::sort(order.data(), order.data() + order.extent(0), [&](std::int32_t a, std::int32_t b) {
    const double first = priority(a), second = priority(b);
    return first != second ? first > second : place(a) < place(b);
  });
}

// The best expert with room that token t neither chose nor got already; -1: none.
template <class P, class I, class Sent>
index_t next_expert(const capacity_inputs<P, I>& in, const Sent& sent, index_t t,
                    const capacity_counts& room) {
  index_t best = absent_index;
  for (index_t e = 0; e < room.extent(0); ++e) {
    bool met = room(e) <= 0;
    for (index_t k = 0; k < in.ids.extent(1) && !met; ++k) {
      met = in.ids(t, k) == e || sent(t, k) == e;
    }
    if (met) continue;
    if (best < 0 || capacity_score(in.scores, t, e) > capacity_score(in.scores, t, best)) best = e;
  }
  return best;
}

template <class P, class I, class Sent>
index_t reroute(const capacity_inputs<P, I>& in, const Sent& sent, const capacity_counts& room) {
  index_t found = 0;
  for (index_t k = 0; k < in.ids.extent(1); ++k) {
    for (index_t t = 0; t < in.ids.extent(0); ++t) {
      if (sent(t, k) >= 0) continue;
      const index_t e = next_expert(in, sent, t, room);
      if (e < 0) continue;
      sent(t, k) = static_cast<typename Sent::value_type>(e);
      --room(e);
      ++found;
    }
  }
  return found;
}

template <class P, class I, class Sent>
index_t expert_capacity_impl(const reference& b, const capacity_inputs<P, I>& in, const Sent& sent,
                             const capacity_rule& rule) {
  const index_t experts = in.scores.extent(1), choices = in.ids.extent(1);
  require_indices(in.ids, experts, "expert_capacity: ids");
  const scope freed(b.workspace());
  const capacity_counts room = b.workspace().template make<index_t, dyn>(experts);
  for (index_t e = 0; e < experts; ++e) room(e) = rule.capacity;
  const view<std::int32_t, host, dyn> order =
      b.workspace().template make<std::int32_t, dyn>(in.ids.size());
  order_assignments(in, rule, order);
  index_t kept = 0;
  for (index_t i = 0; i < order.extent(0); ++i) {
    const index_t t = order(i) / choices, k = order(i) % choices, e = in.ids(t, k);
    const bool fits = room(e) > 0;
    sent(t, k) = static_cast<typename Sent::value_type>(fits ? e : absent_index);
    room(e) -= fits ? 1 : 0;
    kept += fits ? 1 : 0;
  }
  return rule.then == overflow::passes ? kept : kept + reroute(in, sent, room);
}

}  // namespace deepseek
