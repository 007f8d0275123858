// SPDX-License-Identifier: Apache-2.0
// Runs one row: loads the libraries whose modules it is given, has each prepare its ways, checks
// every one of them against the oracle, times them in turn, and prints one line of JSON.
//   peer_bench --list                      names of the rows and their numbers of threads
//   peer_bench ROW THREADS MODULE...       BENCH_SAMPLES (7), BENCH_MIN_TIME (0.01 s a sample)
// Exit status 1: a way of ours is wrong; 2: bad arguments.
#include "ours.hpp"
#include "rows.hpp"
#include "sampling.hpp"

#include "deepseek/backend/cpu/simd.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>

namespace peers {
namespace {

// A way that is right, or what is wrong with it.
struct contender {
  const library* from;
  way how;
  double error = 0, allowed = 0;
  std::string failure;
  std::vector<sample> samples = {};
};

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < 32 ? ' ' : c;
  }
  return out + '"';
}

std::string number(double value) {
  std::ostringstream out;
  out.precision(6);
  out << value;
  return std::isfinite(value) ? out.str() : "null";
}

library* load_module(const char* path) {
  void* const module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (module == nullptr) throw std::runtime_error(dlerror());
  using entry = library* (*)();
  const auto make = reinterpret_cast<entry>(dlsym(module, "peer_library"));
  if (make == nullptr) throw std::runtime_error(std::string(path) + " has no peer_library");
  return make();
}

// Another library may stop in its own way; here it becomes a failure of that library alone.
void check(contender& c, const loaded_row& at) {
  c.allowed = c.how.allowed > 0 ? c.how.allowed : at.allowed();
  try {
    if (c.how.before) c.how.before(0);
    c.how.run(0);
    c.error = at.error(c.how.result());
    if (!(c.error <= c.allowed)) c.failure = "wrong result";
  } catch (const std::exception& e) {
    c.failure = e.what();
  }
}

std::vector<contender> contenders(loaded_row& at, const std::vector<library*>& libraries,
                                  int threads) {
  std::vector<contender> all;
  for (library* const lib : libraries) {
    try {
      for (way& w : at.from(*lib, threads)) all.push_back({lib, std::move(w), 0, 0, {}});
    } catch (const std::exception& e) {
      all.push_back({lib, {"prepare", {}, {}, {}, 0}, 0, 0, e.what()});
    }
  }
  for (contender& c : all) {
    if (c.failure.empty()) check(c, at);
  }
  return all;
}

void measure(std::vector<contender>& all, const bench::work& cost, int threads,
             const sampling& how) {
  std::vector<way> right;
  for (const contender& c : all) {
    if (c.failure.empty()) right.push_back(c.how);
  }
  const auto samples = interleaved(right, cost, threads, how);
  std::size_t next = 0;
  for (contender& c : all) {
    if (c.failure.empty()) c.samples = samples[next++];
  }
}

std::string list_of(const std::vector<sample>& samples, double sample::*member, double unit) {
  std::string out = "[";
  for (const sample& s : samples) out += (out.size() > 1 ? ", " : "") + number(s.*member * unit);
  return out + "]";
}

void print(const contender& c) {
  std::cout << "{\"library\": " << quoted(c.from->name())
            << ", \"version\": " << quoted(c.from->version())
            << ", \"way\": " << quoted(c.how.name);
  if (!c.failure.empty()) {
    std::cout << ", \"failure\": " << quoted(c.failure);
  }
  std::cout << ", \"error\": " << number(c.error) << ", \"allowed\": " << number(c.allowed)
            << ", \"us\": " << list_of(c.samples, &sample::seconds, 1e6)
            << ", \"share\": " << list_of(c.samples, &sample::share, 1)
            << ", \"steady\": " << list_of(c.samples, &sample::steady, 1) << "}";
}

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

double setting(const char* variable, double otherwise) {
  const char* const given = std::getenv(variable);
  return given != nullptr && *given != '\0' ? std::atof(given) : otherwise;
}

int run_row(const row& r, int threads, const std::vector<library*>& libraries) {
  const auto at = r.load();
  auto all = contenders(*at, libraries, threads);
  const sampling how{static_cast<int>(setting("BENCH_SAMPLES", 7)),
                     setting("BENCH_MIN_TIME", 0.01)};
  measure(all, r.cost, threads, how);
  std::cout << "{\"case\": " << quoted(r.name) << ", \"threads\": " << threads
            << ", \"instruction_set\": " << quoted(std::string(deepseek::simd::instruction_set()))
            << ", \"processor\": " << quoted(processor()) << ", \"flops\": " << number(r.cost.flops)
            << ", \"bytes\": " << number(r.cost.bytes) << ", \"ways\": [";
  bool ours_right = false, first = true;
  for (const contender& c : all) {
    if (!first) std::cout << ", ";
    first = false;
    print(c);
    ours_right = ours_right || (c.from == libraries[0] && c.failure.empty());
  }
  std::cout << "]}" << std::endl;
  return ours_right ? 0 : 1;
}

int run(int argc, char** argv) {
  const auto rows = all_rows();
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() == 1 && words[0] == "--list") {
    for (const row& r : rows) {
      std::cout << r.name;
      for (const int t : r.threads) std::cout << ' ' << t;
      std::cout << '\n';
    }
    return 0;
  }
  const auto found = std::find_if(rows.begin(), rows.end(), [&](const row& r) {
    return words.size() >= 2 && r.name == words[0];
  });
  const int threads = words.size() >= 2 ? std::atoi(words[1].c_str()) : 0;
  if (found == rows.end() || threads < 1) {
    std::cerr << "usage: peer_bench --list | peer_bench ROW THREADS [MODULE...]\n";
    return 2;
  }
  our_library us;
  std::vector<library*> libraries{&us};
  for (std::size_t i = 2; i < words.size(); ++i) libraries.push_back(load_module(words[i].c_str()));
  return run_row(*found, threads, libraries);
}

}  // namespace
}  // namespace peers

int main(int argc, char** argv) {
  try {
    return peers::run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "peer_bench: " << error.what() << "\n";
    return 2;
  }
}
