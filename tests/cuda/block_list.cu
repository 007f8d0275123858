// SPDX-License-Identifier: Apache-2.0
// block_list on a GPU, in its own memory: any_pattern listed on the host and carried there gives
// the bits of the same pattern as a type, forward and backward.
#include "deepseek/cuda.cuh"

#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;

namespace {

using ds::index_t;
using seen = ds::both<ds::causal, ds::either<ds::local<9>, ds::random_blocks<16, 2>>>;
template <class T>
using cube = ds::tensor<T, ds::device, ds::dyn, ds::dyn, ds::dyn>;

constexpr index_t queries = 150, keys = 300, heads = 4, kv_heads = 2, dim = 64;

cube<ds::bf16> numbers(index_t rows, index_t of_heads, std::uint32_t seed) {
  ds::tensor<ds::bf16, ds::host, ds::dyn, ds::dyn, ds::dyn> x({rows, of_heads, dim});
  for (index_t i = 0; i < x.size(); ++i) {
    seed = seed * 1664525U + 1013904223U;
    x.data()[i] = static_cast<ds::bf16>(static_cast<float>(seed >> 8) / 8388608.0F - 1.0F);
  }
  return ds::in_memory<ds::device>(x);
}

struct one_way {
  cube<ds::bf16> q = numbers(queries, heads, 1), k = numbers(keys, kv_heads, 2),
                 v = numbers(keys, kv_heads, 3), g = numbers(queries, heads, 4);
  cube<ds::bf16> o = q, dq = q, dk = k, dv = v;
  ds::tensor<float, ds::device, ds::dyn, ds::dyn> lse{{queries, heads}};

  template <class P>
  void run(const ds::cuda& b, const P& pattern) {
    const ds::attention_spec<P, ds::device> spec{.pattern = pattern};
    ds::ops::attention(b, ds::attention_inputs{q, k, v}, ds::attention_outputs{o, lse}, spec);
    ds::ops::attention_backward(b, ds::attention_inputs{q, k, v}, ds::attention_outputs{o, lse},
                                ds::attention_gradients{g, dq, dk, dv}, spec);
    b.synchronize();
  }
};

template <class X>
bool same_bytes(const X& a, const X& b) {
  const auto x = ds::in_memory<ds::host>(a), y = ds::in_memory<ds::host>(b);
  return std::memcmp(x.data(), y.data(), static_cast<std::size_t>(x.size()) * sizeof(*x.data())) ==
         0;
}

bool has_device() {
  int count = 0;
  const bool has = cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
  (void)cudaGetLastError();
  return has;
}

}  // namespace

TEST_CASE("cuda: a pattern that the host wrote out") {
  if (!has_device()) {
    support::skip("no CUDA device");
    return;
  }
  const ds::cuda b;
  const auto pattern = ds::make_pattern<seen>({.seed = 4, .site = 1});
  const auto tables =
      ds::list_blocks(ds::any_pattern(pattern),
                      {.queries = queries, .keys = keys, .heads = heads, .start = keys - queries});
  const auto there = ds::in_memory<ds::device>(tables);
  one_way typed, listed;
  typed.run(b, pattern);
  listed.run(b, ds::block_list(there));
  CHECK(same_bytes(typed.o, listed.o));
  CHECK(same_bytes(typed.lse, listed.lse));
  CHECK(same_bytes(typed.dq, listed.dq));
  CHECK(same_bytes(typed.dk, listed.dk));
  CHECK(same_bytes(typed.dv, listed.dv));

  const auto fewer = ds::list_blocks(pattern, {.queries = keys, .keys = 299, .heads = heads});
  const auto fewer_there = ds::in_memory<ds::device>(fewer);
  CHECK_ERROR(ds::error_code::shape_mismatch, "300 keys, but 299 are listed",
              listed.run(b, ds::block_list(fewer_there)));
}
