// SPDX-License-Identifier: Apache-2.0
// Decoders on pages, forked and rewound: the bits of a cache of one's own, whatever others do with
// theirs; a pool that is full is an error and changes nothing.
#include "deepseek/deepseek.hpp"

#include "support/compare.hpp"
#include "support/poison.hpp"
#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;

namespace {

inline constexpr ds::attention_config heads{.dim = 8, .heads = 4, .kv_heads = 2};
inline constexpr ds::mla_config naive{.dim = 8,
                                      .heads = 2,
                                      .kv_rank = 6,
                                      .nope_dim = 4,
                                      .rope_dim = 2,
                                      .v_dim = 4,
                                      .form = ds::latent_form::naive};
inline constexpr ds::mla_config absorbed{.dim = 8,
                                         .heads = 2,
                                         .kv_rank = 6,
                                         .nope_dim = 4,
                                         .rope_dim = 2,
                                         .v_dim = 4,
                                         .form = ds::latent_form::absorbed};
template <class Attention>
using block = ds::transformer_block<Attention, ds::swiglu<8, 12>>;
template <class Attention>
struct net_of
    : ds::with_mtp<ds::embedding<11, 8>, ds::checkpointed<block<Attention>>,
                   ds::mtp_layer<block<Attention>>, ds::called<"head", ds::linear<8, 11>>> {};
using net = net_of<ds::multi_head_attention<heads, ds::causal>>;
using naive_net = net_of<ds::latent_attention<naive, ds::causal>>;
using absorbed_net = net_of<ds::latent_attention<absorbed, ds::causal>>;

using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;
const std::int32_t tokens[] = {1, 5, 2, 9, 10, 0, 3, 3, 7, 4, 4, 8, 1, 6, 2, 0, 9, 5, 5, 1};
ids some(ds::index_t n, ds::index_t first) {
  return {tokens + first, {n}};
}
template <class View>
std::vector<float> values(const View& y) {
  return {y.data(), y.data() + y.size()};
}
const ds::normal_init init{.stddev = 0.4, .seed = 7};

}  // namespace

TEST_CASE_TEMPLATE("decoders: pages give the bits of a cache of one's own", Net, net, naive_net,
                   absorbed_net) {
  const ds::cpu b{{.threads = 2}};
  const ds::model<Net, float, ds::cpu> m(b, init);
  for (const ds::index_t size : {1, 3, 8, 64}) {
    const auto all = m.pages(b, {.pages = 60 / size + 3, .size = size});
    auto plain = m.decoder(b, 20), paged = m.decoder(b, all), other = m.decoder(b, all);
    ds::index_t at = 0;
    for (const ds::index_t n : {3, 1, 6, 1, 4}) {
      const auto want = values(m.decode(b, some(n, at), plain));
      CHECK(support::same_bits(want, values(m.decode(b, some(n, at), paged))));
      m.decode(b, some(n, 14 - at), other);  // its pages stand between
      const auto drafts = values(m.draft(b, some(n, at + 1), plain));
      CHECK(support::same_bits(drafts, values(m.draft(b, some(n, at + 1), paged))));
      at += n;
      if (at == 10) {
        plain.rewind(8), paged.rewind(8), other.rewind(5);
        at = 8;
      }
      // One draft from a draft.
      CHECK(plain.drafted() == paged.drafted());
      while (plain.drafted() < plain.length()) {
        m.draft(b, some(1, plain.drafted() + 1), plain);
        m.draft(b, some(1, paged.drafted() + 1), paged);
      }
      const auto further = values(m.draft(b, some(1, 19), plain));
      CHECK(support::same_bits(further, values(m.draft(b, some(1, 19), paged))));
    }
  }
}

