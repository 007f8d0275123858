// SPDX-License-Identifier: Apache-2.0
// Every pattern of the library in a kernel: what it answers there, bound there to a head, is what
// it answers on the host. Patterns over tables borrow one of each memory.
#include "deepseek/cuda.cuh"

#include "cuda/has_device.cuh"

#include <cstring>
#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace ds = deepseek;
using cuda_test::has_device;

namespace {

using ds::index_t;

constexpr index_t queries = 96, keys = 320, start = keys - queries, heads = 4;

struct answer {
  std::uint64_t visible = 0, row_bits = 0;
  index_t first = 0, last = 0;
  std::uint64_t cover = 0;
};

// Of query row i and keys k0 .. k0 + 63.
template <class P>
DEEPSEEK_HOST_DEVICE answer ask(const P& pattern, index_t head, ds::reach seen, index_t i,
                                index_t k0) {
  const ds::pattern_scope scope{.head = head, .keys = keys, .seen = seen, .start = start};
  const P bound = ds::bind_pattern(pattern, scope);
  const index_t q = start + i;
  answer a;
  for (index_t j = 0; j < 64; ++j) {
    if (bound.visible(q, k0 + j)) a.visible |= std::uint64_t{1} << j;
  }
  a.row_bits = ds::row_bits(bound, q, k0);
  const ds::key_span span = ds::next_keys(bound, q, q + 1, k0);
  a.first = span.first;
  a.last = span.last;
  a.cover = static_cast<std::uint64_t>(bound.cover({q, q + 1, k0, k0 + 64}));
  return a;
}

template <class P>
struct asked {
  static constexpr int threads = 32;
  P pattern;
  ds::reach seen;
  answer* answers;
  static index_t blocks() { return heads * queries; }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t head = block.index() / queries, i = block.index() % queries;
    for (index_t k0 = 64 * block.rank(); k0 < keys; k0 += 64 * threads) {
      answers[block.index() * (keys / 64) + k0 / 64] = ask(pattern, head, seen, i, k0);
    }
  }
};

template <class P>
void compare(const P& here, const P& there, const char* name) {
  const ds::cuda b;
  constexpr index_t bytes = heads * queries * (keys / 64) * index_t{sizeof(answer)};
  for (const auto seen : {ds::reach::everywhere, ds::reach::past}) {
    ds::tensor<std::byte, ds::device, bytes> answers;
    b.launch(asked<P>{there, seen, reinterpret_cast<answer*>(answers.data())});
    b.synchronize();
    const auto got = ds::in_memory<ds::host>(answers);
    index_t differ = 0;
    for (index_t n = 0; n < bytes / index_t{sizeof(answer)}; ++n) {
      const index_t row = n / (keys / 64);
      const answer want = ask(here, row / queries, seen, row % queries, n % (keys / 64) * 64);
      differ += std::memcmp(got.data() + n * index_t{sizeof(answer)}, &want, sizeof(want)) != 0;
    }
    CHECK_MESSAGE(differ == 0, std::string(name));
  }
}
template <class P>
void compare(const char* name) {
  const P pattern = ds::make_pattern<P>({.seed = 11, .site = 3});
  compare(pattern, pattern, name);
}
// make(view): the pattern over a table.
template <class T, class Make>
void compare_over(const T& table, const Make& make, const char* name) {
  const auto there = ds::in_memory<ds::device>(table);
  compare(make(table.view()), make(there.view()), name);
}

template <class T>
ds::tensor<T, ds::host, ds::dyn, ds::dyn> drawn(index_t rows, index_t columns) {
  ds::tensor<T, ds::host, ds::dyn, ds::dyn> x({rows, columns});
  std::uint32_t seed = 5;
  for (index_t i = 0; i < x.size(); ++i) {
    seed = seed * 1664525U + 1013904223U;
    x.data()[i] = static_cast<T>(seed >> 31);
  }
  return x;
}
ds::tensor<std::int32_t, ds::host, ds::dyn> list(const std::vector<std::int32_t>& of) {
  ds::tensor<std::int32_t, ds::host, ds::dyn> x({static_cast<index_t>(of.size())});
  for (std::size_t i = 0; i < of.size(); ++i) x.data()[i] = of[i];
  return x;
}

}  // namespace

TEST_CASE("patterns: bands, blocks, steps") {
  if (!has_device()) return;
  compare<ds::causal>("causal");
  compare<ds::local<9>>("local");
  compare<ds::sliding<40>>("sliding");
  compare<ds::everyone>("everyone");
  compare<ds::block<48, 1>>("block");
  compare<ds::windowed<32>>("windowed");
  compare<ds::dilated<5, 3>>("dilated");
  compare<ds::strided<7>>("strided");
  compare<ds::fixed<32, 4, 2>>("fixed");
  compare<ds::streaming<4, 60>>("streaming");
  compare<ds::global_tokens<6>>("global_tokens");
  compare<ds::compressed<4>>("compressed");
}

TEST_CASE("patterns: drawn and combined") {
  if (!has_device()) return;
  compare<ds::random_blocks<16, 3>>("random_blocks");
  compare<ds::bigbird<32, 2>>("bigbird");
  compare<ds::bigbird<32, 2, ds::bigbird_draws::published>>("bigbird, published");
  compare<ds::both<ds::causal, ds::either<ds::sliding<20>, ds::random_blocks<16, 2>>>>("combined");
  compare<ds::scored<ds::both<ds::causal, ds::bigbird<16, 1>>, ds::alibi<heads>>>("scored");
}

TEST_CASE("patterns: over tables") {
  if (!has_device()) return;
  compare_over(
      drawn<std::uint8_t>(20, 20), [](const auto& v) { return ds::given_blocks(v, 16); },
      "given_blocks");
  compare_over(
      drawn<std::uint8_t>(keys, keys), [](const auto& v) { return ds::given_mask(v); },
      "given_mask");
  compare_over(
      list({0, 100, 100, 270, keys}), [](const auto& v) { return ds::documents(v); }, "documents");
  compare_over(
      list({3, 64, 65, 250, 300}), [](const auto& v) { return ds::global_set(v); }, "global_set");
  ds::tensor<std::int32_t, ds::host, ds::dyn, 2, 3> ids({queries, 2, 3});
  for (index_t i = 0; i < ids.size(); ++i) ids.data()[i] = static_cast<std::int32_t>(i * 7 % 20);
  compare_over(
      ids, [](const auto& v) { return ds::block_set<16>(v, heads); }, "block_set");
}
