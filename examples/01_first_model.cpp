// SPDX-License-Identifier: Apache-2.0
// A mixture-of-experts language model composed from types, and run: layers describe, parameters
// hold, ops compute, a backend owns the machine.
#include <deepseek/deepseek.hpp>

#include <cmath>
#include <cstdio>

namespace ds = deepseek;

// Values with names: a diff of these lines is a diff of the model.
inline constexpr ds::attention_config grouped{.dim = 64, .heads = 4, .kv_heads = 2};
inline constexpr ds::moe_config experts{
    .dim = 64, .hidden = 32, .routed = 8, .shared = 1, .active = 2};

// Who sees whom: the last 32 tokens, and some blocks of 16 further back.
using seen = ds::both<ds::causal, ds::either<ds::local<32>, ds::random_blocks<16, 2>>>;

using layer = ds::transformer_block<ds::multi_head_attention<grouped, seen>, ds::moe<experts>>;
struct net : ds::chain<ds::embedding<256, 64>, ds::repeat<3, layer>, ds::rms_norm<64>,
                       ds::called<"head", ds::linear<64, 256>>> {};

int main() {
  const ds::cpu cpu{{.threads = 2}};
  const ds::model<net, float, ds::cpu> m(cpu, ds::normal_init{.stddev = 0.02, .seed = 7});

  const std::int32_t text[] = {'h', 'e', 'l', 'l', 'o'};
  const auto logits = m(cpu, ds::view<const std::int32_t, ds::host, ds::dyn>(text, {5}));

  std::printf("parameters: %lld\n", static_cast<long long>(ds::parameter_count(m.parameters())));
  std::printf("logits: %s\n", ds::shape_string(logits.view()).c_str());

  // Untrained, the model should find every byte about as likely as any other: 8 bits.
  double sum = 0;
  for (int v = 0; v < 256; ++v) sum += std::exp(static_cast<double>(logits.view()(4, v)));
  const double bits = std::log2(sum) - static_cast<double>(logits.view()(4, '!')) / std::log(2.0);
  std::printf("bits of '!' after \"hello\": %.0f\n", bits);

  std::printf("the first tensors:\n");
  int shown = 0;
  ds::visit(
      [&](const ds::tensor_name& at, const auto& t) {
        if (++shown <= 6) {
          std::printf("  %s %s\n", at.path.c_str(), ds::shape_string(t.view()).c_str());
        }
      },
      m.parameters());
}
