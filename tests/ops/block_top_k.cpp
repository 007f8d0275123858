// SPDX-License-Identifier: Apache-2.0
// block_top_k against the definition in long double: shared key heads, overlap, strides, packed
// sequences, decoding; forced blocks, ties, NaN, zero sizes, errors.
#include "deepseek/ops/block_top_k.hpp"

#include "deepseek/backend/cpu/cpu.hpp"
#include "deepseek/pattern/compressed.hpp"

#include "ops/table.hpp"

#include <algorithm>

using namespace table;

namespace {

constexpr const char* op = "block_top_k";
constexpr ds::index_t ratio = 2;
using spec_type = ds::attention_spec<ds::compressed<ratio>>;

struct sizes {
  std::size_t queries = 0, heads = 1, kv_heads = 1, d = 1, count = 1, start = 0;
  std::size_t entries() const { return (start + queries) / 2; }
  std::string text() const {
    return support::text("queries", queries, "heads", heads, "kv_heads", kv_heads, "d", d, "count",
                         count, "start", start);
  }
};

// q, k and the lse of their attention.
struct example {
  reals q, k, lse;
};

std::vector<std::size_t> visible(std::size_t position) {
  std::vector<std::size_t> seen;
  for (std::size_t e = 0; 2 * e + 1 <= position; ++e) seen.push_back(e);
  return seen;
}
long double score(const example& x, const sizes& s, std::size_t i, std::size_t h, std::size_t e) {
  long double dot = 0;
  const std::size_t kv = h / (s.heads / s.kv_heads);
  for (std::size_t c = 0; c < s.d; ++c) {
    dot += static_cast<long double>(x.q[(i * s.heads + h) * s.d + c]) *
           x.k[(e * s.kv_heads + kv) * s.d + c];
  }
  return dot * 0.5L;
}
template <class T>
example drawn_example(const sizes& s) {
  support::numbers from(s.text());
  const auto draw = [&](std::size_t n) {
    return support::rounded_to<T>(support::draw(support::values::normal, n, from));
  };
  example x{draw(s.queries * s.heads * s.d), draw(s.entries() * s.kv_heads * s.d), {}};
  for (std::size_t i = 0; i < s.queries; ++i) {
    for (std::size_t h = 0; h < s.heads; ++h) {
      long double sum = 0;
      for (const std::size_t e : visible(s.start + i)) sum += std::exp(score(x, s, i, h, e));
      x.lse.push_back(static_cast<double>(std::log(sum)));
    }
  }
  return x;
}

// The chosen blocks and how far the last one is ahead of the first that is not chosen.
struct choice {
  std::vector<std::int32_t> ids;
  long double margin = 1;
};
choice expected(const example& x, const sizes& s, const ds::block_rule& rule, std::size_t i,
                std::size_t g) {
  const std::size_t position = s.start + i, windows = static_cast<std::size_t>(rule.windows);
  const std::size_t blocks = position / (2 * windows) + 1, group = s.heads / s.kv_heads;
  std::vector<std::pair<long double, std::size_t>> order;
  for (std::size_t b = 0; b < blocks; ++b) order.emplace_back(0.0L, b);
  for (std::size_t h = g * group; h < (g + 1) * group; ++h) {
    for (const std::size_t e : visible(position)) {
      const long double p = std::exp(score(x, s, i, h, e) - x.lse[i * s.heads + h]);
      if (e / windows < blocks) order[e / windows].first -= p;
      if (rule.entries == ds::overlap::present && e > 0) order[(e - 1) / windows].first -= p;
    }
  }
  for (auto& [key, b] : order) {
    const auto at = static_cast<ds::index_t>(b);
    if (at < rule.initial || at + rule.recent >= static_cast<ds::index_t>(blocks)) key = -1e9L;
  }
  std::sort(order.begin(), order.end());
  choice out;
  const std::size_t n = std::min(s.count, blocks);
  for (std::size_t j = 0; j < n; ++j) out.ids.push_back(static_cast<std::int32_t>(order[j].second));
  if (n > 0 && n < blocks) out.margin = order[n].first - order[n - 1].first;
  std::sort(out.ids.begin(), out.ids.end());
  out.ids.resize(s.count, -1);
  return out;
}

// As many query rows of ids as there are, with a gap after each row.
template <class T, class B>
std::vector<std::int32_t> run(const B& b, const example& x, const sizes& s, const spec_type& spec,
                              const ds::block_rule& rule) {
  const auto whole = [](std::size_t n) { return static_cast<ds::index_t>(n); };
  std::vector<T> q = support::as<T>(x.q), k = support::as<T>(x.k);
  auto lse = support::as<ds::accumulate_t<T>>(x.lse);
  support::guarded<std::int32_t> ids(s.queries * (s.kv_heads * s.count + 2));
  const ds::view<std::int32_t, ds::host, ds::dyn, ds::dyn, ds::dyn> to(
      ids.data(), {whole(s.queries), whole(s.kv_heads), whole(s.count)},
      {whole(s.kv_heads * s.count + 2), whole(s.count), 1});
  ds::ops::block_top_k(b,
                       ds::attention_weights_inputs{
                           ds::view<T, ds::host, ds::dyn, ds::dyn, ds::dyn>(
                               q.data(), {whole(s.queries), whole(s.heads), whole(s.d)}),
                           ds::view<T, ds::host, ds::dyn, ds::dyn, ds::dyn>(
                               k.data(), {whole(s.entries()), whole(s.kv_heads), whole(s.d)}),
                           ds::view<ds::accumulate_t<T>, ds::host, ds::dyn, ds::dyn>(
                               lse.data(), {whole(s.queries), whole(s.heads)})},
                       to, spec, rule);
  CHECK(ids.intact());
  std::vector<std::int32_t> out;
  for (ds::index_t i = 0; i < to.extent(0); ++i) {
    for (ds::index_t g = 0; g < to.extent(1); ++g) {
      for (ds::index_t j = 0; j < to.extent(2); ++j) out.push_back(to(i, g, j));
    }
  }
  return out;
}

template <class T, class B>
std::vector<std::int32_t> check(const B& b, const sizes& s, const ds::block_rule& rule) {
  const auto x = drawn_example<T>(s);
  const auto got =
      run<T>(b, x, s, {.scale = 0.5, .start = static_cast<ds::index_t>(s.start)}, rule);
  const auto moving = static_cast<std::int32_t>(s.start);
  const spec_type read{.scale = 0.5, .start_at = {&moving, {1}}, .ratio = rule.ratio};
  support::expect_true(op, s.text(), run<T>(b, x, s, read, rule) == got,
                       "other blocks for a start in memory");
  for (std::size_t i = 0; i < s.queries; ++i) {
    for (std::size_t g = 0; g < s.kv_heads; ++g) {
      const auto want = expected(x, s, rule, i, g);
      if (want.margin < 1e-4L) continue;  // too near to call in T
      const auto row = got.begin() + static_cast<std::ptrdiff_t>((i * s.kv_heads + g) * s.count);
      support::expect_true(op, s.text() + support::text("query", i, "head", g),
                           std::equal(want.ids.begin(), want.ids.end(), row), "other blocks");
    }
  }
  return got;
}

}  // namespace

