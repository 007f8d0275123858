// SPDX-License-Identifier: Apache-2.0
// A library of the bench, ours or another: for each task the ways in which it does it, with weights
// already in the order that it likes. Another library is one file that defines peer_library(),
// built into a module of its own (bench/peers/CMakeLists.txt) and loaded with its symbols to
// itself.
#pragma once

#include "task.hpp"

#include <string>
#include <vector>

namespace peers {

struct way {
  std::string name;
  std::function<void(index_t call)> run;     // what is timed
  std::function<const float*()> result;      // of the last call, in float
  std::function<void(index_t call)> before;  // of each call, not timed; may be empty
  double allowed = 0;  // error where this way is coarser than the row asks; 0: what the row allows
};
using ways = std::vector<way>;

class library {
 public:
  virtual ~library() = default;
  virtual std::string name() const = 0;
  virtual std::string version() const = 0;

  // A library answers with no way what it does not do.
  virtual ways offer(const linear_task&, int /*threads*/) { return {}; }
  virtual ways offer(const product_task&, int /*threads*/) { return {}; }
  virtual ways offer(const attention_task&, int /*threads*/) { return {}; }
  virtual ways offer(const decode_task&, int /*threads*/) { return {}; }
  virtual ways offer(const experts_task&, int /*threads*/) { return {}; }
  virtual ways offer(const rows_task&, int /*threads*/) { return {}; }
  virtual ways offer(const gate_task&, int /*threads*/) { return {}; }
};

}  // namespace peers

// What a module exports.
extern "C" peers::library* peer_library();
