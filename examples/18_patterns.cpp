// SPDX-License-Identifier: Apache-2.0
// Every pattern of the library, drawn: queries from top to bottom, keys from left to right, '#':
// may be seen. `18_patterns 48` draws them with 48 tokens; docs/images/draw.py makes the pictures
// of docs/patterns.md from that. Combining them is a type, too: see the last one.
#include <deepseek/deepseek.hpp>
#include <deepseek/pattern/draw.hpp>

#include <cstdio>
#include <cstdlib>

namespace ds = deepseek;

namespace {

ds::index_t tokens = 16;

template <class P>
void show(const char* name, const P& pattern) {
  std::printf("%s\n%s\n", name, ds::draw(pattern, tokens, tokens).c_str());
}
template <class P>
void show(const char* name) {
  show(name, ds::make_pattern<P>({.seed = 4, .site = 1}));
}
template <class P>
void show_causal(const char* name) {
  show<ds::both<ds::causal, P>>(name);
}

// Patterns that are known at run time only; they borrow these tables.
void show_tables() {
  using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;
  const ds::index_t n = tokens, lengths[] = {n / 4, n / 2, n / 4};
  const auto offsets = ds::document_offsets(lengths);
  const ds::documents texts(ids(offsets.data(), {4}));
  show("documents", texts);
  show("documents causal", ds::both<ds::causal, ds::documents>({}, texts));

  const std::int32_t at[] = {2, static_cast<std::int32_t>(n / 2)};
  const ds::global_set listed(ids(at, {2}));
  show("global_set", ds::either<ds::local<1>, ds::global_set>({}, listed));
  show("shared index_set", ds::index_set::shared(ids(at, {2})));

  const std::uint8_t blocks[] = {1, 0, 0, 1, 0, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1};
  const ds::view<const std::uint8_t, ds::host, 4, 4> table(blocks, {4, 4});
  show("given_blocks", ds::given_blocks(table, n / 4));

  std::vector<std::int32_t> listed_ids;  // three keys for every query
  std::vector<std::uint8_t> pairs;
  for (ds::index_t q = 0; q < n; ++q) {
    for (ds::index_t i : {q, q / 2, q * q % n}) listed_ids.push_back(static_cast<std::int32_t>(i));
    for (ds::index_t k = 0; k < n; ++k) pairs.push_back((q + 1) * (k + 1) % 7 < 2);
  }
  using rows = ds::view<const std::int32_t, ds::host, ds::dyn, ds::dyn>;
  show("index_set", ds::index_set(rows(listed_ids.data(), {n, 3})));
  using mask = ds::view<const std::uint8_t, ds::host, ds::dyn, ds::dyn>;
  show("given_mask", ds::given_mask(mask(pairs.data(), {n, n})));
}

}  // namespace

int main(int arguments, char** argument) {
  if (arguments > 1) tokens = std::max(16, std::atoi(argument[1]) / 16 * 16);
  show<ds::causal>("causal");
  show<ds::everyone>("everyone");
  show<ds::local<3>>("local");
  show<ds::sliding<4>>("sliding");
  show<ds::windowed<4>>("windowed");
  show_causal<ds::windowed<4>>("windowed causal");
  show<ds::block<4, 1>>("block");
  show<ds::dilated<3, 2>>("dilated");
  show_causal<ds::dilated<3, 2>>("dilated causal");
  show<ds::strided<4>>("strided");
  show_causal<ds::strided<4>>("strided causal");
  show<ds::fixed<4>>("fixed");
  show_causal<ds::fixed<4>>("fixed causal");
  show<ds::either<ds::local<1>, ds::global_tokens<2>>>("global_tokens");
  show<ds::streaming<2, 4>>("streaming");
  show<ds::random_blocks<2, 2>>("random_blocks");
  show_causal<ds::random_blocks<2, 2>>("random_blocks causal");
  show<ds::bigbird<2, 1>>("bigbird");
  show<ds::bigbird<2, 1, ds::bigbird_draws::published>>("bigbird published");
  show_causal<ds::bigbird<2, 1>>("bigbird causal");
  show<ds::compressed<4>>("compressed");
  show_tables();
  show_causal<ds::either<ds::sliding<3>, ds::fixed<4>, ds::random_blocks<2, 1>>>("union");
}
