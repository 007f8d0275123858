// SPDX-License-Identifier: Apache-2.0
// The numbers of the tests: a hash of seed, stream and count.
#include "support/seed.hpp"

#include <cmath>
#include <cstdlib>

namespace support {
namespace {

// The finalizer of splitmix64: a bijection on 64 bits with full avalanche.
std::uint64_t mixed(std::uint64_t x) {
  x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27U)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31U);
}

std::uint64_t hash_of(const std::string& text) {
  std::uint64_t h = 0xcbf29ce484222325ULL;
  for (char ch : text) h = (h ^ static_cast<unsigned char>(ch)) * 0x100000001b3ULL;
  return h;
}

double sign_from(numbers& from) {
  return (from.word() & 1U) != 0 ? 1.0 : -1.0;
}

double one(values kind, numbers& from) {
  switch (kind) {
    case values::normal:
    case values::outlier:
    case values::all_equal:
      return from.normal();
    case values::positive:
      return 1 - from.uniform();
    case values::integer:
      return static_cast<double>(from.between(-4, 4));
    case values::wide:
      return sign_from(from) * std::pow(10.0, -3 + 5 * from.uniform());
    case values::large:
      return sign_from(from) * std::pow(10.0, 3 + from.uniform());
    case values::tiny:
      return sign_from(from) * std::exp2(-24 + 14 * from.uniform());
    case values::signed_zero:
      return sign_from(from) * 0.0;
    case values::sparse:
      return from.below(10) == 0 ? from.normal() : 0.0;
  }
  return 0;
}

}  // namespace

std::uint64_t seed() {
  static const std::uint64_t value = [] {
    const char* text = std::getenv("DEEPSEEK_TEST_SEED");
    return text == nullptr || *text == '\0' ? 20260101ULL : std::strtoull(text, nullptr, 10);
  }();
  return value;
}

numbers::numbers(std::uint64_t stream) : stream_(mixed(mixed(seed()) ^ stream)) {}
numbers::numbers(const std::string& stream) : numbers(hash_of(stream)) {}

std::uint64_t numbers::word() {
  return mixed(stream_ + ++count_ * 0x9e3779b97f4a7c15ULL);
}

double numbers::uniform() {
  return static_cast<double>(word() >> 11U) * 0x1p-53;
}

double numbers::normal() {
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));
  return radius * std::cos(6.283185307179586 * uniform());
}

std::size_t numbers::below(std::size_t n) {
  // The bias of the remainder, n / 2^64, is far below what a test can see.
  return static_cast<std::size_t>(word() % n);
}

std::int64_t numbers::between(std::int64_t low, std::int64_t high) {
  return low + static_cast<std::int64_t>(below(static_cast<std::size_t>(high - low) + 1));
}

const char* to_string(values kind) {
  constexpr const char* names[] = {"normal", "positive",  "integer", "wide",        "large",
                                   "tiny",   "all_equal", "outlier", "signed_zero", "sparse"};
  return names[static_cast<int>(kind)];
}

std::vector<double> draw(values kind, std::size_t n, numbers& from) {
  std::vector<double> out(n);
  for (double& x : out) x = one(kind, from);
  if (n == 0) return out;
  if (kind == values::all_equal) out.assign(n, out[0]);
  if (kind == values::outlier) {
    double& picked = out[from.below(n)];
    picked = std::copysign(std::fmin(std::fabs(picked) * 1e4, 6e4), picked);
  }
  return out;
}

}  // namespace support
