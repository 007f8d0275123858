// SPDX-License-Identifier: Apache-2.0
// Tokens per second of a model: prefill (a prompt of one window at once) and decoding (one token at
// a time, with the cache filled), each the best of several rounds.
#pragma once

#include <algorithm>
#include <chrono>

#include "language_model.hpp"

namespace demo {

struct speed {
  double prefill = 0, decode = 0;  // tokens per second
};

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <class Model>
speed measure_speed(const ds::cpu& b, const Model& m, std::string_view text) {
  constexpr int rounds = 5, decoded = 64;
  std::vector<std::int32_t> prompt;
  for (std::size_t i = 0; i < window; ++i) {
    prompt.push_back(static_cast<unsigned char>(text[i % text.size()]));
  }
  const token_ids all{prompt.data(), {window}};
  auto decoder = m.decoder(b, window + decoded);
  speed best;
  for (int round = 0; round < rounds; ++round) {
    decoder.rewind(0);
    auto start = std::chrono::steady_clock::now();
    m.decode(b, all, decoder);
    best.prefill = std::max(best.prefill, window / seconds_since(start));
    start = std::chrono::steady_clock::now();
    for (int i = 0; i < decoded; ++i) m.decode(b, token_ids{prompt.data() + i, {1}}, decoder);
    best.decode = std::max(best.decode, decoded / seconds_since(start));
  }
  return best;
}

}  // namespace demo
