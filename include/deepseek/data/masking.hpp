// SPDX-License-Identifier: Apache-2.0
// What a language model is asked to predict, made from tokens on the host.
// next_token_targets: targets[i] = tokens[i + 1] inside a sequence, `ignore` at its end. Sequence s
// is tokens offsets[s] .. offsets[s + 1] - 1; no offsets: all of it is one sequence.
// masked_language_model: each token is chosen with probability `rate`; of the chosen, 80 % become
// `mask`, 10 % a random token, 10 % stay; targets hold the chosen tokens, `ignore` elsewhere.
// Tokens in `never` are not chosen. Position i draws words 4 i .. 4 i + 3 of stream (seed, step,
// random_use::data), so it depends on nothing but seed, step and i.
// Errors: index_range (offsets that fall or do not end at the last token; a token or the mask
// outside the vocabulary), invalid_argument (rate). Source: Devlin et al. 2019 (BERT), 3.1.
#pragma once

#include "deepseek/core/error.hpp"
#include "deepseek/core/random.hpp"

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace deepseek {

using token_span = std::span<const std::int32_t>;

namespace detail {
inline void require_offsets(token_span offsets, std::size_t tokens) {
  require(offsets.front() == 0 && offsets.back() >= 0 &&
              static_cast<std::size_t>(offsets.back()) == tokens,
          error_code::index_range, "masking: offsets run from ", offsets.front(), " to ",
          offsets.back(), "; they must run from 0 to the number of tokens, ", tokens);
  for (std::size_t s = 1; s < offsets.size(); ++s) {
    require(offsets[s - 1] <= offsets[s], error_code::index_range, "masking: offsets[", s, "] is ",
            offsets[s], " after ", offsets[s - 1], "; offsets must not fall");
  }
}
}  // namespace detail

inline std::vector<std::int32_t> next_token_targets(token_span tokens, token_span offsets = {},
                                                    std::int32_t ignore = -100) {
  std::vector<std::int32_t> targets(tokens.size(), ignore);
  if (tokens.size() > 1) std::copy(tokens.begin() + 1, tokens.end(), targets.begin());
  if (offsets.empty()) return targets;
  detail::require_offsets(offsets, tokens.size());
  for (std::size_t s = 1; s < offsets.size(); ++s) {
    if (offsets[s] > offsets[s - 1]) targets[static_cast<std::size_t>(offsets[s]) - 1] = ignore;
  }
  return targets;
}

struct masking_config {
  std::int32_t mask = 0;        // what stands for a hidden token
  std::int32_t vocabulary = 0;  // random tokens are 0 .. vocabulary - 1
  double rate = 0.15;           // share of tokens to predict, in [0, 1]
  std::uint64_t seed = 0;
  std::uint32_t step = 0;
  std::int32_t ignore = -100;
  token_span never = {};  // tokens that are not chosen: separators, padding
};

struct masked_tokens {
  std::vector<std::int32_t> inputs, targets;
};

inline masked_tokens masked_language_model(token_span tokens, const masking_config& config) {
  require(config.rate >= 0 && config.rate <= 1, error_code::invalid_argument, "masking: rate is ",
          config.rate, "; pass a share in [0, 1]");
  require(config.mask >= 0 && config.mask < config.vocabulary, error_code::index_range,
          "masking: mask is ", config.mask, ", outside the vocabulary of ", config.vocabulary,
          "; pass a token of the vocabulary");
  masked_tokens out{{tokens.begin(), tokens.end()},
                    std::vector<std::int32_t>(tokens.size(), config.ignore)};
  const stream_key key{config.seed, config.step, 0, 0, random_use::data};
  const auto share = [](std::uint32_t word) { return static_cast<double>(word) * 0x1p-32; };
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    require(tokens[i] >= 0 && tokens[i] < config.vocabulary, error_code::index_range,
            "masking: tokens[", i, "] is ", tokens[i], ", outside the vocabulary of ",
            config.vocabulary, "; pass tokens of the vocabulary");
    const philox_words words = random_block(key, i);
    if (share(words[0]) >= config.rate || std::ranges::count(config.never, tokens[i]) > 0) continue;
    out.targets[i] = tokens[i];
    const double way = share(words[1]);
    if (way < 0.8) {
      out.inputs[i] = config.mask;
    } else if (way < 0.9) {
      const auto choices = static_cast<std::uint64_t>(config.vocabulary);
      out.inputs[i] = static_cast<std::int32_t>((words[2] * choices) >> 32U);
    }
  }
  return out;
}

}  // namespace deepseek
