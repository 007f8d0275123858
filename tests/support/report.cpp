// SPDX-License-Identifier: Apache-2.0
// The register of covered ops, and the doctest listener that finds empty test cases.
#include "support/report.hpp"
#include "support/seed.hpp"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

namespace support {
namespace {

struct op_record {
  int cases = 0, skipped = 0, mistrusted = 0, failed = 0;
  std::set<std::string> facets, not_applicable;
};

struct state {
  std::mutex guard;
  std::map<std::string, op_record> ops;
  std::vector<std::pair<std::string, std::string>> skips;  // test case, reason
  std::string test_case, program = "test", path = "./test", case_filter;
  bool skipped_now = false;
  outcome result;
};

state& all() {
  static state s;
  return s;
}

void with_op(const std::string& op, void (*change)(op_record&)) {
  const std::lock_guard<std::mutex> lock(all().guard);
  change(all().ops[op]);
}

bool known_facet(const std::string& name) {
  static const std::set<std::string> names = {"forward", "gradient", "errors", "strides", "zero"};
  return names.count(name) != 0;
}

std::string json_text(const std::string& text) {
  std::string out = "\"";
  for (char ch : text) {
    if (ch == '"' || ch == '\\') out += '\\';
    if (static_cast<unsigned char>(ch) >= 0x20) out += ch;
  }
  return out + "\"";
}

std::string json_list(const std::set<std::string>& names) {
  std::string out = "[";
  for (const auto& name : names) out += (out.size() > 1 ? ", " : "") + json_text(name);
  return out + "]";
}

std::string json_op(const op_record& r) {
  return "{\"cases\": " + std::to_string(r.cases) + ", \"skipped\": " + std::to_string(r.skipped) +
         ", \"mistrusted\": " + std::to_string(r.mistrusted) +
         ", \"failed\": " + std::to_string(r.failed) + ", \"facets\": " + json_list(r.facets) +
         ", \"not_applicable\": " + json_list(r.not_applicable) + "}";
}

// Counts what each test case asserted. A case with neither assertion nor skip is an error of the
// test itself.
struct empty_case_listener : doctest::IReporter {
  explicit empty_case_listener(const doctest::ContextOptions&) {}
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_start(const doctest::TestCaseData& test) override {
    all().test_case = test.m_name;
    all().skipped_now = false;
  }
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats& stats) override {
    outcome& r = all().result;
    const bool filtered = !all().case_filter.empty();
    ++r.test_cases;
    if (!stats.testCaseSuccess) {
      ++r.failed;
    } else if (all().skipped_now) {
      ++r.skipped;
    } else if (stats.numAssertsCurrentTest == 0 && !filtered) {
      ++r.empty;
      std::cerr << "test case \"" << all().test_case << "\": no assertion ran; assert or skip\n";
    }
  }
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};

REGISTER_LISTENER("empty_case", 1, empty_case_listener);

}  // namespace

void count_case(const std::string& op) {
  with_op(op, [](op_record& r) { ++r.cases; });
}
void count_failed(const std::string& op) {
  with_op(op, [](op_record& r) { ++r.failed; });
}
void count_mistrusted(const std::string& op) {
  with_op(op, [](op_record& r) { ++r.mistrusted; });
}

void facet(const std::string& op, const std::string& name) {
  REQUIRE_MESSAGE(known_facet(name), "unknown facet \"", name, "\"");
  const std::lock_guard<std::mutex> lock(all().guard);
  all().ops[op].facets.insert(name);
}

void not_applicable(const std::string& op, const std::string& name) {
  REQUIRE_MESSAGE(known_facet(name), "unknown facet \"", name, "\"");
  const std::lock_guard<std::mutex> lock(all().guard);
  all().ops[op].not_applicable.insert(name);
}

void skip(const std::string& reason) {
  const std::lock_guard<std::mutex> lock(all().guard);
  all().skipped_now = true;
  all().skips.emplace_back(all().test_case, reason);
}

void skip(const std::string& op, const std::string& reason) {
  with_op(op, [](op_record& r) { ++r.skipped; });
  skip(reason);
}

bool selected(const std::string& case_text) {
  return case_text.find(all().case_filter) != std::string::npos;
}

std::string detail::number_text(double x) {
  char buffer[32];
  const bool whole = std::fabs(x) < 1e15 && x == std::floor(x);
  std::snprintf(buffer, sizeof buffer, whole ? "%.0f" : "%.17g", x);
  return buffer;
}

std::string repro(const std::string& case_text) {
  std::string line = "DEEPSEEK_TEST_SEED=" + std::to_string(seed()) + " " + all().path + " -tc=\"" +
                     all().test_case + "\"";
  if (!case_text.empty()) line += " --case=\"" + case_text + "\"";
  return line;
}

const outcome& finished() {
  return all().result;
}

void set_program(const std::string& path, const std::string& suite,
                 const std::string& case_filter) {
  all().path = suite.empty() ? path : path + " --test-suite=" + suite;
  all().program = suite.empty() ? path.substr(path.find_last_of('/') + 1) : suite;
  all().case_filter = case_filter;
}

void print_report() {
  for (const auto& [op, r] : all().ops) {
    std::cout << "op " << op << ": " << r.cases << " cases, " << r.skipped << " skipped, "
              << r.mistrusted << " mistrusted, " << r.failed << " failed; covered "
              << json_list(r.facets) << "\n";
  }
  for (const auto& [test, reason] : all().skips) {
    std::cout << "skipped \"" << test << "\": " << reason << "\n";
  }
  const outcome& r = all().result;
  std::cout << "test cases: " << r.test_cases << " run, " << r.failed << " failed, " << r.empty
            << " without assertion, " << r.skipped << " skipped; seed " << seed() << "\n";
}

void write_report() {
  const char* folder = std::getenv("DEEPSEEK_REPORT_DIR");
  if (folder == nullptr || *folder == '\0') return;
  const std::string file = std::string(folder) + "/" + all().program + ".json";
  std::ofstream out(file);
  const outcome& r = all().result;
  out << "{\"program\": " << json_text(all().program) << ", \"test_cases\": " << r.test_cases
      << ", \"failed\": " << r.failed << ", \"empty\": " << r.empty
      << ", \"skipped\": " << r.skipped << ", \"seed\": " << seed() << ",\n\"op\": {";
  const char* comma = "\n";
  for (const auto& [op, record] : all().ops) {
    out << comma << json_text(op) << ": " << json_op(record);
    comma = ",\n";
  }
  out << "}}\n";
  out.close();
  if (!out) std::cerr << "report " << file << ": cannot be written; create the folder first\n";
}

}  // namespace support
