// SPDX-License-Identifier: Apache-2.0
// V4-Flash and V4-Pro from their types alone: parameter counts (added up apart, tensor by tensor),
// the kinds of their layers, what a decoder keeps of a token.
#include "deepseek/models/deepseekv4.hpp"

#include "deepseek/models/counts.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;

namespace {

using flash = ds::preset<ds::v4_flash>::net;
using pro = ds::preset<ds::v4_pro>::net;

}  // namespace

TEST_CASE("v4: parameter counts") {
  CHECK(ds::parameter_count<flash>() == 284'332'230'231);
  CHECK(ds::active_parameter_count<flash>() == 13'799'622'231);
  CHECK(ds::parameter_count<pro>() == 1'572'997'179'491);
  CHECK(ds::active_parameter_count<pro>() == 49'779'058'787);
}

TEST_CASE("v4: the kinds of layers") {
  std::string kinds, more;
  for (ds::index_t i = 0; i < 43; ++i) kinds += std::to_string(ds::v4_flash.ratio_of(i)) + " ";
  for (ds::index_t i = 0; i < 61; ++i) more += std::to_string(ds::v4_pro.ratio_of(i)) + " ";
  std::string pairs;
  for (int i = 0; i < 20; ++i) pairs += "4 128 ";
  CHECK(kinds == "0 0 " + pairs + "4 ");
  for (int i = 20; i < 29; ++i) pairs += "4 128 ";
  CHECK(more == "128 128 " + pairs + "4 ");

  constexpr auto window = ds::v4_flash.attention_of(0), selective = ds::v4_flash.attention_of(2),
                 heavy = ds::v4_flash.attention_of(3);
  CHECK((window.ratio == 0 && window.theta == 1e4 && window.selected == 0));
  CHECK(window.scaling == ds::rope_scaling{});
  CHECK((selective.windows == ds::overlap::present && selective.selected == 512));
  CHECK((selective.theta == 160000 && selective.scaling == ds::v4_yarn));
  CHECK((heavy.windows == ds::overlap::absent && heavy.selected == 0 && heavy.ratio == 128));
  CHECK((heavy.theta == 160000 && heavy.scaling == ds::v4_yarn));
  CHECK(ds::softmax_scale_factor(ds::v4_yarn) == 1);  // no factor on the softmax
  CHECK(ds::rope_amplitude(ds::v4_yarn) == 1);        // nor on sine and cosine
}

TEST_CASE("v4: what a decoder keeps of a token") {
  // 21 layers with entries of 4 tokens and an indexer, 20 with entries of 128.
  CHECK(ds::cache_bytes_per_token<flash, ds::bf16>() ==
        21 * 2 * (512 + 128) / 4 + 20 * 2 * 512 / 128);
  CHECK(ds::cache_bytes_per_token<pro, ds::bf16>() ==
        30 * 2 * (512 + 128) / 4 + 31 * 2 * 512 / 128);
}
