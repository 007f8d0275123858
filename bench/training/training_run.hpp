// SPDX-License-Identifier: Apache-2.0
// The demo's model and training settings on a text that is made up, so that a step needs no files:
// words of a small vocabulary, frequent ones more often. What bench/training_step.cpp times.
#pragma once

#include <deepseek/deepseek.hpp>

#include "../../examples/demo/batches.hpp"
#include "../../examples/demo/net.hpp"

#include <memory>
#include <string>
#include <vector>

namespace bench {

namespace ds = deepseek;
using ds::index_t;

// One document, longer than a window.
inline demo::documents made_up_text(std::size_t bytes = 65536) {
  constexpr std::uint32_t words = 512, longest = 9;
  ds::random_stream random({7, 0, 0, 0, ds::random_use::data});
  std::vector<std::string> vocabulary(words);
  for (auto& word : vocabulary) {
    for (std::uint32_t n = 2 + random.below(longest - 1); n > 0; --n) {
      word += static_cast<char>('a' + random.below(26));
    }
  }
  demo::documents text;
  text.starts = {0};
  while (text.bytes.size() < bytes) {
    text.bytes += vocabulary[random.below(1 + random.below(words))] + ' ';
  }
  return text;
}

// Trains the demo's model on backend B, batch after batch.
template <class B>
class training_run {
 public:
  using model = ds::model<demo::net, float, B>;

  training_run(const B& b, index_t window_bytes, demo::training_settings settings = {})
      : backend_(b),
        model_(backend_, ds::scaled_init{.gain = 1, .seed = settings.seed}),
        trainer_(backend_, model_, demo::optimizer_rule(), demo::learning_rate(settings),
                 demo::trainer_settings(settings)) {
    const demo::documents text = made_up_text();
    for (std::uint32_t number = 0; number < batches; ++number) {
      demo::draw_batch(text, settings.seed, number, settings.windows, batches_[number]);
      shorten(batches_[number], window_bytes);
    }
  }
  training_run(const training_run&) = delete;
  training_run& operator=(const training_run&) = delete;

  ds::train_result step() {
    const demo::batch& now = batch(trainer_.optimizer().steps());
    return *trainer_.micro_step(now.input_view(), now.target_view(), now.sequences());
  }
  static constexpr index_t batches = 16;  // in turn
  const demo::batch& batch(index_t number) const {
    return batches_[static_cast<std::size_t>(number % batches)];
  }
  const typename model::parameters_type& parameters() const { return model_.parameters(); }

 private:
  // Only the first bytes of every window.
  static void shorten(demo::batch& all, index_t window_bytes) {
    if (window_bytes >= demo::window) return;
    const demo::batch whole = std::move(all);
    all.clear();
    for (std::size_t w = 0; w + 1 < whole.offsets.size(); ++w) {
      const auto from = whole.offsets[w], to = from + static_cast<std::int32_t>(window_bytes);
      const auto take = [&](const auto& source, auto& target) {
        target.insert(target.end(), source.begin() + from, source.begin() + to);
      };
      take(whole.inputs, all.inputs);
      take(whole.targets, all.targets);
      all.offsets.push_back(static_cast<std::int32_t>(all.inputs.size()));
    }
  }

  const B& backend_;
  model model_;
  ds::trainer<model, B, ds::adamw, ds::warmup_cosine> trainer_;
  demo::batch batches_[batches];
};

}  // namespace bench
