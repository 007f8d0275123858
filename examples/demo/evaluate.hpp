// SPDX-License-Identifier: Apache-2.0
// Bits per byte of held-out text, for any model of bytes. Every byte counts: the first of a
// document costs 8 bits (nothing is known), every other one is predicted from at least half a
// window before it, where the document has that much. Sums in double, in the order of the text.
#pragma once

#include <cmath>

#include "batches.hpp"
#include "language_model.hpp"

namespace demo {

namespace detail {

// One window of a document: bytes from `first` on are predicted, those of them before `counted`
// were counted by the window before.
template <class Model>
double window_nats(const ds::cpu& b, const Model& m, const batch& work,
                   const std::vector<std::int32_t>& targets, ds::index_t& counted) {
  const auto logits = m(b, work.input_view(), {.sequences = work.sequences()});
  const ds::scope freed(b.workspace());
  auto losses = b.workspace().template make<float, ds::dyn>(logits.extent(0));
  const token_ids wanted{targets.data(), {static_cast<ds::index_t>(targets.size())}};
  const auto r = ds::ops::cross_entropy(b, logits, wanted, losses, ds::cross_entropy_spec{});
  counted += r.counted;
  return r.mean * static_cast<double>(r.counted);
}

}  // namespace detail

// Every `stride`-th document is looked at (1: all of them).
template <class Model>
double bits_per_byte(const ds::cpu& b, const Model& m, const documents& text,
                     std::size_t stride = 1) {
  constexpr std::size_t step = window / 2, batch_tokens = 16 * window;
  double nats = 0;
  std::size_t bytes = 0;
  ds::index_t counted = 0;
  batch work;
  std::vector<std::int32_t> targets;
  const auto run = [&] {
    if (!work.inputs.empty()) nats += detail::window_nats(b, m, work, targets, counted);
    work.clear();
    targets.clear();
  };
  for (std::size_t d = 0; d < text.size(); d += stride) {
    const std::string_view document = text[d];
    if (document.empty()) continue;
    bytes += document.size();
    nats += std::log(256.0);
    std::size_t known = 0;  // inputs whose target was counted
    for (std::size_t first = 0; known + 1 < document.size(); first += step) {
      const std::size_t last = std::min(first + window, document.size() - 1);
      work.add(document, first, last);
      for (std::size_t i = first; i < last; ++i) {
        targets.push_back(i < known ? -100 : static_cast<unsigned char>(document[i + 1]));
      }
      known = last;
      if (work.inputs.size() >= batch_tokens) run();
    }
  }
  run();
  return bytes == 0 ? 0.0 : nats / std::log(2.0) / static_cast<double>(bytes);
}

}  // namespace demo
