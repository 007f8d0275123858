// SPDX-License-Identifier: Apache-2.0
// main of every bench: registers its cases, says what it runs on, and exits with 1 when a result
// differed from the reference. BENCH_MIN_TIME (seconds of one repetition, 0.02) and
// BENCH_REPETITIONS (5) set how long; arguments of Google Benchmark come after and win.
#include "limits.hpp"
#include "support/cases.hpp"

#include "deepseek/backend/cpu/simd.hpp"
#include "deepseek/config.hpp"

#include <benchmark/benchmark.h>

#if DEEPSEEK_BENCH_OPENBLAS
#include <cblas.h>
#endif
#include <Eigen/src/Core/util/Macros.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <vector>

namespace bench {
namespace {

bool some_case_failed = false;

// The problem in memory: one at a time, kept over the repetitions of its case.
struct loaded {
  std::string name;
  problem now;
  double error = 0;
  std::string loops;  // after one call
};

const loaded& load(const std::string& name, const make_problem& make) {
  static loaded at;
  if (at.name == name) return at;
  at = {};  // first give the memory back
  at = {name, make(), 0, {}};
  if (at.now.error) at.error = at.now.error();
  at.now.run();
  if (at.now.loops) at.loops = at.now.loops();
  return at;
}

void report(benchmark::State& state, const work& cost, const limits (&seen)[2], double seconds) {
  const double calls = static_cast<double>(state.iterations());
  const double flops = (seen[0].flops + seen[1].flops) / 2;
  const double bytes = (seen[0].bytes + seen[1].bytes) / 2;
  const double least = std::max(flops > 0 ? cost.flops / flops : 0,  //
                                bytes > 0 ? cost.bytes / bytes : 0);
  const double *before = flops > 0 ? &seen[0].flops : &seen[0].bytes,
               *after = flops > 0 ? &seen[1].flops : &seen[1].bytes;
  state.counters["flop/s"] = cost.flops * calls / seconds;
  state.counters["bytes/s"] = cost.bytes * calls / seconds;
  state.counters["share"] = least * calls / seconds;
  state.counters["limit flop/s"] = flops;
  state.counters["limit bytes/s"] = bytes;
  state.counters["steady"] = std::min(*before, *after) / std::max(*before, *after);
  state.counters["seconds"] = seconds / calls;
}

void time_case(benchmark::State& state, const case_name& name, const make_problem& make) {
  const loaded& at = load(name.text(), make);
  if (!(at.error <= 1)) {
    some_case_failed = true;
    state.SkipWithError(
        ("differs from the reference by " + std::to_string(at.error) + " times what is allowed")
            .c_str());
    return;
  }
  limits seen[2];
  seen[0] = measure_limits(at.now.cost, name.threads);
  const auto begin = std::chrono::steady_clock::now();
  for (auto _ : state) at.now.run();
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
  seen[1] = measure_limits(at.now.cost, name.threads);
  report(state, at.now.cost, seen, taken.count());
  if (!at.loops.empty()) state.SetLabel("plain loops: " + at.loops);
}

std::string setting(const char* variable, const char* otherwise) {
  const char* const given = std::getenv(variable);
  return given != nullptr && *given != '\0' ? given : otherwise;
}

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

void add_context() {
  using benchmark::AddCustomContext;
  AddCustomContext("deepseek", std::to_string(DEEPSEEK_VERSION_MAJOR) + "." +
                                   std::to_string(DEEPSEEK_VERSION_MINOR) + "." +
                                   std::to_string(DEEPSEEK_VERSION_PATCH));
  AddCustomContext("processor", processor());
  AddCustomContext("instruction_set", std::string(deepseek::simd::instruction_set()));
#if defined(__clang__)
  AddCustomContext("compiler", "clang " __clang_version__);
#else
  AddCustomContext("compiler", "g++ " __VERSION__);
#endif
  AddCustomContext("eigen", std::to_string(EIGEN_WORLD_VERSION) + "." +
                                std::to_string(EIGEN_MAJOR_VERSION) + "." +
                                std::to_string(EIGEN_MINOR_VERSION));
#if DEEPSEEK_BENCH_OPENBLAS
  AddCustomContext("openblas", openblas_get_config());
  AddCustomContext("openblas_kernels", openblas_get_corename());
#endif
  AddCustomContext("min_time", setting("BENCH_MIN_TIME", "0.02"));
  AddCustomContext("repetitions", setting("BENCH_REPETITIONS", "5"));
}

// One line a case: the median of its repetitions.
class median_lines : public benchmark::ConsoleReporter {
 public:
  median_lines() : ConsoleReporter(OO_None) {}
  void ReportRuns(const std::vector<Run>& all) override {
    std::vector<Run> shown;
    for (const Run& run : all) {
      if (run.error_occurred || run.aggregate_name == "median" || run.repetitions == 1) {
        shown.push_back(run);
      }
    }
    for (Run& run : shown) {
      for (const char* name : {"limit flop/s", "limit bytes/s", "seconds"}) {
        run.counters.erase(name);
      }
    }
    if (!shown.empty()) ConsoleReporter::ReportRuns(shown);
  }
};

}  // namespace

std::string case_name::text() const {
  return op + "/" + backend + "/" + implementation + "/" + shape +
         "/threads:" + std::to_string(threads);
}

void add_case(const case_name& name, const make_problem& make) {
  benchmark::RegisterBenchmark(name.text().c_str(), [=](benchmark::State& state) {
    time_case(state, name, make);
  })->Unit(benchmark::kMicrosecond);
}

int run(int argc, char** argv) {
  std::string time = "--benchmark_min_time=" + setting("BENCH_MIN_TIME", "0.02");
  std::string repetitions = "--benchmark_repetitions=" + setting("BENCH_REPETITIONS", "5");
  std::vector<char*> arguments{argv[0], time.data(), repetitions.data()};
  arguments.insert(arguments.end(), argv + 1, argv + argc);
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 2;
  add_context();
  add_cases();
  median_lines lines;
  if (benchmark::RunSpecifiedBenchmarks(&lines) == 0) return 2;
  benchmark::Shutdown();
  if (some_case_failed) std::cerr << "bench: a result differs from the reference\n";
  return some_case_failed ? 1 : 0;
}

}  // namespace bench

int main(int argc, char** argv) {
  try {
    return bench::run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "bench: " << error.what() << "\n";
    return 2;
  }
}