TEST_CASE("block_top_k: the definition") {
  const sizes all[] = {{1, 1, 1, 1, 1, 0},   {23, 4, 2, 3, 3, 0}, {17, 3, 1, 5, 4, 0},
                       {40, 2, 2, 8, 20, 0}, {1, 4, 2, 3, 3, 41}, {5, 4, 1, 3, 2, 30},
                       {70, 4, 2, 9, 5, 100}};
  for (const sizes& s : all) {
    for (const auto how : {ds::overlap::absent, ds::overlap::present}) {
      for (const ds::index_t forced : {0, 1}) {
        const ds::block_rule rule{ratio, 3, how, forced, s.count > 1 ? forced : 0};
        everywhere(op, s.text(),
                   [&](const auto& b, auto type) { return check<decltype(type)>(b, s, rule); });
      }
    }
  }
  facets(op, {"forward", "strides"});
  support::not_applicable(op, "gradient");
}

TEST_CASE("block_top_k: packed sequences are each alone; ties go to the lower block") {
  const ds::cpu b({.threads = 2});
  const sizes whole{31, 4, 2, 3, 3, 0};
  auto x = drawn_example<double>(whole);
  const ds::block_rule rule{ratio, 2, ds::overlap::present, 1, 1};
  const std::int32_t queries[] = {0, 12, 12, 31}, entries[] = {0, 6, 6, 15};
  spec_type spec{.scale = 0.5, .start = 0};
  const auto alone = run<double>(b, x, {12, 4, 2, 3, 3, 0}, spec, rule);
  spec.query_offsets = {queries, {4}}, spec.key_offsets = {entries, {4}};
  const auto packed = run<double>(b, x, whole, spec, rule);
  CHECK(std::equal(alone.begin(), alone.end(), packed.begin()));
  std::fill(x.q.begin(), x.q.end(), 0.0);  // all entries count the same
  std::fill(x.lse.begin(), x.lse.end(), 0.0);
  const auto tied = run<double>(b, x, {20, 4, 2, 3, 3, 0}, {.scale = 0.5, .start = 0},
                                {ratio, 2, ds::overlap::absent, 0, 0});
  const std::vector<std::int32_t> last(tied.end() - 3, tied.end());
  CHECK(last == std::vector<std::int32_t>{0, 1, 2});
}

