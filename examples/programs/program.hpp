// SPDX-License-Identifier: Apache-2.0
// What every program of this folder does the same way: arguments by CLI11, and an exit status that
// a script can rely on: 0 done; 2 an error, whose code and sentence are the last line of standard
// error as {"error": code, "message": text}; 77 this build does not support what was asked (line as
// for 2).
#pragma once

#include <csignal>
#include <exception>
#include <iostream>
#include <new>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>
#include <deepseek/core/error.hpp>
#include <nlohmann/json.hpp>

namespace program {

inline constexpr int exit_error = 2;
inline constexpr int exit_unsupported = 77;

inline int report(deepseek::error_code code, std::string_view message) {
  const nlohmann::ordered_json line{{"error", deepseek::to_string(code)}, {"message", message}};
  const auto replace = nlohmann::ordered_json::error_handler_t::replace;  // bytes that are no UTF-8
  std::cout.flush();
  std::cerr << line.dump(-1, ' ', true, replace) << std::endl;
  return code == deepseek::error_code::unsupported ? exit_unsupported : exit_error;
}

// Parses the arguments, then calls body() and turns what it throws into the exit status.
template <class Body>
int run(CLI::App& arguments, int argc, char** argv, const Body& body) {
  std::signal(SIGPIPE, SIG_IGN);  // a reader that went away is a failed write, not a signal
  try {
    arguments.parse(argc, argv);
    body();
    std::cout.flush();
    deepseek::require(std::cout.good(), deepseek::error_code::io,
                      "standard output: writing failed; check the disk or the reader");
    return 0;
  } catch (const CLI::Success& asked_for_help) {
    return arguments.exit(asked_for_help);
  } catch (const CLI::ParseError& problem) {
    return report(deepseek::error_code::invalid_argument,
                  std::string("arguments: ") + problem.what() + "; see --help");
  } catch (const deepseek::error& problem) {
    return report(problem.code(), problem.what());
  } catch (const std::bad_alloc&) {
    return report(deepseek::error_code::out_of_memory,
                  "memory: an allocation failed; use a smaller input");
  } catch (const std::exception& problem) {
    return report(deepseek::error_code::invalid_argument,
                  std::string("program: ") + problem.what() + "; check the arguments");
  }
}

}  // namespace program
