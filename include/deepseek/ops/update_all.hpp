// SPDX-License-Identifier: Apache-2.0
// update_all: one step of ops/optimizer.hpp on every tensor of a list, with the bits of that op
// tensor by tensor. An item whose `decays` is false takes the step with weight_decay 0. The kind of
// step (adamw_step, sgd_step, lion_step, amf_step) says the rule, and how many states an item has:
// m v; buffer; m; m v buffer. Tensors are contiguous and do not overlap. On a device one launch
// does all of them; a host backend goes from one to the next.
// Errors: invalid_argument (rates, null data), shape_mismatch, unsupported (not contiguous), before
// anything is changed. Cost: each tensor read and written once. Source: ops/optimizer.hpp.
#pragma once

#include "deepseek/ops/optimizer.hpp"

#include <span>

namespace deepseek {

template <class P, class G, class S, int States>
struct update_item {
  static constexpr int states = States;
  view<P, S, dyn> p;
  view<const G, S, dyn> g;
  view<P, S, dyn> state[States];
  bool decays = true;
};

inline constexpr int states_of(const adamw_step&) {
  return 2;
}
inline constexpr int states_of(const sgd_step&) {
  return 1;
}
inline constexpr int states_of(const lion_step&) {
  return 1;
}
inline constexpr int states_of(const amf_step&) {
  return 3;
}

// The op of one tensor.
template <class B, class Item>
void update_one(const B& b, const Item& i, const adamw_step& step) {
  ops::adamw_update(b, i.p, i.g, moments{i.state[0], i.state[1]}, step);
}
template <class B, class Item>
void update_one(const B& b, const Item& i, const sgd_step& step) {
  ops::sgd_update(b, i.p, i.g, i.state[0], step);
}
template <class B, class Item>
void update_one(const B& b, const Item& i, const lion_step& step) {
  ops::lion_update(b, i.p, i.g, i.state[0], step);
}
template <class B, class Item>
void update_one(const B& b, const Item& i, const amf_step& step) {
  ops::amf_update(b, i.p, i.g, amf_moments{i.state[0], i.state[1], i.state[2]}, step);
}

template <class Step>
Step without_decay(Step step) {
  step.weight_decay = 0;
  return step;
}

struct update_all_op {
  static constexpr std::string_view name = "update_all";

  template <class B, class P, class G, class S, int States, class Step>
  void operator()(const B& b, std::span<const update_item<P, G, S, States>> items,
                  const Step& step) const {
    static_assert(States == states_of(Step{}),
                  "deepseek::update_all: the items have another number of states than this rule; "
                  "pass update_item<P, G, Space, states_of(step)>");
    detail::check_step(step);
    for (const auto& item : items) {
      check_one(b, item.p, item.p);
      check_one(b, item.g, item.p);
      for (const auto& state : item.state) check_one(b, state, item.p);
    }
    if (items.empty()) return;
    if constexpr (requires { update_all_impl(b, items, step); }) {
      update_all_impl(b, items, step);
    } else {
      for (const auto& item : items) {
        update_one(b, item, item.decays ? step : without_decay(step));
      }
    }
  }

 private:
  template <class B, class V, class P>
  static void check_one(const B& b, const V& v, const P& p) {
    check_spaces(b, v);
    require_extent(v, 0, p.extent(0), "update_all: g or state");
    require_data(v, "update_all: p, g or state");
    require(v.contiguous(), error_code::unsupported,
            "update_all: a tensor is not contiguous; update it alone");
  }
};
namespace ops {
inline constexpr update_all_op update_all{};
}

}  // namespace deepseek
