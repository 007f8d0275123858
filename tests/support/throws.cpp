// SPDX-License-Identifier: Apache-2.0
// What is wrong with a caught error.
#include "support/throws.hpp"

namespace support {

std::string message_parts::problem(deepseek::error_code wanted, const deepseek::error& e) const {
  const std::string message = e.what();
  std::string out;
  if (e.code() != wanted) {
    out += "code is " + std::string(to_string(e.code())) + ", expected " +
           std::string(to_string(wanted)) + "; ";
  }
  for (const auto& part : parts_) {
    if (message.find(part) == std::string::npos) out += "\"" + part + "\" is missing; ";
  }
  if (message.find(": ") == std::string::npos) out += "no \"entity: problem\"; ";
  return out.empty() ? out : out + "message: " + message;
}

}  // namespace support
