// SPDX-License-Identifier: Apache-2.0
// The reference backend: plain loops on one thread, complete and obvious. Other backends are
// compared with it; it is itself compared with an oracle in double that shares no code with it.
#pragma once

#include "deepseek/backend/reference/loop_counts.hpp"
#include "deepseek/core/backend.hpp"

#include <memory>

namespace deepseek {

struct reference {
  using space = host;

  arena<host>& workspace() const { return *workspace_; }
  std::string_view name() const { return "reference"; }

  // Plain loops of a product say that they run.
  void runs_loops(std::string_view op) const {
    if (loops_ != nullptr) loops_->add(op);
  }

 protected:
  loop_counts* loops_ = nullptr;

 private:
  std::unique_ptr<arena<host>> workspace_ = std::make_unique<arena<host>>();
};

}  // namespace deepseek
