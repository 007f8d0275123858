// SPDX-License-Identifier: Apache-2.0
// DeepSeek-V3's form, decoded token by token in the absorbed form of latent attention (no keys and
// values of heads in the cache): within the limit of float, not bit for bit.
#include "parity.hpp"

#include "deepseek/models/deepseek.hpp"

namespace ds = deepseek;

namespace {

inline constexpr ds::model_config model = [] {
  auto c = parity::small_latent(ds::v3, 3);
  c.latent.form = ds::latent_form::absorbed;
  return c;
}();

}  // namespace

TEST_CASE("V3, absorbed: the published logits, token by token") {
  const std::string name = "deepseek_v3";
  ds::cpu b{{.threads = 2}};
  const auto m = ds::load_preset<model, float>(b, ds::checkpoint_directory(parity::golden / name));
  for (const auto& p : parity::prompts_of(name)) {
    auto decoder = m.decoder(b, static_cast<ds::index_t>(p.ids.size()));
    for (std::size_t at = 0; at < p.ids.size(); ++at) {
      const auto y = m.decode(b, p.part(at, 1), decoder);
      CHECK(parity::relative_error(y.data(), p.logits.data() + at * 48, 48) <= 1e-5);
    }
  }
}
