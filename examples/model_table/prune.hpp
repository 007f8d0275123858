// SPDX-License-Identifier: Apache-2.0
// Pruning by magnitude of the base model's linear weights (matrices; not the embedding, routers,
// norms). Sources: Han et al. 2015; Mishra et al. 2021 (n of m neighbours).
#pragma once

#include "table.hpp"

#include <algorithm>
#include <cmath>

namespace model_table {

// f(tensor) for every weight that is pruned; its rows are along the last extent.
template <class F>
void each_pruned(base_model& m, const F& f) {
  ds::visit(
      [&](const ds::tensor_name& at, auto& t) {
        using Tensor = std::remove_cvref_t<decltype(t)>;
        const bool routes = at.path.find("gate") != std::string::npos;
        const bool embeds = at.path == "embed.weight";
        if constexpr (std::is_same_v<typename Tensor::value_type, float>) {
          if (at.role == ds::field_role::trained && Tensor::rank > 1 && !routes && !embeds) f(t);
        }
      },
      m.parameters());
}

// Of each tensor the share of largest weights stays.
inline void keep_largest(base_model& m, double share) {
  each_pruned(m, [&](auto& t) {
    std::vector<float> sizes;
    for (ds::index_t i = 0; i < t.size(); ++i) sizes.push_back(std::fabs(t.data()[i]));
    const auto gone = static_cast<std::ptrdiff_t>((1 - share) * static_cast<double>(t.size()));
    std::nth_element(sizes.begin(), sizes.begin() + gone, sizes.end());
    const float least = sizes[static_cast<std::size_t>(gone)];
    for (ds::index_t i = 0; i < t.size(); ++i) {
      if (std::fabs(t.data()[i]) < least) t.data()[i] = 0;
    }
  });
}

// Of each m neighbours of a row the n largest stay; of equal ones the first.
inline void keep_n_of_m(base_model& m, ds::index_t n, ds::index_t of) {
  each_pruned(m, [&](auto& t) {
    for (ds::index_t first = 0; first + of <= t.size(); first += of) {
      float* w = t.data() + first;
      std::vector<ds::index_t> order(static_cast<std::size_t>(of));
      for (ds::index_t i = 0; i < of; ++i) order[static_cast<std::size_t>(i)] = i;
      std::stable_sort(order.begin(), order.end(), [&](ds::index_t a, ds::index_t b) {
        return std::fabs(w[a]) > std::fabs(w[b]);
      });
      for (auto i = order.begin() + n; i != order.end(); ++i) w[*i] = 0;
    }
  });
}

}  // namespace model_table