TEST_CASE_TEMPLATE("decoders: a fork goes its own way", Net, net, absorbed_net) {
  const ds::cpu b{{.threads = 2}};
  const ds::model<Net, float, ds::cpu> m(b, init);
  const auto all = m.pages(b, {.pages = 12, .size = 4});
  const auto run = [&](auto first) {
    std::vector<std::vector<float>> seen;
    const auto decode = [&](auto& d, ds::index_t n, ds::index_t from) {
      seen.push_back(values(m.decode(b, some(n, from), d)));
    };
    decode(first, 6, 0);
    auto second = first.fork();
    CHECK(second.length() == 6);
    CHECK(second.capacity() == first.capacity());
    decode(second, 3, 10);
    decode(first, 3, 6);
    auto third = second.fork();
    third.rewind(2);
    decode(third, 4, 12);
    decode(second, 2, 3);
    decode(first, 2, 9);
    seen.push_back(values(m.draft(b, some(2, 1), second)));
    decode(third, 1, 0);
    return seen;
  };
  const auto want = run(m.decoder(b, 16));
  CHECK(run(m.decoder(b, all)) == want);
  CHECK(all.pool().free_pages() == 12);  // all have ended
  // What a fork decodes is what a decoder of the same tokens gives.
  auto alone = m.decoder(b, 16);
  m.decode(b, some(6, 0), alone);
  CHECK(values(m.decode(b, some(3, 10), alone)) == want[1]);
}

TEST_CASE("decoders: forks share what neither has written") {
  const ds::cpu b;
  const ds::model<net, float, ds::cpu> m(b, init);
  const auto all = m.pages(b, {.pages = 6, .size = 4});
  auto first = m.decoder(b, all);
  CHECK(first.capacity() == 24);
  m.decode(b, some(10, 0), first);
  CHECK(all.pool().free_pages() == 3);
  auto second = first.fork();
  CHECK(all.pool().free_pages() == 3);
  m.decode(b, some(1, 10), second);  // copies the last page, two of four positions full
  CHECK(all.pool().free_pages() == 2);
  m.decode(b, some(2, 10), first);
  CHECK(all.pool().free_pages() == 2);
  first.rewind(3);
  CHECK(all.pool().free_pages() == 3);  // one of its pages is shared still
  second.rewind(0);
  CHECK(all.pool().free_pages() == 5);
}

TEST_CASE("decoders: a full pool, and what fails otherwise, change nothing") {
  const ds::cpu b;
  const ds::model<net, float, ds::cpu> m(b, init);
  const auto all = m.pages(b, {.pages = 3, .size = 4});
  auto d = m.decoder(b, all), other = m.decoder(b, all);
  m.decode(b, some(5, 0), d);
  m.decode(b, some(1, 0), other);
  using code = ds::error_code;
  CHECK_ERROR(code::index_range, "positions 5 .. 8 need 1 more pages, 0 of 3 are free",
              m.decode(b, some(4, 5), d));
  CHECK_ERROR(code::index_range, "decoder: 5 + 8", "capacity of 12", m.decode(b, some(8, 5), d));
  CHECK(d.length() == 5);
  other.rewind(0);
  CHECK(all.pool().free_pages() == 1);
  const std::int32_t bad[] = {1, 1, 1, 11};
  CHECK_ERROR(code::index_range, "11", m.decode(b, ids{bad, {4}}, d));
  CHECK(all.pool().free_pages() == 1);
  CHECK(d.length() == 5);
  auto plain = m.decoder(b, 12);
  m.decode(b, some(5, 0), plain);
  CHECK(values(m.decode(b, some(4, 5), d)) == values(m.decode(b, some(4, 5), plain)));
  CHECK_ERROR(code::index_range, "rewind to 10", d.rewind(10));
  CHECK_ERROR(code::invalid_argument, "page_pool: 0 pages", m.pages(b, {}));
}

TEST_CASE("decoders: numbers in pages that nobody holds never matter") {
  const ds::cpu b;
  ds::model<net, float, ds::cpu> m(b, init);
  const auto all = m.pages(b, {.pages = 4, .size = 4});
  auto d = m.decoder(b, all);
  const auto want = values(m.decode(b, some(6, 0), d));
  const float w = m.parameters().embed.weight.view()(1, 0);
  {
    auto other = m.decoder(b, all);
    m.parameters().embed.weight.view()(1, 0) = std::numeric_limits<float>::quiet_NaN();
    const auto nan = values(m.decode(b, some(7, 0), other));
    CHECK(std::isnan(nan[0]));
    m.parameters().embed.weight.view()(1, 0) = w;
  }
  const auto next = values(m.decode(b, some(7, 6), d));  // takes pages that hold NaN
  auto plain = m.decoder(b, 13);
  CHECK(values(m.decode(b, some(6, 0), plain)) == want);
  CHECK(values(m.decode(b, some(7, 6), plain)) == next);
}
