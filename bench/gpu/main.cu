// SPDX-License-Identifier: Apache-2.0
// usage: gpu_bench [group ...]   groups: mem gemm attn decode mla moe gate (default: all)
// One JSON row a line; see timing.cuh. Ends with 77 when there is no device.
#include "timing.cuh"

#include <set>

int main(int argc, char** argv) {
  const std::set<std::string> wanted(argv + 1, argv + argc);
  int status = 0;
  const auto group = [&](const char* name, auto run, const auto& b, auto& t) {
    if (!wanted.empty() && wanted.count(name) == 0) return;
    try {  // what one group lacks (memory, say) does not end the others
      run(b, t);
    } catch (const bench::ds::error& e) {
      std::fprintf(stderr, "gpu_bench: %s: %s\n", name, e.what());
      status = 1;
    }
  };
  try {
    const bench::ds::cuda b;
    bench::timer t(b);
    group("mem", bench::memory_rows, b, t);
    group("gemm", bench::product_rows, b, t);
    group("attn", bench::attention_rows, b, t);
    group("decode", bench::decode_rows, b, t);
    group("mla", bench::latent_rows, b, t);
    group("moe", bench::expert_rows, b, t);
    group("gate", bench::choice_rows, b, t);
  } catch (const bench::ds::error& e) {
    std::fprintf(stderr, "gpu_bench: %s\n", e.what());
    return e.code() == bench::ds::error_code::device ? 77 : 1;
  }
  return status;
}
