// SPDX-License-Identifier: Apache-2.0
// A team: the workers that share one row. Row bodies (backend/rows/) are written once over a team:
// worker `rank()` of `size()` takes elements rank, rank + size, ..., and the team combines.
// sum, max, broadcast: every worker calls them together and gets the same value back.
// sync: what was written before is seen by all after. serial_team is a team of one, for the CPU.
#pragma once

#include "deepseek/config.hpp"

#include <concepts>

namespace deepseek {

template <class T>
concept Team = requires(const T& team, float x) {
  { team.rank() } -> std::convertible_to<int>;
  { team.size() } -> std::convertible_to<int>;
  team.sync();
  { team.sum(x) } -> std::same_as<float>;
  { team.max(x) } -> std::same_as<float>;
  { team.broadcast(x) } -> std::same_as<float>;  // the value of worker 0
};

struct serial_team {
  DEEPSEEK_HOST_DEVICE static constexpr int rank() { return 0; }
  DEEPSEEK_HOST_DEVICE static constexpr int size() { return 1; }
  DEEPSEEK_HOST_DEVICE static constexpr void sync() {}
  template <class X>
  DEEPSEEK_HOST_DEVICE static constexpr X sum(X x) {
    return x;
  }
  template <class X>
  DEEPSEEK_HOST_DEVICE static constexpr X max(X x) {
    return x;
  }
  template <class X>
  DEEPSEEK_HOST_DEVICE static constexpr X broadcast(X x) {
    return x;
  }
};
static_assert(Team<serial_team>);

}  // namespace deepseek
