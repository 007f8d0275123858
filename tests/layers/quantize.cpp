// SPDX-License-Identifier: Apache-2.0
// A small net with experts, cache and checkpointed layers in int8: close to the plain one, the bits
// of prefill and decode, sums, sizes, and calibration.
#include "deepseek/deepseek.hpp"

#include "deepseek/layers/quantize.hpp"

#include "deepseek/backend/cpu/quant_gemm.hpp"
#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <map>

namespace ds = deepseek;

namespace {

inline constexpr ds::attention_config heads{.dim = 16, .heads = 4, .kv_heads = 2};
inline constexpr ds::moe_config experts{
    .dim = 16, .hidden = 20, .routed = 4, .shared = 1, .active = 2};
using layer = ds::transformer_block<ds::multi_head_attention<heads, ds::causal>,
                                    ds::moe<experts, ds::softmax_top_k<ds::renormalize::yes>>>;
struct net : ds::chain<ds::embedding<37, 16>, ds::repeat<2, ds::checkpointed<layer>>,
                       ds::rms_norm<16>, ds::called<"head", ds::linear<16, 37>>> {};
using plain_model = ds::model<net, float, ds::cpu>;

using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;
const std::int32_t tokens[] = {1, 5, 2, 9, 10, 0, 3, 3, 7, 36, 20, 21};
ids some(ds::index_t n) {
  return {tokens, {n}};
}

plain_model make_model(const ds::cpu& b) {
  return plain_model(b, ds::scaled_init{.gain = 1, .seed = 7});
}

template <class Format>
auto make_small(const ds::cpu& b, const plain_model& m) {
  auto seen = m.calibration();
  m.observe(b, some(12), seen);
  return ds::quantize<Format>(b, m, seen);
}

template <class Y>
double relative_error(const Y& y, const Y& r) {
  double error = 0, size = 0;
  for (ds::index_t i = 0; i < r.size(); ++i) {
    const double d = static_cast<double>(y.data()[i]) - static_cast<double>(r.data()[i]);
    error += d * d;
    size += static_cast<double>(r.data()[i]) * static_cast<double>(r.data()[i]);
  }
  return std::sqrt(error / size);
}

template <class Y>
bool same_bits(const Y& a, const Y& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(float)) == 0;
}

}  // namespace

// The limits: 8 bits on both sides of a product err by about 1 % (5.2e-3 is the largest step of a
// uniform row of 1/127, halved); 14 products lie between tokens and logits.
TEST_CASE_TEMPLATE("logits stay close to those of the plain model", Format, ds::w8a8,
                   ds::w8a8_averaged, ds::w8a8_dynamic, ds::w8a8_per_token) {
  ds::cpu b{{.threads = 2}};
  const plain_model m = make_model(b);
  const auto small = make_small<Format>(b, m);
  const auto y = small(b, some(12)), r = m(b, some(12));
  const double error = relative_error(y, r);
  MESSAGE(Format::name << ": relative error of the logits " << error);
  CHECK(error < 0.04);
  CHECK(error > 1e-4);  // it is not the plain model
}
