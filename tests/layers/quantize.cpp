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
// All experts are active where errors are measured: no choice can flip.
inline constexpr ds::moe_config all_experts{
    .dim = 16, .hidden = 20, .routed = 4, .shared = 1, .active = 4};
template <ds::moe_config C>
using layer = ds::transformer_block<ds::multi_head_attention<heads, ds::causal>,
                                    ds::moe<C, ds::softmax_top_k<ds::renormalize::yes>>>;
template <ds::moe_config C>
struct net_of : ds::chain<ds::embedding<37, 16>, ds::repeat<2, ds::checkpointed<layer<C>>>,
                          ds::rms_norm<16>, ds::called<"head", ds::linear<16, 37>>> {};
using net = net_of<experts>;
template <class Net>
using plain_model = ds::model<Net, float, ds::cpu>;

using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;
const std::int32_t tokens[] = {1, 5, 2, 9, 10, 0, 3, 3, 7, 36, 20, 21};
ids some(ds::index_t n) {
  return {tokens, {n}};
}

template <class Net = net>
plain_model<Net> make_model(const ds::cpu& b) {
  return plain_model<Net>(b, ds::scaled_init{.gain = 1, .seed = 7});
}

template <class Format, class Net>
auto make_small(const ds::cpu& b, const plain_model<Net>& m) {
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

// 14 products lie between tokens and logits. Each errs by about 0.6 % of its norm (weights: max/127
// / sqrt(12) with max about 1.8 deviations; activations alike over 5 to 8 deviations / 255), and
// errors of different products are independent: sqrt(14) 0.6 % = 2.3 %; the limit is 2.5 times
// that.
TEST_CASE_TEMPLATE("logits stay close to those of the plain model", Format, ds::w8a8,
                   ds::w8a8_dynamic, ds::w8a8_per_token) {
  ds::cpu b{{.threads = 2}};
  const auto m = make_model<net_of<all_experts>>(b);
  const auto small = make_small<Format>(b, m);
  const double error = relative_error(small(b, some(12)), m(b, some(12)));
  CHECK_MESSAGE(error < 0.058, Format::name << ": relative error of the logits " << error);
  CHECK_MESSAGE(error > 1e-4, "this is the plain model");
}

TEST_CASE_TEMPLATE("prefill and decode give the bits of the full run", Format, ds::w8a8,
                   ds::w8a8_per_token) {
  static_assert(ds::rows_are_independent<ds::quantized<net, Format>>);
  ds::cpu b{{.threads = 2}};
  const auto small = make_small<Format>(b, make_model(b));
  const auto full = small(b, some(12));
  auto decoder = small.decoder(b, 12);
  for (ds::index_t at = 0; at < 12;) {
    const ds::index_t n = at == 0 ? 5 : 1;
    const auto y = small.decode(b, ids{tokens + at, {n}}, decoder);
    for (ds::index_t i = 0; i < n; ++i) {
      CHECK(std::memcmp(&y(i, 0), full.data() + (at + i) * 37, 37 * sizeof(float)) == 0);
    }
    at += n;
  }
}
static_assert(!ds::rows_are_independent<ds::quantized<net, ds::w8a8_dynamic>>);
static_assert(!ds::rows_are_independent<ds::linear<4, 4, ds::w8a8_dynamic>>);
static_assert(ds::rows_are_independent<net>);

TEST_CASE_TEMPLATE("no bit depends on threads or on uninitialized memory", Format, ds::w8a8,
                   ds::w8a8_dynamic) {
  ds::cpu one;
  const auto small = make_small<Format>(one, make_model(one));
  const auto first = small(one, some(12));
  for (int threads : {1, 2, 3}) {
    for (int fill : {0x00, 0xff}) {
      ds::cpu b{{.threads = threads}};
      b.workspace().fill_with(static_cast<unsigned char>(fill));
      CHECK(same_bits(small(b, some(12)), first));
      CHECK(same_bits(make_small<Format>(b, make_model(b))(b, some(12)), first));
    }
  }
}

TEST_CASE("what is quantized and what stays") {
  ds::cpu b;
  const auto m = make_model(b);
  const auto small = make_small<ds::w8a8>(b, m);
  std::map<std::string, int> codes, floats;
  ds::visit(
      [&](const ds::tensor_name& at, const auto& t) {
        using T = typename std::remove_cvref_t<decltype(t)>::value_type;
        (std::is_same_v<T, std::int8_t> ? codes : floats)[at.path] = 1;
      },
      small.parameters());
  CHECK(codes.size() == 2 * (4 + 3 + 3) + 1);
  for (const char* path : {"layers.0.attn.wq.weight.q", "layers.1.ffn.experts.w2.weight.q",
                           "layers.1.ffn.shared_experts.w3.weight.q", "head.weight.q"}) {
    CHECK_MESSAGE(codes.count(path) == 1, path);
  }
  for (const char* path : {"embed.weight", "layers.0.attn_norm.weight", "layers.0.ffn.gate.weight",
                           "layers.0.attn.wq.weight.scale", "layers.0.attn.wq.weight.sum",
                           "layers.0.ffn.experts.w1.weight.x_scale", "head.weight.x_zero"}) {
    CHECK_MESSAGE(floats.count(path) == 1, path);
  }
  CHECK(ds::parameter_bytes(small.parameters()) < ds::parameter_bytes(m.parameters()));
}

TEST_CASE("a model that was never calibrated is an error") {
  ds::cpu b;
  const auto m = make_model(b);
  CHECK_ERROR(ds::error_code::invalid_argument, "w8a8", "never calibrated", "observe",
              ds::quantize<ds::w8a8>(b, m, m.calibration()));
}
