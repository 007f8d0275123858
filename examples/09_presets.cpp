// SPDX-License-Identifier: Apache-2.0
// The released models as types: parameters, those active for a token, and what a cache keeps of a
// token in bf16, all known at compile time. Then one's own, derived from a released one.
#include <deepseek/deepseek.hpp>

#include <cstdio>

namespace ds = deepseek;

template <ds::model_config C>
void print_row(const char* name) {
  using net = typename ds::preset<C>::net;
  constexpr double billion = 1e9, kib = 1024;
  constexpr auto all = static_cast<double>(ds::parameter_count<net>());
  constexpr auto active = static_cast<double>(ds::active_parameter_count<net>());
  constexpr auto cache = static_cast<double>(ds::cache_bytes_per_token<net, ds::bf16>());
  std::printf("%-22s %9.3f %9.3f %11.1f\n", name, all / billion, active / billion, cache / kib);
}

// A diff of two values is a diff of two models.
inline constexpr auto small = [] {
  auto c = ds::v2_lite;
  c.layers = 4;
  c.dim = 512;
  c.hidden = 1024;
  c.experts.hidden = 128;
  c.latent.heads = 4;
  return c;
}();

int main() {
  std::printf("%-22s %9s %9s %11s\n", "model", "10^9", "active", "KiB/token");
  print_row<ds::llm_7b>("LLM-7B");
  print_row<ds::llm_67b>("LLM-67B");
  print_row<ds::coder_1_3b>("Coder-1.3B");
  print_row<ds::coder_6_7b>("Coder-6.7B");
  print_row<ds::coder_33b>("Coder-33B");
  print_row<ds::moe_16b>("MoE-16B");
  print_row<ds::v2_lite>("V2-Lite");
  print_row<ds::v2>("V2");
  print_row<ds::v3>("V3, R1, V3.1");
  print_row<ds::v3_2>("V3.2");
  print_row<ds::r1_distill_qwen_1_5b>("R1-Distill-Qwen-1.5B");
  print_row<ds::r1_distill_qwen_7b>("R1-Distill-Qwen-7B");
  print_row<ds::r1_distill_qwen_14b>("R1-Distill-Qwen-14B");
  print_row<ds::r1_distill_qwen_32b>("R1-Distill-Qwen-32B");
  print_row<ds::r1_distill_llama_8b>("R1-Distill-Llama-8B");
  print_row<ds::r1_distill_llama_70b>("R1-Distill-Llama-70B");
  print_row<small>("small, from V2-Lite");
}
