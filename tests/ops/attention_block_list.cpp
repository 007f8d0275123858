// SPDX-License-Identifier: Apache-2.0
// attention of patterns that are written out (pattern block_list): the bits of the same patterns as
// types and as any_pattern, forward and backward, where heads share key-value heads, from any
// position, over longer lists, in packed sequences and in pages; what nobody sees may hold NaN; and
// their errors.
#include "ops/attention_sweep.hpp"

#include "deepseek/pattern/any_pattern.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/list_blocks.hpp"

using namespace attention_test;

namespace {

using drawn_and_near = both<causal, either<local<9>, random_blocks<16, 2>>>;

// A predicate with state: no next_keys, no row_bits.
struct every_so_often {
  index_t n = 3;
  bool visible(index_t q, index_t k) const { return (q + k) % n == 0 && q / 20 != k / 20; }
  coverage cover(const tile&) const { return coverage::partial; }
};

// What the queries of all sequences of a problem need.
block_list_sizes sizes_to_list(const problem& p, index_t heads) {
  const index_t one = p.start >= 0 ? p.start : p.m - p.n;
  if (p.query_offsets.empty()) {
    return {.queries = p.n, .keys = p.m, .heads = heads, .start = one};
  }
  index_t first = 0, last = 0, keys = 0;
  for (std::size_t s = 0; s + 1 < p.query_offsets.size(); ++s) {
    const index_t n = p.query_offsets[s + 1] - p.query_offsets[s];
    const index_t m = p.key_offsets[s + 1] - p.key_offsets[s],
                  start = p.start >= 0 ? p.start : m - n;
    first = std::min(first, start), last = std::max(last, start + n), keys = std::max(keys, m);
  }
  return {.queries = last - first, .keys = keys, .heads = heads, .start = first};
}

template <class T, class B, class P>
std::vector<std::vector<T>> bits_of(const B& b, const problem& p, const data& x, const P& pattern) {
  arrays<T> a(p, x);
  a.forward(b, spec_of(p, pattern));
  a.backward(b, spec_of(p, pattern));
  return results(a, wanted::gradients);
}

template <class T, class B, class P>
void listed_equals(const B& b, const problem& p, const P& pattern, const block_list& list,
                   const std::string& name) {
  const data x = draw<T>(p, name);
  support::expect_true("attention", case_name(p, name),
                       same(bits_of<T>(b, p, x, pattern), bits_of<T>(b, p, x, list)),
                       "a written pattern gives other bits than the pattern");
}

template <class P>
void listed_on_backends(const problem& p, const P& pattern, index_t heads, const char* label) {
  const auto tables = list_blocks(pattern, sizes_to_list(p, heads));
  const block_list list(tables);
  const std::string name = label;
  listed_equals<float>(cpu({.threads = 2}), p, pattern, list, name + " cpu f32");
  listed_equals<double>(cpu(), p, pattern, list, name + " cpu f64");
  listed_equals<double>(reference(), p, pattern, list, name + " reference f64");
}

const problem packed_rows{.n = 200,
                          .m = 240,
                          .h = 4,
                          .hk = 2,
                          .d = 16,
                          .dv = 8,
                          .query_offsets = {0, 5, 75, 75, 200},
                          .key_offsets = {0, 9, 75, 80, 240}};

}  // namespace

TEST_CASE("attention block list: the bits of the pattern as a type") {
  const auto pattern = make_pattern<drawn_and_near>({3, 9});
  for (const problem& p : shapes) listed_on_backends(p, pattern, p.h, "type");
  listed_on_backends(packed_rows, pattern, packed_rows.h, "type packed");
}

TEST_CASE("attention block list: the bits of any_pattern") {
  const any_pattern every(every_so_often{5}), no_one,
      global(either<sliding<70>, every_so_often>(sliding<70>{}, every_so_often{11}));
  for (const problem& p : shapes) {
    listed_on_backends(p, every, 1, "every fifth");
    listed_on_backends(p, global, p.h, "far and near");
    listed_on_backends(p, any_pattern(everyone{}), 1, "everyone");
    listed_on_backends(p, no_one, 1, "no one");
  }
}

TEST_CASE("attention block list: equals dense attention with the same mask") {
  const rule sees = [](index_t, index_t q, index_t k, index_t) {
    return (q + k) % 3 == 0 && q / 20 != k / 20;
  };
  for (const problem& p : shapes) {
    const auto tables = list_blocks(every_so_often{}, sizes_to_list(p, 1));
    const std::string name = case_name(p, "listed");
    run<float>(cpu({.threads = 2}), p, block_list(tables), sees, name + " f32", wanted::gradients);
    run<bf16>(cpu(), p, block_list(tables), sees, name + " bf16", wanted::gradients);
    run<double>(reference(), p, block_list(tables), sees, name + " reference", wanted::gradients);
  }
}

