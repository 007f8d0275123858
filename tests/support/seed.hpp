// SPDX-License-Identifier: Apache-2.0
// Test data from a counter: the same seed and stream give the same numbers on every machine, in any
// order. The seed is DEEPSEEK_TEST_SEED or a constant; every failure prints it. The generator is
// not the library's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

namespace support {

std::uint64_t seed();

// Number n of stream s is a hash of (seed(), s, n).
class numbers {
 public:
  explicit numbers(std::uint64_t stream);
  explicit numbers(const std::string& stream);  // for example the text of the case
  std::uint64_t word();
  double uniform();                                           // [0, 1)
  double normal();                                            // mean 0, variance 1
  std::int64_t between(std::int64_t low, std::int64_t high);  // both ends included
  std::size_t below(std::size_t n);                           // [0, n); n >= 1

 private:
  std::uint64_t stream_, count_ = 0;
};

// The kinds of values an op must cope with.
enum class values {
  normal,       // mean 0, variance 1
  positive,     // (0, 1]
  integer,      // -4 ... 4: sums are exact
  wide,         // either sign, 10^-3 ... 10^2
  large,        // either sign, 10^3 ... 10^4 (finite in f16)
  tiny,         // either sign, 2^-24 ... 2^-10: half of them subnormal in f16
  all_equal,    // one number
  outlier,      // normal, one element 10^4 times larger (at most 6e4)
  signed_zero,  // +0 and -0
  sparse        // nine in ten are 0, the others normal
};
inline constexpr values every_class[] = {
    values::normal, values::positive,  values::integer, values::wide,        values::large,
    values::tiny,   values::all_equal, values::outlier, values::signed_zero, values::sparse};
const char* to_string(values kind);

std::vector<double> draw(values kind, std::size_t n, numbers& from);

// Every element rounded to T, so that the oracle gets what the tested code gets.
template <class T>
std::vector<T> as(const std::vector<double>& from) {
  std::vector<T> out;
  out.reserve(from.size());
  for (double x : from) out.push_back(static_cast<T>(x));
  return out;
}

template <class T>
double to_double(T x) {
  if constexpr (std::is_arithmetic_v<T>) {
    return static_cast<double>(x);
  } else {
    return static_cast<double>(static_cast<float>(x));
  }
}

template <class T>
std::vector<double> to_double(const T* from, std::size_t n) {
  std::vector<double> out;
  out.reserve(n);
  for (std::size_t i = 0; i < n; ++i) out.push_back(to_double(from[i]));
  return out;
}

template <class T>
std::vector<double> to_double(const std::vector<T>& from) {
  return to_double(from.data(), from.size());
}

// The numbers T holds, as double: draw, round to T, widen.
template <class T>
std::vector<double> rounded_to(const std::vector<double>& from) {
  return to_double(as<T>(from));
}

}  // namespace support
