// SPDX-License-Identifier: Apache-2.0
// Training batches: windows of the training text at random places, packed one after the other.
// Batch n depends on (seed, n) alone, so a resumed run goes on with the same text. A window never
// crosses the end of a document; a document shorter than a window is taken whole.
#pragma once

#include <deepseek/core/random.hpp>

#include <algorithm>
#include <vector>

#include "corpus.hpp"
#include "net.hpp"

namespace demo {

struct batch {
  std::vector<std::int32_t> inputs, targets, offsets{0};

  token_ids input_view() const {
    return {inputs.data(), {static_cast<ds::index_t>(inputs.size())}};
  }
  token_ids target_view() const {
    return {targets.data(), {static_cast<ds::index_t>(targets.size())}};
  }
  ds::sequence_offsets<ds::host> sequences() const {
    return {offsets.data(), {static_cast<ds::index_t>(offsets.size())}};
  }
  void clear() {
    inputs.clear();
    targets.clear();
    offsets.assign(1, 0);
  }
  // Bytes first .. last - 1 of a text as one sequence; each predicts the byte after it.
  void add(std::string_view text, std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; ++i) {
      inputs.push_back(static_cast<unsigned char>(text[i]));
      targets.push_back(static_cast<unsigned char>(text[i + 1]));
    }
    offsets.push_back(static_cast<std::int32_t>(inputs.size()));
  }
};

// Fills `out` with `count` windows of documents that have at least two bytes.
inline void draw_batch(const documents& text, std::uint64_t seed, std::uint32_t number, int count,
                       batch& out) {
  out.clear();
  ds::random_stream random({seed, number, 0, 0, ds::random_use::data});
  for (int drawn = 0; drawn < count;) {
    const std::size_t at = random.below(static_cast<std::uint32_t>(text.bytes.size()));
    const auto after = std::upper_bound(text.starts.begin(), text.starts.end(), at);
    const std::size_t which = static_cast<std::size_t>(after - text.starts.begin()) - 1;
    const std::string_view document = text[which];
    if (document.size() < 2) continue;
    const std::size_t length = std::min<std::size_t>(window, document.size() - 1);
    const std::size_t first = std::min(at - text.starts[which], document.size() - 1 - length);
    out.add(document, first, first + length);
    ++drawn;
  }
}

}  // namespace demo
