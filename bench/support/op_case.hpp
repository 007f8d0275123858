// SPDX-License-Identifier: Apache-2.0
// From a type that holds the data of one op to cases on all backends. Such a type has
//   static constexpr const char* op;
//   run(backend)   calls the op once
//   cost()         what one call does
//   outputs()      what is compared with the reference after the first call
// and, where the reference would take too long on all of it, error() instead of outputs().
#pragma once

#include "support/cases.hpp"
#include "support/data.hpp"

#include "deepseek/backend/cpu/context.hpp"
#include "deepseek/backend/reference/context.hpp"

#include <memory>
#include <type_traits>

namespace bench {

template <class Case, class... Args>
double error_of(Case& got, const Args&... args) {
  if constexpr (requires { got.error(); }) {
    return got.error();
  } else {
    Case want(args...);
    want.run(ds::reference());
    return difference(got.outputs(), want.outputs());
  }
}

// `run` is called as run(data, machine).
template <class Case, class Machine, class Run, class... Args>
make_problem problem_on(const Machine& make_machine, const Run& run, const Args&... args) {
  return [=] {
    struct both {
      std::invoke_result_t<Machine> machine;
      Case data;
    };
    const std::shared_ptr<both> at(new both{make_machine(), Case(args...)});
    problem made;
    made.cost = at->data.cost();
    made.run = [=] { run(at->data, at->machine); };
    if constexpr (std::is_same_v<std::invoke_result_t<Machine>, ds::cpu>) {
      made.loops = [=] { return at->machine.loops().text(); };
    }
    if constexpr (!std::is_same_v<std::invoke_result_t<Machine>, ds::reference>) {
      made.error = [=] {
        run(at->data, at->machine);
        return error_of(at->data, args...);
      };
    }
    return made;
  };
}

// The plain loops that everything else is compared with.
template <class Case, class... Args>
void add_reference(const std::string& shape, const Args&... args) {
  const auto run = [](Case& c, const ds::reference& b) { c.run(b); };
  add_case({Case::op, "reference", "loops", shape, 1},
           problem_on<Case>([] { return ds::reference(); }, run, args...));
}

// Ours, with one thread and with two.
template <class Case, class... Args>
void add_cpu(const char* implementation, const std::string& shape, const Args&... args) {
  for (const int threads : {1, 2}) {
    const auto run = [](Case& c, const ds::cpu& b) { c.run(b); };
    add_case({Case::op, "cpu", implementation, shape, threads},
             problem_on<Case>([=] { return ds::cpu{{.threads = threads}}; }, run, args...));
  }
}

// Another library doing the same on the same data: run(data).
template <class Case, class Run, class... Args>
void add_peer(const case_name& name, const Run& run, const Args&... args) {
  const auto call = [=](Case& c, int) { run(c); };
  add_case(name, problem_on<Case>([] { return 0; }, call, args...));
}

template <class Case, class... Args>
void add_both(const std::string& shape, const Args&... args) {
  add_reference<Case>(shape, args...);
  add_cpu<Case>("simd", shape, args...);
}

}  // namespace bench
