// SPDX-License-Identifier: Apache-2.0
// Byte models that count: what a language model must beat. Order n predicts a byte from the n
// before it, interpolated with order n-1, down to the uniform distribution (Witten and Bell):
//   p_n(b | c) = (N(c b) + T(c) p_{n-1}(b | c')) / (N(c) + T(c)),   p_{-1} = 1/256
// N counts, T(c) is the number of different bytes seen after c, c' is c without its oldest byte.
// Every byte has a probability above zero and they sum to one. Contexts never reach across the
// start of a document. Accumulation: double, in the order of the text. Fitted on training text
// only. Source: Witten, Bell, "The Zero-Frequency Problem", IEEE Trans. Inf. Theory 37(4), 1991,
// method C.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <deepseek/core/error.hpp>

#include "corpus.hpp"

namespace demo {

class byte_model {
 public:
  byte_model(const documents& text, std::size_t order) : counts_(order + 1) {
    deepseek::require(order <= 7, deepseek::error_code::invalid_argument, "byte_model: order ",
                      order, " is not within 0 to 7; use 0 or 2");
    for (std::size_t i = 0; i < text.size(); ++i) count(text[i]);
  }

  // Of `byte` after `before`, of which at most the last `order` bytes count.
  double probability(std::string_view before, char byte) const {
    double p = 1.0 / 256;
    for (std::size_t n = 0; n < counts_.size() && n <= before.size(); ++n) {
      const auto found = counts_[n].find(key(before.substr(before.size() - n)));
      if (found == counts_[n].end()) break;  // longer contexts were not seen either
      const row& seen = found->second;
      const double next = seen.next[static_cast<unsigned char>(byte)];
      p = (next + seen.different * p) / (seen.total + seen.different);
    }
    return p;
  }

  double bits_per_byte(const documents& text) const {
    deepseek::require(!text.bytes.empty(), deepseek::error_code::invalid_argument,
                      "byte_model: the text has 0 bytes; give one to measure");
    double bits = 0;
    for (std::size_t d = 0; d < text.size(); ++d) {
      const std::string_view document = text[d];
      for (std::size_t i = 0; i < document.size(); ++i) {
        bits -= std::log2(probability(document.substr(0, i), document[i]));
      }
    }
    return bits / static_cast<double>(text.bytes.size());
  }

 private:
  struct row {  // what came after one context
    std::array<std::uint32_t, 256> next{};
    std::uint32_t total = 0;
    std::uint32_t different = 0;
  };

  static std::uint64_t key(std::string_view context) {
    std::uint64_t packed = 0;
    for (char byte : context) packed = packed << 8 | static_cast<unsigned char>(byte);
    return packed;
  }

  void count(std::string_view document) {
    for (std::size_t i = 0; i < document.size(); ++i) {
      for (std::size_t n = 0; n < counts_.size() && n <= i; ++n) {
        row& seen = counts_[n][key(document.substr(i - n, n))];
        seen.total += 1;
        if (seen.next[static_cast<unsigned char>(document[i])]++ == 0) seen.different += 1;
      }
    }
  }

  std::vector<std::unordered_map<std::uint64_t, row>> counts_;  // one map per order
};

}  // namespace demo
