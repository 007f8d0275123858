// SPDX-License-Identifier: Apache-2.0
// A user's program: sees the version, and catches a typed error also in a Release build.
#include <deepseek/config.hpp>
#include <deepseek/core/error.hpp>

#include <iostream>
#include <string>

namespace {

std::string refused(int threads) {
  try {
    deepseek::require(threads > 0, deepseek::error_code::invalid_argument, "consumer: threads is ",
                      threads, "; write 1 or more");
  } catch (const deepseek::error& caught) {
    return std::string(deepseek::to_string(caught.code())) + ": " + caught.what();
  }
  return "accepted";
}

}  // namespace

int main() {
  std::cout << "deepseek " << DEEPSEEK_VERSION_MAJOR << "." << DEEPSEEK_VERSION_MINOR << "\n";
  const bool right = refused(1) == "accepted" &&
                     refused(0) == "invalid_argument: consumer: threads is 0; write 1 or more";
  std::cout << (right ? "consumer: ok\n" : "consumer: an error was lost\n");
  return right ? 0 : 1;
}
