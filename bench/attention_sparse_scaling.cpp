// SPDX-License-Identifier: Apache-2.0
// Time against length, as attention_scaling.cpp, for the patterns of the papers and for score
// modifiers. strided and fixed keep a share of all tiles: quadratic, at a fraction of the cost.
#include "attention_scaling.hpp"

#include "deepseek/pattern/alibi.hpp"
#include "deepseek/pattern/bigbird.hpp"
#include "deepseek/pattern/dilated.hpp"
#include "deepseek/pattern/documents.hpp"
#include "deepseek/pattern/fixed.hpp"
#include "deepseek/pattern/global_tokens.hpp"
#include "deepseek/pattern/soft_cap.hpp"
#include "deepseek/pattern/streaming.hpp"

#include <numeric>

namespace bench {
namespace {

// Texts of 500 tokens, one behind another.
struct texts : ds::documents {
  static constexpr index_t length = 500, most = 70;
  static texts make(const ds::pattern_key&) {
    static const auto offsets = ds::document_offsets(std::vector<index_t>(most, length));
    texts made;
    static_cast<ds::documents&>(made) =
        ds::documents(ds::view<const std::int32_t, ds::host, ds::dyn>(offsets.data(), {most + 1}));
    return made;
  }
};

}  // namespace

void add_cases() {
  add_scaling<ds::dilated<64, 2>>("dilated");
  add_scaling<ds::both<ds::causal, ds::strided<256>>>("strided");
  add_scaling<ds::both<ds::causal, ds::fixed<256, 8>>>("fixed");
  add_scaling<ds::either<local_pattern, ds::global_tokens<16>>>("global");
  add_scaling<ds::streaming<4, 256>>("streaming");
  add_scaling<ds::bigbird<64, 3>>("bigbird");
  add_scaling<texts>("documents");
  add_scaling<ds::scored<dense_pattern, ds::alibi<1>>>("alibi");
  add_scaling<ds::scored<dense_pattern, ds::soft_cap<50>>>("soft_cap");
}

}  // namespace bench
