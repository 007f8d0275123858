// SPDX-License-Identifier: Apache-2.0
// Rows of table[vocab, dim] by id; the gradient of the table adds the rows of g that used it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace oracle {

inline std::vector<double> embedding(const std::vector<double>& table,
                                     const std::vector<std::int64_t>& ids, std::size_t dim) {
  std::vector<double> y;
  for (std::int64_t id : ids) {
    for (std::size_t c = 0; c < dim; ++c) {
      y.push_back(table.at(static_cast<std::size_t>(id) * dim + c));
    }
  }
  return y;
}

inline std::vector<double> embedding_backward(const std::vector<double>& g,
                                              const std::vector<std::int64_t>& ids,
                                              std::size_t vocab, std::size_t dim) {
  std::vector<double> d(vocab * dim);
  for (std::size_t t = 0; t < ids.size(); ++t) {
    for (std::size_t c = 0; c < dim; ++c) {
      d.at(static_cast<std::size_t>(ids[t]) * dim + c) += g.at(t * dim + c);
    }
  }
  return d;
}

}  // namespace oracle
