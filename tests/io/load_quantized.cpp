// SPDX-License-Identifier: Apache-2.0
// Weights made as they are read: the bits of loading first and quantizing after; experts one by
// one; weights that a folder holds already made; formats that need a calibration.
#include "deepseek/deepseek.hpp"
#include "deepseek/io/save_checkpoint.hpp"

#include <doctest/doctest.h>

#include <cstring>

#include "support/temp_dir.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;

namespace {

inline constexpr ds::attention_config heads{
    .dim = 16, .heads = 2, .projection_bias = ds::bias::present};
inline constexpr ds::moe_config experts{
    .dim = 16, .hidden = 12, .routed = 3, .shared = 1, .active = 2};
using layer = ds::transformer_block<ds::multi_head_attention<heads, ds::causal>, ds::moe<experts>>;
struct net : ds::chain<ds::embedding<20, 16>, ds::repeat<2, layer>, ds::rms_norm<16>,
                       ds::called<"head", ds::linear<16, 20>>> {};
template <class F>
using small_model = ds::model<ds::quantized<net, F>, float, ds::cpu>;

const ds::cpu b;

ds::model<net, float, ds::cpu> plain_model() {
  return {b, ds::scaled_init{.gain = 1, .seed = 3}};
}

template <class P>
bool same(const P& a, const P& c) {
  bool equal = true;
  ds::visit(
      [&](const ds::tensor_name& at, const auto& x, const auto& y) {
        using T = typename std::remove_cvref_t<decltype(x)>::value_type;
        const auto bytes = static_cast<std::size_t>(x.size()) * sizeof(T);
        const bool here = std::memcmp(x.data(), y.data(), bytes) == 0;
        CHECK_MESSAGE(here, at.path);
        equal = equal && here;
      },
      a, c);
  return equal;
}

}  // namespace

TEST_CASE_TEMPLATE("quantizing on load gives the bits of quantizing after", Format,
                   ds::w8a8_per_token, ds::bf16_weights) {
  const support::temp_dir dir;
  const auto m = plain_model();
  ds::save_checkpoint(dir.path(), m.parameters(), {.names = ds::tensor_names::hugging_face});
  const auto small =
      ds::load_model<ds::quantized<net, Format>, float>(b, ds::checkpoint_directory(dir.path()));
  CHECK(same(small.parameters(), ds::quantize<Format>(b, m).parameters()));
}

TEST_CASE("weights that are already made are taken over") {
  const support::temp_dir dir;
  const auto m = plain_model();
  auto seen = m.calibration();
  const std::int32_t ids[] = {1, 2, 3};
  m.observe(b, ds::view<const std::int32_t, ds::host, ds::dyn>(ids, {3}), seen);
  const auto small = ds::quantize<ds::w8a8>(b, m, seen);
  ds::save_checkpoint(dir.path(), small.parameters());
  const ds::checkpoint_directory from(dir.path());
  CHECK(from.find("layers.1.ffn.experts.2.w1.weight.q") != nullptr);
  const auto again = ds::load_model<ds::quantized<net, ds::w8a8>, float>(b, from);
  CHECK(same(again.parameters(), small.parameters()));
}

TEST_CASE("a format that needs a calibration is not made from plain weights") {
  const support::temp_dir dir;
  ds::save_checkpoint(dir.path(), plain_model().parameters());
  const ds::checkpoint_directory from(dir.path());
  CHECK_ERROR(ds::error_code::invalid_argument, "w8a8", "layers.0.attn.wq.weight", "calibrate",
              (ds::load_model<ds::quantized<net, ds::w8a8>, float>(b, from)));
}

TEST_CASE("a weight that cannot be stored is named, and nothing has changed") {
  const support::temp_dir dir;
  auto m = plain_model();
  small_model<ds::w8a8_per_token> small = ds::quantize<ds::w8a8_per_token>(b, m);
  const auto before = ds::quantize<ds::w8a8_per_token>(b, m);
  m.parameters().get<1>().all[1].get<0>().body.get<1>().wo.weight.data()[5] = NAN;
  ds::save_checkpoint(dir.path(), m.parameters());
  CHECK_ERROR(ds::error_code::nonfinite, "weight[0, 0, 5]",
              ds::load_checkpoint(ds::checkpoint_directory(dir.path()), small));
  CHECK(same(small.parameters(), before.parameters()));
}
