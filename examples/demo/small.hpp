// SPDX-License-Identifier: Apache-2.0
// The trained model in int8 and what it gives. Compiled apart from the training (small.cpp).
#pragma once

#include "corpus.hpp"
#include "speed.hpp"

namespace demo {

struct small_figures {
  double bpb = 0;
  ds::index_t bytes = 0;
  speed how_fast;
  speculation drafts;
  std::string sample;  // text written after the prompt
};

struct sample_request {
  std::string prompt;
  int bytes = 400;
  std::uint64_t seed = 1;
};

// Calibrates on training text, quantizes, measures on the held-out text, writes a sample.
small_figures measure_small(const ds::cpu& b, const model& m, const corpus& text,
                            const sample_request& request);

}  // namespace demo
