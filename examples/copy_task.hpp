// SPDX-License-Identifier: Apache-2.0
// The task of examples 05 to 07 and 12: sequences of 16 tokens whose second half repeats the first.
// The loss counts the second half only; guessing among 10 tokens costs log(10) = 2.3.
#pragma once

#include <deepseek/deepseek.hpp>

#include <array>
#include <vector>

namespace copy_task {

namespace ds = deepseek;

inline constexpr ds::index_t vocabulary = 10, half = 8, length = 2 * half, sequences = 16;

inline constexpr ds::attention_config heads{.dim = 32, .heads = 4};
inline constexpr ds::moe_config experts{.dim = 32, .hidden = 32, .routed = 4, .active = 2};
using layer = ds::transformer_block<ds::multi_head_attention<heads, ds::causal>, ds::moe<experts>>;
struct net : ds::chain<ds::embedding<vocabulary, 32>, ds::repeat<2, layer>, ds::rms_norm<32>,
                       ds::called<"head", ds::linear<32, vocabulary>>> {};
using model = ds::model<net, float, ds::cpu>;
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;

// Packed sequences: tokens, what comes next, and where each sequence begins.
struct batch {
  std::vector<std::int32_t> tokens, targets, offsets;

  explicit batch(std::uint32_t number) {
    for (ds::index_t s = 0; s < sequences; ++s) {
      std::array<std::int32_t, half> first{};
      for (ds::index_t i = 0; i < half; ++i) {
        const ds::stream_key key{17, number, static_cast<std::uint32_t>(s), 0,
                                 ds::random_use::data};
        first[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(
            ds::random_word(key, static_cast<std::uint64_t>(i)) % vocabulary);
      }
      const auto at = [&](ds::index_t i) { return first[static_cast<std::size_t>(i % half)]; };
      offsets.push_back(static_cast<std::int32_t>(tokens.size()));
      for (ds::index_t i = 0; i + 1 < length; ++i) {
        tokens.push_back(at(i));
        targets.push_back(i + 1 < half ? -100 : at(i + 1));  // -100: not counted
      }
    }
    offsets.push_back(static_cast<std::int32_t>(tokens.size()));
  }
  ids token_view() const { return view_of(tokens); }
  ids target_view() const { return view_of(targets); }
  ids offset_view() const { return view_of(offsets); }

 private:
  static ids view_of(const std::vector<std::int32_t>& v) {
    return {v.data(), {static_cast<ds::index_t>(v.size())}};
  }
};

// Mean loss in nats on sequences that training never sees.
template <class Model>
double loss(const ds::cpu& cpu, const Model& m) {
  const batch unseen(1'000'000);
  const auto logits = m(cpu, unseen.token_view(), {.sequences = unseen.offset_view()});
  ds::tensor<float, ds::host, ds::dyn> each({logits.extent(0)});
  return ds::ops::cross_entropy(cpu, logits, unseen.target_view(), each).mean;
}

template <class Model>
ds::train_result train(const ds::cpu& cpu, Model& m, std::uint32_t steps) {
  ds::trainer trainer(cpu, m, ds::adamw{.weight_decay = 0.01},
                      ds::warmup_cosine{.peak = 5e-3, .warmup = 20, .total = steps});
  ds::train_result last;
  for (std::uint32_t step = 0; step < steps; ++step) {
    const batch b(step);
    last = *trainer.micro_step(b.token_view(), b.target_view(), b.offset_view());
  }
  return last;
}

}  // namespace copy_task