TEST_CASE("attention block list: longer lists serve every start, prefill and steps") {
  const any_pattern pattern(both<causal, every_so_often>(causal{}, every_so_often{7}));
  const auto tables = list_blocks(pattern, {.queries = 300, .keys = 300});
  const block_list list(tables);
  for (const index_t start : {0, 1, 63, 64, 130, 199}) {
    for (const index_t n : {1, 3, 70}) {
      const problem p{.n = n, .m = start + n, .h = 12, .hk = 1, .d = 16, .dv = 32, .start = start};
      listed_equals<float>(cpu(), p, pattern, list, "steps");
    }
  }
}

TEST_CASE("attention block list: a key that nobody sees may hold NaN") {
  const problem p{.n = 70, .m = 150, .h = 4, .hk = 2, .d = 8, .dv = 8, .start = 60};
  const any_pattern pattern(every_so_often{});
  const auto tables = list_blocks(both<any_pattern, local<9>>(pattern, {}), sizes_to_list(p, 1));
  data clean = draw<float>(p, "listed poison"), dirty = clean;
  const block_list list(tables);
  index_t hidden = 0;
  for (index_t j = 0; j < p.m; ++j) {
    if (list.cover({p.start, p.start + p.n, j, j + 1}) != coverage::none) continue;
    ++hidden;
    for (index_t c = j * p.hk * p.d; c < (j + 1) * p.hk * p.d; ++c) {
      const auto at = static_cast<std::size_t>(c);
      clean.k[at] = clean.v[at] = 0;
      dirty.k[at] = dirty.v[at] = std::nan("");
    }
  }
  REQUIRE((hidden > 20 && hidden < 100));
  const auto expected = bits_of<float>(cpu(), p, clean, list);
  support::expect_true("attention", "listed poison",
                       same(expected, bits_of<float>(cpu(), p, dirty, list)),
                       "a key that nobody sees changed the result");
}

TEST_CASE("attention block list: in pages") {
  const problem p{.n = 3, .m = 100, .h = 4, .hk = 2, .d = 8, .dv = 8};
  const auto tables = list_blocks(every_so_often{}, sizes_to_list(p, 1));
  data x = draw<float>(p, "listed pages"), turned = x;
  constexpr index_t size = 10, count = 10;  // pages, last first
  std::int32_t pages[count];
  for (index_t i = 0; i < count; ++i) {
    pages[i] = static_cast<std::int32_t>(count - 1 - i);
    const index_t width = size * p.hk * p.d;
    std::copy_n(x.k.begin() + i * width, width, turned.k.begin() + pages[i] * width);
    std::copy_n(x.v.begin() + i * width, width, turned.v.begin() + pages[i] * width);
  }
  arrays<float> in_order(p, x), in_pages(p, turned);
  auto spec = spec_of(p, block_list(tables));
  in_order.forward(cpu(), spec);
  spec.pages = {.pages = {pages, {count}}, .size = size};
  spec.keys = p.m;
  in_pages.forward(cpu(), spec);
  support::expect_true("attention", "listed pages",
                       same(results(in_order, wanted::forward), results(in_pages, wanted::forward)),
                       "other bits");
}

TEST_CASE("attention block list: what is not listed is an error before anything is written") {
  const problem p{.n = 12, .m = 80, .h = 4, .hk = 2, .d = 4, .dv = 4};
  const data x = draw<float>(p, "listed errors");
  const auto rejects = [&](const block_list& list, const char* words) {
    arrays<float> a(p, x);
    const auto before = a.o.values();
    CHECK_ERROR(error_code::shape_mismatch, words, a.forward(cpu(), spec_of(p, list)));
    CHECK_ERROR(error_code::shape_mismatch, words, a.forward(reference(), spec_of(p, list)));
    CHECK_ERROR(error_code::shape_mismatch, words, a.backward(cpu(), spec_of(p, list)));
    CHECK(support::same_bits(before, a.o.values()));
  };
  const auto few_keys = list_blocks(causal{}, {.queries = 80, .keys = 79});
  const auto few_queries = list_blocks(causal{}, {.queries = 79, .keys = 80});
  const auto late = list_blocks(causal{}, {.queries = 20, .keys = 80, .start = 70});
  const auto few_heads = list_blocks(causal{}, {.queries = 80, .keys = 80, .heads = 3});
  rejects(block_list(few_keys), "80 keys, but 79 are listed");
  rejects(block_list(few_queries), "positions 68 .. 79, but 0 .. 78 are listed");
  rejects(block_list(late), "positions 68 .. 79, but 70 .. 89 are listed");
  rejects(block_list(few_heads), "3 heads are listed for an attention of 4");
  rejects(block_list(), "80 keys, but 0 are listed");
  // Each sequence is asked: the second has 70 keys.
  const auto of_sequence = list_blocks(causal{}, {.queries = 60, .keys = 60});
  arrays<float> a(p, x);
  auto spec = spec_of(p, block_list(of_sequence));
  const std::int32_t queries[] = {0, 6, 12}, good[] = {0, 40, 80}, bad[] = {0, 10, 80};
  spec.query_offsets = {queries, {3}};
  spec.key_offsets = {good, {3}};
  a.forward(cpu(), spec);
  spec.key_offsets = {bad, {3}};
  CHECK_ERROR(error_code::shape_mismatch, "70 keys, but 60 are listed", a.forward(cpu(), spec));
  support::facet("attention", "errors");
}
