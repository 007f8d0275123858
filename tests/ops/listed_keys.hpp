// SPDX-License-Identifier: Apache-2.0
// Tables of listed keys for the tests of attention over index_set.
#pragma once

#include "ops/attention_case.hpp"

#include "deepseek/pattern/index_set.hpp"

#include <algorithm>

namespace attention_test {

// Ascending, -1 last; every fifth query lists nothing, others 0 .. count causal keys.
struct table_of_keys {
  index_t count;
  std::vector<std::int32_t> ids;

  table_of_keys(const problem& p, index_t most) : count(most) {
    support::numbers from(case_name(p, "table"));
    const index_t start = p.start >= 0 ? p.start : p.m - p.n;
    for (index_t i = 0; i < p.n; ++i) {
      std::vector<std::int32_t> row;
      const index_t there = std::min(p.m, start + i + 1);
      for (index_t j = 0; j < there && i % 5 != 4; ++j) row.push_back(static_cast<std::int32_t>(j));
      while (static_cast<index_t>(row.size()) > most) {
        row.erase(row.begin() + static_cast<std::ptrdiff_t>(from.below(row.size())));
      }
      row.resize(static_cast<std::size_t>(most), -1);
      ids.insert(ids.end(), row.begin(), row.end());
    }
  }
  view<const std::int32_t, host, dyn, dyn> rows() const {
    return {ids.data(), {static_cast<index_t>(ids.size()) / count, count}};
  }
  index_set ascending() const { return index_set(rows(), index_order::ascending); }
  rule seen(const problem& p) const {
    const index_t start = p.start >= 0 ? p.start : p.m - p.n;
    return [this, start](index_t, index_t q, index_t k, index_t) {
      const auto row = ids.begin() + (q - start) * count;
      return std::find(row, row + count, static_cast<std::int32_t>(k)) != row + count;
    };
  }
};

}  // namespace attention_test
