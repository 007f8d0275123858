// SPDX-License-Identifier: Apache-2.0
// generate against the full run token by token, on a plain and an int8 model; how it ends.
#include "deepseek/deepseek.hpp"

#include "deepseek/serve/generate.hpp"
#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;

namespace {

inline constexpr ds::attention_config heads{.dim = 8, .heads = 2};
struct net
    : ds::chain<ds::embedding<13, 8>,
                ds::repeat<2, ds::transformer_block<ds::multi_head_attention<heads, ds::causal>,
                                                    ds::swiglu<8, 12>>>,
                ds::rms_norm<8>, ds::called<"head", ds::linear<8, 13>>> {};
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;

const std::int32_t start[] = {3, 1, 4};
const ids prompt(start, {3});

// The same tokens without a cache: the whole text again for every token.
template <class M>
std::vector<std::int32_t> without_cache(const ds::cpu& b, const M& m, ds::sampler draw, int n) {
  std::vector<std::int32_t> all(start, start + 3);
  for (int i = 0; i < n; ++i) {
    const auto logits = m(b, ids{all.data(), {static_cast<ds::index_t>(all.size())}});
    all.push_back(draw.next(ds::slice(logits.view(), logits.extent(0) - 1)));
  }
  return {all.begin() + 3, all.end()};
}

template <class M>
void expect_tokens(const ds::cpu& b, const M& m, const ds::sampler_config& sampling) {
  std::vector<std::int32_t> got;
  const ds::generation done = ds::generate(b, m, prompt, {.tokens = 9, .sampling = sampling},
                                           [&](std::int32_t token) { got.push_back(token); });
  CHECK(got == without_cache(b, m, ds::sampler(sampling), 9));
  CHECK(done.ended == ds::generation_end::tokens);
  CHECK(done.prompt_tokens == 3);
  CHECK(done.new_tokens == 9);
  CHECK(done.prefill_seconds > 0);
  CHECK(done.decode_seconds > 0);
}

}  // namespace

TEST_CASE("the tokens of the full run") {
  ds::cpu b{{.threads = 2}};
  const ds::model<net, float, ds::cpu> m(b, ds::scaled_init{.gain = 2, .seed = 3});
  auto seen = m.calibration();
  m.observe(b, prompt, seen);
  for (double temperature : {0.0, 1.0}) {
    const ds::sampler_config sampling{.temperature = temperature, .top_k = 8, .seed = 11};
    expect_tokens(b, m, sampling);
    expect_tokens(b, ds::quantize<ds::w8a8>(b, m, seen), sampling);
  }
}

TEST_CASE("how it ends") {
  ds::cpu b;
  const ds::model<net, float, ds::cpu> m(b, ds::scaled_init{.gain = 2, .seed = 3});
  int calls = 0;
  const auto count = [&](std::int32_t) { ++calls; };
  auto done = ds::generate(b, m, prompt, {.tokens = 50, .capacity = 5}, count);
  CHECK(done.ended == ds::generation_end::capacity);
  CHECK(done.new_tokens == 3);  // after the prompt and after each of two more positions
  CHECK(calls == 3);
  done = ds::generate(b, m, prompt, {.tokens = 3, .capacity = 5}, count);
  CHECK(done.ended == ds::generation_end::tokens);
  done = ds::generate(b, m, prompt, {.tokens = 50}, [&](std::int32_t) { return ++calls < 10; });
  CHECK(done.ended == ds::generation_end::sink);
  CHECK(done.new_tokens == 4);
  CHECK(ds::generate(b, m, prompt, {.tokens = 0}, count).new_tokens == 0);
  CHECK(calls == 10);
}

TEST_CASE("what is refused") {
  ds::cpu b;
  const ds::model<net, float, ds::cpu> m(b, ds::normal_init{});
  const auto ignore = [](std::int32_t) {};
  using code = ds::error_code;
  CHECK_ERROR(code::invalid_argument, "prompt is empty",
              ds::generate(b, m, ids{start, {0}}, {}, ignore));
  CHECK_ERROR(code::invalid_argument, "tokens is -1",
              ds::generate(b, m, prompt, {.tokens = -1}, ignore));
  CHECK_ERROR(code::index_range, "0 + 3 positions", "capacity of 2",
              ds::generate(b, m, prompt, {.tokens = 4, .capacity = 2}, ignore));
  const std::int32_t outside[] = {13};
  CHECK_ERROR(code::index_range, "13", ds::generate(b, m, ids{outside, {1}}, {}, ignore));
}
