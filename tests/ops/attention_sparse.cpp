// SPDX-License-Identifier: Apache-2.0
// attention under the sparse patterns of the papers, both ways and looking back, against dense
// oracle attention with the same mask, forward and backward; and their errors. They are held by
// any_pattern, so that attention is compiled once; as types they go through the layer in
// tests/layers/attention_patterns.cpp.
#include "ops/attention_sweep.hpp"

#include "deepseek/pattern/any_pattern.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/bigbird.hpp"
#include "deepseek/pattern/block.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/dilated.hpp"
#include "deepseek/pattern/documents.hpp"
#include "deepseek/pattern/fixed.hpp"
#include "deepseek/pattern/given_blocks.hpp"
#include "deepseek/pattern/given_mask.hpp"
#include "deepseek/pattern/global_tokens.hpp"
#include "deepseek/pattern/index_set.hpp"
#include "deepseek/pattern/streaming.hpp"

using namespace attention_test;

namespace {

// A key that no query of some head sees holds NaN: the results have the bits of zeros there.
template <class T, class B>
void poisoned(const B& b, const problem& p, const any_pattern& pattern, const rule& sees,
              const std::string& name) {
  data clean = draw<T>(p, name), dirty = clean;
  const index_t start = p.start >= 0 ? p.start : p.m - p.n;
  for (index_t j = 0; j < p.m; ++j) {
    for (index_t kv = 0; kv < p.hk; ++kv) {
      bool seen = false;
      for (index_t g = 0; g < p.h / p.hk; ++g) {
        for (index_t i = 0; i < p.n; ++i) {
          seen = seen || sees(kv * (p.h / p.hk) + g, start + i, j, p.m);
        }
      }
      if (seen) continue;
      const auto fill = [&](std::vector<double>& x, index_t width, double value) {
        std::fill_n(x.begin() + (j * p.hk + kv) * width, width, value);
      };
      fill(clean.k, p.d, 0), fill(clean.v, p.dv, 0);
      fill(dirty.k, p.d, std::nan("")), fill(dirty.v, p.dv, std::nan(""));
    }
  }
  const auto outcome = [&](const data& x) {
    arrays<T> a(p, x);
    a.forward(b, spec_of(p, pattern));
    a.backward(b, spec_of(p, pattern));
    return results(a, wanted::gradients);
  };
  support::expect_true("attention", name + " poison", same(outcome(clean), outcome(dirty)),
                       "a key that nobody sees changed the result");
}

// The shapes of attention_sweep.hpp, and poison on one more where few see all.
void both_ways(const std::string& name, const any_pattern& p, const rule& sees) {
  const rule back = [&](index_t h, index_t q, index_t k, index_t m) {
    return k <= q && sees(h, q, k, m);
  };
  const any_pattern looking_back = any_pattern(both<causal, any_pattern>(causal{}, p));
  sweep(name.c_str(), p, sees);
  sweep((name + " causal").c_str(), looking_back, back);
  const problem few{.n = 5, .m = 150, .h = 4, .hk = 2, .d = 8, .dv = 8, .start = 60};
  poisoned<float>(cpu(), few, p, sees, case_name(few, name));
  poisoned<double>(cpu(), few, looking_back, back, case_name(few, name + " causal"));
  poisoned<double>(reference(), few, p, sees, case_name(few, name + " reference"));
}

index_t size_of(index_t x) {
  return x < 0 ? -x : x;
}

}  // namespace

TEST_CASE("attention sparse: dilated, strided, windowed") {
  both_ways("dilated", any_pattern(dilated<4, 7>{}), [](index_t, index_t q, index_t k, index_t) {
    return size_of(q - k) <= 28 && (q - k) % 7 == 0;
  });
  both_ways("strided", any_pattern(strided<101>{}),
            [](index_t, index_t q, index_t k, index_t) { return (q - k) % 101 == 0; });
  both_ways("windowed", any_pattern(windowed<20>{}), [](index_t, index_t q, index_t k, index_t) {
    return block_of(q, 20) == block_of(k, 20);
  });
}

TEST_CASE("attention sparse: fixed, every head with its vertical; global tokens; streaming") {
  both_ways("fixed", any_pattern(fixed<30, 4, 3>{}), [](index_t h, index_t q, index_t k, index_t) {
    const index_t low = 30 - (h % 3 + 1) * 4;
    return block_of(q, 30) == block_of(k, 30) || (k % 30 >= low && k % 30 < low + 4);
  });
  both_ways("global", any_pattern(either<local<3>, global_tokens<2>>{}),
            [](index_t, index_t q, index_t k, index_t) {
              return size_of(q - k) <= 3 || k < 2 || (q >= 0 && q < 2);
            });
  const std::int32_t at[] = {0, 40, 63};
  const global_set listed(view<const std::int32_t, host, dyn>(at, {3}));
  both_ways("listed", any_pattern(listed), [](index_t, index_t q, index_t k, index_t) {
    return q == 0 || q == 40 || q == 63 || k == 0 || k == 40 || k == 63;
  });
  both_ways("streaming", any_pattern(streaming<3, 20>{}),
            [](index_t, index_t q, index_t k, index_t) { return k <= q && (k < 3 || q - k < 20); });
}

