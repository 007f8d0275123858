// SPDX-License-Identifier: Apache-2.0
// The one exception of the library: a stable code and a sentence with the actual numbers.
// Grammar of a message: "<entity>: <problem with numbers>; <what to do instead>".
// Input checks throw it in every build, also under NDEBUG. Foreign text is escaped and cut.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace deepseek {

enum class error_code {
  io,
  truncated,
  header_too_large,
  utf8,
  json,
  duplicate_key,
  schema,
  dtype,
  offsets,
  coverage,
  size_mismatch,
  overflow,
  sub_byte,
  limit,
  not_this_format,
  missing_tensor,
  unexpected_tensor,
  shape_mismatch,
  config,
  vocab,
  merges,
  regex,
  encode,
  invalid_argument,
  index_range,
  aliasing,
  unsupported,
  nonfinite,
  out_of_memory,
  device,
  device_fatal,
  timeout,
  peer_lost,
  checkpoint_corrupt,
  version_mismatch
};

// The code as text: stable, what programs print and scripts compare.
constexpr std::string_view to_string(error_code c) {
  constexpr std::string_view names[] = {"io",
                                        "truncated",
                                        "header_too_large",
                                        "utf8",
                                        "json",
                                        "duplicate_key",
                                        "schema",
                                        "dtype",
                                        "offsets",
                                        "coverage",
                                        "size_mismatch",
                                        "overflow",
                                        "sub_byte",
                                        "limit",
                                        "not_this_format",
                                        "missing_tensor",
                                        "unexpected_tensor",
                                        "shape_mismatch",
                                        "config",
                                        "vocab",
                                        "merges",
                                        "regex",
                                        "encode",
                                        "invalid_argument",
                                        "index_range",
                                        "aliasing",
                                        "unsupported",
                                        "nonfinite",
                                        "out_of_memory",
                                        "device",
                                        "device_fatal",
                                        "timeout",
                                        "peer_lost",
                                        "checkpoint_corrupt",
                                        "version_mismatch"};
  return names[static_cast<int>(c)];
}

class error : public std::runtime_error {
 public:
  error(error_code code, const std::string& message) : std::runtime_error(message), code_(code) {}
  error_code code() const noexcept { return code_; }

 private:
  error_code code_;
};

// Throws deepseek::error; the parts are written one after the other: fail(code, "gemm: K is ", k).
template <class... Parts>
[[noreturn]] void fail(error_code code, const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw error(code, text.str());
}

// A check that stays in every build. The parts are only formatted when it fails.
template <class... Parts>
void require(bool holds, error_code code, const Parts&... parts) {
  if (!holds) fail(code, parts...);
}

// Runs f(); an error of it is thrown on with the name of what was worked on before its sentence.
template <class F>
void working_on(const std::string& what, const F& f) {
  try {
    f();
  } catch (const error& e) {
    throw error(e.code(), what.empty() ? e.what() : what + ": " + e.what());
  }
}

// Text from outside (a file, an argument) made safe to print: escaped, at most 200 characters.
inline std::string escaped(std::string_view text) {
  constexpr std::size_t longest = 200;
  constexpr char hex[] = "0123456789abcdef";
  std::string out = "\"";
  for (char ch : text.substr(0, longest)) {
    const auto byte = static_cast<unsigned char>(ch);
    if (ch == '"' || ch == '\\') {
      (out += '\\') += ch;
    } else if (byte < 0x20 || byte == 0x7f) {
      ((out += "\\x") += hex[byte >> 4]) += hex[byte & 15];
    } else {
      out += ch;
    }
  }
  return out += text.size() > longest ? "...\"" : "\"";
}

}  // namespace deepseek
