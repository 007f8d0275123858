// SPDX-License-Identifier: Apache-2.0
// The main function of every test program: doctest, then our own verdict on it.
// Ends with 0 when all passed, 1 when a test failed, ran without assertion or no test ran at all,
// 77 when every test was skipped (CTest's SKIP_RETURN_CODE). --case=TEXT runs only the cases whose
// text holds TEXT. A program with several tests (batches.cmake) is started with --test-suite=NAME:
// the report then has that name.
#define DOCTEST_CONFIG_IMPLEMENT
#include "support/report.hpp"

#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace {

int verdict(int from_doctest) {
  const support::outcome& r = support::finished();
  if (from_doctest != 0 || r.failed > 0 || r.empty > 0 || r.test_cases == 0) return 1;
  return r.skipped == r.test_cases ? 77 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string flag = "--case=";
  const std::string suite_flag = "--test-suite=";
  std::string case_filter, suite;
  std::vector<char*> kept;
  for (int i = 0; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind(flag, 0) == 0) {
      case_filter = argument.substr(flag.size());
    } else {
      if (argument.rfind(suite_flag, 0) == 0) suite = argument.substr(suite_flag.size());
      kept.push_back(argv[i]);
    }
  }
  support::set_program(argc > 0 ? argv[0] : "test", suite, case_filter);

  doctest::Context context(static_cast<int>(kept.size()), kept.data());
  context.setOption("no-intro", true);
  const int from_doctest = context.run();
  if (context.shouldExit())
    return from_doctest;  // a question such as --list-test-cases was answered
  support::print_report();
  support::write_report();
  return verdict(from_doctest);
}
