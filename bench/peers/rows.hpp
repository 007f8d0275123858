// SPDX-License-Identifier: Apache-2.0
// The rows of the bench: each one task at one size, with its data, its work, and the check of a
// result.
#pragma once

#include "library.hpp"
#include "support/cases.hpp"

#include <memory>
#include <string>
#include <vector>

namespace peers {

// A row with its data in memory.
class loaded_row {
 public:
  virtual ~loaded_row() = default;
  virtual ways from(library& lib, int threads) = 0;
  virtual double error(const float* result) const = 0;
  virtual double allowed() const = 0;
};

struct row {
  std::string name;          // task_type/size
  std::vector<int> threads;  // numbers of threads that it is measured with by default
  bench::work cost;
  std::function<std::unique_ptr<loaded_row>()> load;
};

std::vector<row> all_rows();

}  // namespace peers
