// SPDX-License-Identifier: Apache-2.0
// graph_of<B>::type: what records the launches of a backend and launches them again as one piece:
//   G g(b, f);  g.update(b, f);  g.launch(b);  g.empty()
// f launches and does nothing else: what it launched has not run when it returns. Allocating or
// reading back inside is an error. none: the backend has no graphs (host backends).
#pragma once

#include "deepseek/core/backend.hpp"

namespace deepseek {

template <class B>
struct graph_of {
  using type = none;
};
template <class B>
inline constexpr bool has_graphs = !std::is_same_v<typename graph_of<B>::type, none>;

}  // namespace deepseek
