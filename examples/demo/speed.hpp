// SPDX-License-Identifier: Apache-2.0
// Tokens per second of a model: prefill (a prompt of one window at once) and decoding (one token at
// a time, with the cache filled), each the best of several rounds; and what speculative decoding
// makes of the latter, where every byte is the most likely one.
#pragma once

#include <deepseek/serve/speculative.hpp>

#include <algorithm>
#include <chrono>

#include "language_model.hpp"

namespace demo {

struct speed {
  double prefill = 0, decode = 0;  // tokens per second
};

struct speculation {
  double acceptance = 0;       // share of the drafts that the model agrees with
  double tokens_per_call = 0;  // of the model
  double speed_up = 0;         // of decoding
  bool same_text = false;
};

inline std::vector<std::int32_t> ids_of(std::string_view text) {
  std::vector<std::int32_t> ids;
  for (const char ch : text) ids.push_back(static_cast<unsigned char>(ch));
  return ids;
}

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

template <class Model>
speculation measure_speculation(const ds::cpu& b, const Model& m, std::string_view prompt) {
  constexpr int rounds = 3, bytes = 256;
  const auto ids = ids_of(prompt);
  const token_ids start{ids.data(), {static_cast<ds::index_t>(ids.size())}};
  double plain = 1e9, drafted = 1e9;
  std::vector<std::int32_t> text, same;
  const auto into = [](std::vector<std::int32_t>& v) {
    v.clear();
    return [&v](std::int32_t token) { v.push_back(token); };
  };
  ds::speculation last;
  for (int round = 0; round < rounds; ++round) {
    const auto one =
        ds::generate(b, m, start, {.tokens = bytes, .sampling = {.temperature = 0}}, into(text));
    last = ds::generate_speculative(b, m, start, {.tokens = bytes, .sampling = {.temperature = 0}},
                                    into(same));
    plain = std::min(plain, one.decode_seconds);
    drafted = std::min(drafted, last.decode_seconds);
  }
  return {last.acceptance(), last.tokens_per_call(), plain / drafted, text == same};
}

}  // namespace demo
