// SPDX-License-Identifier: Apache-2.0
// A model whose linear layers are packed: bit for bit the plain model, prefill, decoding and
// experts included, for every number of threads; the width of the panels stands in the tensors'
// names.
#include "deepseek/deepseek.hpp"

#include <doctest/doctest.h>

#include <cstring>

namespace ds = deepseek;

namespace {

inline constexpr ds::attention_config heads{.dim = 64, .heads = 4, .kv_heads = 2};
inline constexpr ds::moe_config experts{
    .dim = 64, .hidden = 96, .routed = 4, .shared = 1, .active = 2};
using layer = ds::transformer_block<ds::multi_head_attention<heads, ds::causal>,
                                    ds::moe<experts, ds::softmax_top_k<ds::renormalize::yes>>>;
struct net : ds::chain<ds::embedding<37, 64>, layer, ds::rms_norm<64>,
                       ds::linear<64, 40, ds::plain, ds::bias::present>> {};

using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;
const std::int32_t tokens[] = {1, 5, 2, 9, 10, 0, 3, 3, 7, 36, 20, 21};

}  // namespace

TEST_CASE("a packed model is the plain one, faster") {
  const ds::cpu b{{.threads = 2}};
  const ds::model<net, float, ds::cpu> m(b, ds::scaled_init{.gain = 1, .seed = 7});
  const auto fast = ds::quantize<ds::packed<ds::cpu>>(b, m);
  const auto want = m(b, ids(tokens, {12}));
  static_assert(ds::rows_are_independent<ds::quantized<net, ds::packed<ds::cpu>>>);
  for (int threads : {1, 2, 3}) {
    const ds::cpu other{{.threads = threads}};
    const auto y = fast(other, ids(tokens, {12}));
    CHECK(std::memcmp(y.data(), want.data(), sizeof(float) * 12 * 40) == 0);
  }
  auto decoder = fast.decoder(b, 12);
  for (ds::index_t at = 0; at < 12;) {
    const ds::index_t n = at == 0 ? 5 : 1;
    const auto y = fast.decode(b, ids{tokens + at, {n}}, decoder);
    CHECK(std::memcmp(y.data(), want.data() + at * 40,
                      static_cast<std::size_t>(n) * 40 * sizeof(float)) == 0);
    at += n;
  }
  std::size_t named = 0;
  const std::string width = std::to_string(ds::packing<ds::cpu>::columns<float>);
  ds::visit([&](const ds::tensor_name& at,
                const auto&) { named += at.path.ends_with("weight.panels_of_" + width); },
            fast.parameters());
  CHECK(named == 4 + 3 + 3 + 1);
}
