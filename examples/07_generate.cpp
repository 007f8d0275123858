// SPDX-License-Identifier: Apache-2.0
// Generation: the prompt at once, then token by token with a cache of keys and values; each next
// token is drawn by a sampler with a seed. The trained model continues with what it was shown.
#include "copy_task.hpp"

#include <deepseek/serve/generate.hpp>

#include <cstdio>

namespace ds = deepseek;

int main() {
  const ds::cpu cpu{{.threads = 2}};
  copy_task::model m(cpu, ds::scaled_init{.seed = 1});
  copy_task::train(cpu, m, 300);

  const std::int32_t prompt[] = {3, 1, 4, 1, 5, 9, 2, 6};
  std::printf("prompt:   ");
  for (std::int32_t token : prompt) std::printf(" %d", token);
  std::printf("\ncontinues:");

  const ds::generate_options options{
      .tokens = 8, .sampling = {.temperature = 0.5, .top_k = 4, .top_p = 0.9, .seed = 11}};
  const auto done = ds::generate(cpu, m, copy_task::ids(prompt, {8}), options,
                                 [](std::int32_t token) { std::printf(" %d", token); });

  std::printf("\n%lld new tokens, ended by %s\n", static_cast<long long>(done.new_tokens),
              done.ended == ds::generation_end::tokens ? "their number" : "something else");
}
