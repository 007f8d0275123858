// SPDX-License-Identifier: Apache-2.0
// CHECK_ERROR(ds::error_code::shape_mismatch, "gemm", "512", ds::gemm(b, x, w, y));
// The expression must throw deepseek::error with this code and a message that holds every part, in
// the grammar "entity: problem; ...". The last argument is the expression (it may be void and may
// contain commas).
#pragma once

#include <deepseek/core/error.hpp>

#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace support {

// Takes the leading string literals of a comma expression: (parts.begin(), "a", "b", expression).
class message_parts {
 public:
  message_parts& begin() { return *this; }
  message_parts& operator,(const char* part) {
    parts_.emplace_back(part);
    return *this;
  }
  // Empty when the error is as asked for, else a sentence on what is wrong with it.
  std::string problem(deepseek::error_code wanted, const deepseek::error& e) const;

 private:
  std::vector<std::string> parts_;
};

}  // namespace support

#define CHECK_ERROR(wanted_code, ...)                                                  \
  do {                                                                                 \
    support::message_parts support_parts;                                              \
    std::string support_problem = "nothing was thrown";                                \
    try {                                                                              \
      static_cast<void>((support_parts.begin(), __VA_ARGS__));                         \
    } catch (const deepseek::error& support_error) {                                   \
      support_problem = support_parts.problem(wanted_code, support_error);             \
    } catch (const std::exception& support_other) {                                    \
      support_problem = std::string("not a deepseek::error: ") + support_other.what(); \
    }                                                                                  \
    CHECK_MESSAGE(support_problem.empty(), support_problem);                           \
  } while (false)
