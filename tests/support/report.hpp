// SPDX-License-Identifier: Apache-2.0
// What a test program has covered: cases per op, facets, skips; written as JSON and printed at the
// end. A facet is one of "forward" "gradient" "errors" "strides" "zero". An op is complete when
// each facet is covered or declared not applicable.
#pragma once

#include <string>

namespace support {

// One case of an op was compared with its oracle. The comparing functions call it; do not count
// twice.
void count_case(const std::string& op);
void count_failed(const std::string& op);
void count_mistrusted(const std::string& op);

// Unknown facet names fail the running test.
void facet(const std::string& op, const std::string& name);
void not_applicable(const std::string& op, const std::string& name);

// Marks the running test case as skipped: call it, then return. It is then listed, not counted as
// passed, and may have no assertion. With an op, a skipped case of that op is counted too.
void skip(const std::string& reason);
void skip(const std::string& op, const std::string& reason);

// True unless the program was started with --case=TEXT and TEXT is not part of this case's text.
bool selected(const std::string& case_text);

// "m=3 k=5" from ("m", 3, "k", 5): the text of a case.
namespace detail {
std::string number_text(double x);
inline std::string value_text(const std::string& x) {
  return x;
}
inline std::string value_text(const char* x) {
  return x;
}
inline std::string value_text(bool x) {
  return x ? "yes" : "no";
}
template <class Number>
std::string value_text(Number x) {
  return number_text(static_cast<double>(x));
}
}  // namespace detail

inline std::string text() {
  return {};
}
template <class Value, class... Rest>
std::string text(const std::string& name, const Value& value, const Rest&... rest) {
  const std::string tail = text(rest...);
  return name + "=" + detail::value_text(value) + (tail.empty() ? "" : " " + tail);
}

// "DEEPSEEK_TEST_SEED=1 ./gemm -tc="..." --case="..."": what to type to see this failure again.
std::string repro(const std::string& case_text);

// Used by main: what the whole program ends with.
struct outcome {
  int test_cases = 0, failed = 0, empty = 0, skipped = 0;
};
const outcome& finished();
// A suite: the only one that runs; it gives the report its name.
void set_program(const std::string& path, const std::string& suite, const std::string& case_filter);
void print_report();
void write_report();  // $DEEPSEEK_REPORT_DIR/<program>.json, if the variable is set

}  // namespace support