TEST_CASE("attention sparse: documents, tables of blocks and of pairs, one list for all") {
  const std::int32_t offsets[] = {0, 50, 50, 120, 200};
  const documents texts(view<const std::int32_t, host, dyn>(offsets, {5}));
  const auto of = [](index_t x) {
    return x < 0 || x >= 200 ? index_t{-1} : x < 50 ? 0 : x < 120 ? 1 : 2;
  };
  both_ways("documents", any_pattern(texts),
            [&](index_t, index_t q, index_t k, index_t) { return of(q) >= 0 && of(q) == of(k); });
  std::vector<std::uint8_t> mask(20 * 20);
  for (std::size_t i = 0; i < mask.size(); ++i) mask[i] = i * i % 7 == 2;
  both_ways("blocks",
            any_pattern(
                given_blocks(view<const std::uint8_t, host, dyn, dyn>(mask.data(), {20, 20}), 10)),
            [&](index_t, index_t q, index_t k, index_t) {
              return q >= 0 && mask[static_cast<std::size_t>(q / 10 * 20 + k / 10)] != 0;
            });
  std::vector<std::uint8_t> pairs(200 * 200);
  for (std::size_t i = 0; i < pairs.size(); ++i) pairs[i] = i % 200 != 41 && i * i % 11 == 3;
  both_ways(
      "mask",
      any_pattern(given_mask(view<const std::uint8_t, host, dyn, dyn>(pairs.data(), {200, 200}))),
      [&](index_t, index_t q, index_t k, index_t) {
        return q >= 0 && pairs[static_cast<std::size_t>(q * 200 + k)] != 0;
      });
  const std::int32_t ids[] = {3, 17, 64, 65, 199};
  for (const index_order how : {index_order::any, index_order::ascending}) {
    const auto set = index_set::shared(view<const std::int32_t, host, dyn>(ids, {5}), how);
    both_ways("shared", any_pattern(set), [](index_t, index_t, index_t k, index_t) {
      return k == 3 || k == 17 || k == 64 || k == 65 || k == 199;
    });
  }
}

TEST_CASE("attention sparse: bigbird") {
  const pattern_key key{3, 9};
  using pattern = bigbird<5, 2>;
  const auto made = make_pattern<pattern>(key);
  // Blocks drawn are the pattern's own (tested in tests/pattern); edges and windows are not.
  const auto drawn = [&](index_t h, index_t i, index_t j, const pattern_scope& scope) {
    std::uint32_t blocks[2];
    pattern_scope of_head = scope;
    of_head.head = h;
    const std::uint32_t count = bigbird_sizes{5, 2}.draw(key, of_head, i, blocks);
    return (count > 0 && blocks[0] == j) || (count > 1 && blocks[1] == j);
  };
  const cpu threaded({.threads = 2});
  for (const problem& p : {problem{.n = 70, .m = 70, .h = 2, .hk = 2, .d = 8, .dv = 8},
                           problem{.n = 33, .m = 140, .h = 4, .hk = 2, .d = 16, .dv = 5},
                           problem{.n = 65, .m = 65, .h = 3, .hk = 1, .d = 8, .dv = 8}}) {
    const rule sees = [&](index_t h, index_t q, index_t k, index_t m) {
      const index_t i = q / 5, j = k / 5, n = m / 5;
      return i == 0 || j == 0 || i == n - 1 || j == n - 1 || size_of(i - j) <= 1 ||
             drawn(h, i, j, {.keys = m});
    };
    const rule back = [&](index_t h, index_t q, index_t k, index_t m) {
      const index_t i = q / 5, j = k / 5;
      return k <= q &&
             (j == 0 || i - j <= 1 || (i > 2 && drawn(h, i, j, {.keys = m, .seen = reach::past})));
    };
    const std::string name = case_name(p, "bigbird");
    run<float>(threaded, p, any_pattern(made), sees, name + " f32", wanted::gradients);
    run<double>(reference(), p, any_pattern(made), sees, name + " reference", wanted::gradients);
    const auto causal_form = any_pattern(both<causal, pattern>(causal{}, made));
    run<double>(threaded, p, causal_form, back, name + " causal", wanted::gradients);
    poisoned<float>(threaded, p, causal_form, back, name);
  }
}

TEST_CASE("attention sparse: what a pattern asks of a run is an error before anything is written") {
  const problem p{.n = 12, .m = 12, .h = 2, .hk = 2, .d = 4, .dv = 4};
  const data x = draw<float>(p, "errors");
  const auto rejects = [&](const any_pattern& pattern, error_code code, const char* words) {
    arrays<float> a(p, x);
    const auto before = a.o.values();
    CHECK_ERROR(code, words, a.forward(cpu(), spec_of(p, pattern)));
    CHECK_ERROR(code, words, a.forward(reference(), spec_of(p, pattern)));
    CHECK_ERROR(code, words, a.backward(cpu(), spec_of(p, pattern)));
    CHECK(support::same_bits(before, a.o.values()));
  };
  rejects(any_pattern(bigbird<4, 1>{}), error_code::invalid_argument, "bigbird: 12 keys");
  const std::int32_t offsets[] = {0, 5}, unsorted[] = {4, 2};
  using table = view<const std::int32_t, host, dyn>;
  rejects(any_pattern(documents(table(offsets, {2}))), error_code::shape_mismatch,
          "end at 5 for 12 keys");
  rejects(any_pattern(both<causal, global_set>(causal{}, global_set(table(unsorted, {2})))),
          error_code::invalid_argument, "positions[1] is 2");
  // Each sequence is asked: the second has 6 keys.
  arrays<float> a(p, x);
  auto spec = spec_of(p, bigbird<1, 0>{});
  const std::int32_t good[] = {0, 6, 12}, bad[] = {0, 8, 12};
  spec.query_offsets = spec.key_offsets = {good, {3}};
  a.forward(cpu(), spec);
  spec.query_offsets = spec.key_offsets = {bad, {3}};
  CHECK_ERROR(error_code::invalid_argument, "bigbird: 4 keys", a.forward(cpu(), spec));
  support::facet("attention", "errors");
}
