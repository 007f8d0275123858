// SPDX-License-Identifier: Apache-2.0
// Prefill equals decoding, bit for bit and however the text is cut, for patterns and modifiers that
// depend on positions; the cache of one's own and pages give the same.
#include "deepseek/deepseek.hpp"

#include "support/compare.hpp"
#include "support/poison.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;

namespace {

inline constexpr ds::attention_config heads{
    .dim = 8, .heads = 4, .kv_heads = 2, .rope = ds::rotary::none};
using streaming = ds::streaming<1, 4>;
using scattered =
    ds::scored<ds::scored<ds::both<ds::causal, ds::either<ds::bigbird<2, 1>, ds::dilated<2, 3>>>,
                          ds::alibi<4>>,
               ds::soft_cap<3>>;
template <class P>
struct net : ds::chain<ds::embedding<11, 8>, ds::multi_head_attention<heads, P>> {};

const std::int32_t tokens[] = {1, 5, 2, 9, 10, 0, 3, 3, 7, 4, 4, 8, 1, 6, 2, 0, 9, 5, 5, 1};

}  // namespace

TEST_CASE_TEMPLATE("attention: prefill equals decoding", P, streaming, scattered) {
  using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;
  const ds::cpu b{{.threads = 2}};
  const ds::model<net<P>, float, ds::cpu> m(b, ds::normal_init{.stddev = 0.5, .seed = 3});
  const auto pool = m.pages(b, {.pages = 9, .size = 3});
  const auto decoded = [&](auto& decoder, const std::vector<ds::index_t>& pieces) {
    std::vector<float> all;
    for (const ds::index_t n : pieces) {
      const auto y = m.decode(b, ids{tokens + decoder.length(), {n}}, decoder);
      all.insert(all.end(), y.data(), y.data() + y.size());
    }
    return all;
  };
  const auto y = m(b, ids{tokens, {20}});
  const std::vector<float> whole(y.data(), y.data() + y.size());
  for (const auto& pieces : std::vector<std::vector<ds::index_t>>{
           {20}, {7, 1, 1, 1, 10}, std::vector<ds::index_t>(20, 1)}) {
    auto own = m.decoder(b, 20), paged = m.decoder(b, pool);
    CHECK(support::same_bits(decoded(own, pieces), whole));
    CHECK(support::same_bits(decoded(paged, pieces), whole));
  }
}