TEST_CASE("block_top_k: zero sizes and errors") {
  on_both([](const auto& b) {
    using code = ds::error_code;
    ds::tensor<float, ds::host, ds::dyn, ds::dyn, ds::dyn> q({4, 2, 3}), k({2, 1, 3}),
        wide({2, 1, 2}), three({2, 3, 3}), no_q({0, 2, 3}), no_k({0, 1, 3});
    ds::tensor<float, ds::host, ds::dyn, ds::dyn> lse({4, 2}), no_lse({0, 2});
    ds::tensor<std::int32_t, ds::host, ds::dyn, ds::dyn, ds::dyn> ids({4, 1, 3}), no_ids({0, 1, 3});
    const auto call = [&](auto& queries, auto& keys, auto& sums, auto& to, ds::block_rule rule,
                          ds::index_t start = 0) {
      ds::ops::block_top_k(b, ds::attention_weights_inputs{queries, keys, sums}, to,
                           spec_type{.start = start}, rule);
    };
    const ds::block_rule rule{ratio, 2};
    call(no_q, k, no_lse, no_ids, rule);
    for (ds::index_t i = 0; i < lse.size(); ++i) lse.data()[i] = -INFINITY;
    call(q, no_k, lse, ids, rule);  // no entries: the blocks there are
    CHECK((ids.data()[0] == 0 && ids.data()[1] == -1));
    CHECK_ERROR(code::shape_mismatch, "k[2, 1, 2]", call(q, wide, lse, ids, rule));
    CHECK_ERROR(code::shape_mismatch, "block_top_k: lse[0, 2]", call(q, k, no_lse, ids, rule));
    CHECK_ERROR(code::shape_mismatch, "block_top_k: ids[0, 1, 3]", call(q, k, lse, no_ids, rule));
    CHECK_ERROR(code::shape_mismatch, "block_top_k: ids[4, 1, 3]", call(q, three, lse, ids, rule));
    CHECK_ERROR(code::invalid_argument, "ratio is 0", call(q, k, lse, ids, {0, 2}));
    CHECK_ERROR(code::invalid_argument, "2 initial and 2 recent blocks of 3",
                call(q, k, lse, ids, {ratio, 2, ds::overlap::absent, 2, 2}));
    CHECK_ERROR(code::invalid_argument, "start is -1", call(q, k, lse, ids, rule, -1));
    const std::int32_t at = 0;
    CHECK_ERROR(code::invalid_argument, "ratio of 3, but windows of 2",
                ds::ops::block_top_k(b, ds::attention_weights_inputs{q, k, lse}, ids,
                                     spec_type{.start_at = {&at, {1}}, .ratio = 3}, rule));
  });
  facets(op, {"zero", "errors"});
}
