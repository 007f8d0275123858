// SPDX-License-Identifier: Apache-2.0
// Guarded arrays for the tests of hyper-connections: [tokens, ...] with a gap of NaN after each
// token, and the list of sizes.
#pragma once

#include "deepseek/core/view.hpp"
#include "oracle/hyper_connection.hpp"
#include "support/gradient.hpp"
#include "support/poison.hpp"
#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

namespace hyper_test {

namespace ds = deepseek;
using ds::dyn;
using ds::host;
using ds::index_t;
using oracle::reals;

struct sizes {
  index_t tokens, n, dim, gap = 0;
};
inline const sizes all_sizes[] = {{1, 4, 8}, {5, 2, 3, 2}, {19, 4, 17}, {3, 1, 5}, {9, 3, 40, 1}};
inline std::string text(const sizes& s, std::string_view backend) {
  return std::string(backend) +
         support::text(" tokens", s.tokens, "streams", s.n, "dim", s.dim, "gap", s.gap);
}

template <class T>
class block {
 public:
  block(const sizes& s, index_t width)
      : tokens_(s.tokens),
        width_(width),
        step_(width + s.gap),
        memory_(static_cast<std::size_t>(s.tokens * (width + s.gap))) {}
  ds::view<T, host, dyn, dyn> matrix() { return {memory_.data(), {tokens_, width_}, {step_, 1}}; }
  ds::view<T, host, dyn, dyn, dyn> cube(index_t n) {
    const index_t row = n > 0 ? width_ / n : 0;
    return {memory_.data(), {tokens_, n, row}, {step_, row, 1}};
  }
  void set(const reals& from) {
    for (index_t i = 0; i < tokens_ * width_; ++i) at(i) = static_cast<T>(from[index_of(i)]);
    memory_.remember();
  }
  void draw(std::uint64_t stream) {
    set(support::loss_weights(static_cast<std::size_t>(tokens_ * width_), stream));
  }
  std::vector<T> values() {
    std::vector<T> out;
    for (index_t i = 0; i < tokens_ * width_; ++i) out.push_back(at(i));
    return out;
  }
  reals numbers() { return support::to_double(values()); }
  bool unchanged() const { return memory_.unchanged() && memory_.intact(); }
  bool clean() {  // nothing between the tokens was written
    for (index_t t = 0; t < tokens_; ++t) {
      for (index_t i = width_; i < step_; ++i) {
        if (!std::isnan(support::to_double(memory_[index_of(t * step_ + i)]))) return false;
      }
    }
    return memory_.intact();
  }

 private:
  static std::size_t index_of(index_t i) { return static_cast<std::size_t>(i); }
  T& at(index_t i) { return memory_[index_of(i / width_ * step_ + i % width_)]; }

  index_t tokens_, width_, step_;
  support::guarded<T> memory_;
};

// Every derivative of `loss` with respect to one block against `gradient`.
template <class Loss>
void expect_block_gradient(const std::string& op, const std::string& name, block<double>& moved,
                           const reals& gradient, const Loss& loss) {
  const reals at = moved.numbers();
  const auto f = [&](const reals& values) {
    moved.set(values);
    return loss();
  };
  support::expect_gradient(op, name, support::check_gradient(f, at, gradient));
  moved.set(at);
}

}  // namespace hyper_test
