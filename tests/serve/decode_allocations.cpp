// SPDX-License-Identifier: Apache-2.0
// A decode step after warm-up asks the C library for no memory: its allocators are counted here. On
// one thread: another of the pool makes its scratch memory when it gets its first task, whenever
// that is.
#include "deepseek/deepseek.hpp"

#include "deepseek/serve/generate.hpp"
#include "support/report.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>

#if defined(__GLIBC__) && !DEEPSEEK_ASAN

namespace {
std::atomic<long> allocations{0};
}

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t n) {
  ++allocations;
  return __libc_malloc(n);
}
void* calloc(std::size_t n, std::size_t size) {
  ++allocations;
  return __libc_calloc(n, size);
}
void* realloc(void* p, std::size_t n) {
  ++allocations;
  return __libc_realloc(p, n);
}
int posix_memalign(void** p, std::size_t alignment, std::size_t n) {
  ++allocations;
  *p = __libc_memalign(alignment, n);
  return *p == nullptr ? ENOMEM : 0;
}
}

namespace ds = deepseek;

namespace {

inline constexpr ds::attention_config heads{.dim = 64, .heads = 4, .kv_heads = 2};
inline constexpr ds::mla_config latent{
    .dim = 64, .heads = 4, .kv_rank = 16, .nope_dim = 16, .rope_dim = 8, .v_dim = 16};
inline constexpr ds::moe_config experts{
    .dim = 64, .hidden = 32, .routed = 8, .shared = 1, .active = 2};

template <class Attention, class Ffn>
struct net_of
    : ds::chain<ds::embedding<50, 64>, ds::repeat<2, ds::transformer_block<Attention, Ffn>>,
                ds::rms_norm<64>, ds::called<"head", ds::linear<64, 50>>> {};
using plain = net_of<ds::multi_head_attention<heads, ds::causal>, ds::swiglu<64, 96>>;
using sparse = net_of<ds::latent_attention<latent, ds::causal>,
                      ds::moe<experts, ds::softmax_top_k<ds::renormalize::yes>>>;

using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;

// Of the last 16 of 20 steps.
template <class Model>
long allocations_of_steps(const ds::cpu& b, const Model& m) {
  const std::int32_t text[] = {3, 1, 4, 1, 5};
  auto decoder = m.decoder(b, 32);
  m.decode(b, ids(text, {5}), decoder);
  ds::sampler draw({.temperature = 1.0, .top_k = 8, .seed = 11});
  std::int32_t token = 9;
  long before = 0;
  for (int step = 0; step < 20; ++step) {
    if (step == 4) before = allocations;
    const auto logits = m.decode(b, ids(&token, {1}), decoder);
    token = draw.next(ds::slice(logits, 0));
  }
  return allocations - before;
}

template <class Net, class... Formats>
void expect_none() {
  const ds::cpu b({.threads = 1});
  const ds::model<Net, float, ds::cpu> m(b, ds::scaled_init{.gain = 2, .seed = 3});
  const auto check = [&](const auto& formatted) { CHECK(allocations_of_steps(b, formatted) == 0); };
  (check(ds::quantize<Formats>(b, m)), ...);
}

}  // namespace

TEST_CASE("counting counts") {
  const long before = allocations;
  const ds::tensor<float, ds::host, ds::dyn> t({1000});
  CHECK(allocations > before);
}
TEST_CASE("a decode step of dense layers allocates nothing") {
  expect_none<plain, ds::packed<ds::cpu>>();
}
TEST_CASE("a decode step of latent attention and experts allocates nothing") {
  expect_none<sparse, ds::int4_activations<32>>();
}

#else

TEST_CASE("a decode step allocates nothing" * doctest::skip(true)) {
}  // counted with glibc's allocators alone

#endif
