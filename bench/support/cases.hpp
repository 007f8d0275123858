// SPDX-License-Identifier: Apache-2.0
// A case is one op on one backend by one implementation at one shape. It is checked against the
// reference once, then timed; every repetition stands between two measurements of what the machine
// can do at that moment (limits.hpp), and reports which share of it was reached.
#pragma once

#include <functional>
#include <string>

#if !defined(__OPTIMIZE__)
#error "deepseek: benches measure optimized builds only; configure with -DCMAKE_BUILD_TYPE=Release"
#endif

namespace bench {

enum class arithmetic { none, f32, bf16, int8 };
enum class traffic { updates, reads };  // whether a good part of the bytes is written

// What one call does.
struct work {
  double flops = 0;
  double bytes = 0;    // what has to be read and written, each once
  double touched = 0;  // memory that successive calls go through; 0: bytes
  arithmetic kind = arithmetic::f32;
  traffic moves = traffic::updates;
};

struct problem {
  work cost;
  std::function<void()> run;
  std::function<double()> error;  // largest error in units of what is allowed; none: not checked
  std::function<std::string()> loops;  // plain loops that ran in place of kernels, if it is known
};
using make_problem = std::function<problem()>;

struct case_name {
  std::string op, backend, implementation, shape;
  int threads = 1;

  std::string text() const;  // op/backend/implementation/shape/threads:n
};

void add_case(const case_name& name, const make_problem& make);

// Each bench defines it.
void add_cases();

}  // namespace bench
