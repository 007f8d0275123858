// SPDX-License-Identifier: Apache-2.0
// The report of a quantized net against errors computed here; formats for some layers only;
// smoothed inputs with outliers.
#include "deepseek/deepseek.hpp"

#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <map>
#include <sstream>

namespace ds = deepseek;

namespace {

inline constexpr ds::attention_config heads{.dim = 32, .heads = 4};
inline constexpr ds::moe_config experts{
    .dim = 32, .hidden = 48, .routed = 3, .shared = 1, .active = 2};
using attention = ds::multi_head_attention<heads, ds::causal>;
using ffn = ds::moe<experts, ds::softmax_top_k<ds::renormalize::yes>>;
using block = ds::transformer_block<attention, ffn>;
using head = ds::called<"head", ds::linear<32, 40, ds::plain, ds::bias::present>>;
struct net : ds::chain<ds::embedding<40, 32>, ds::repeat<2, ds::checkpointed<block>>,
                       ds::rms_norm<32>, head> {};
using plain_model = ds::model<net, float, ds::cpu>;
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;

struct setting {
  ds::cpu b{{.threads = 2}};
  plain_model m{b, ds::scaled_init{.gain = 1, .seed = 7}};
  plain_model::calibration_type seen = m.calibration();
  std::vector<std::int32_t> tokens;
  setting() {
    for (std::int32_t i = 0; i < 60; ++i) tokens.push_back(i * 17 % 40);
    for (int call = 0; call < 3; ++call) m.observe(b, text(), seen);
  }
  ids text() const { return {tokens.data(), {60}}; }
};

template <class Y>
double relative_error(const Y& y, const Y& r) {
  ds::error_sum sum;
  for (ds::index_t i = 0; i < r.size(); ++i) {
    sum.add(static_cast<double>(y.data()[i]), static_cast<double>(r.data()[i]));
  }
  return sum.relative();
}

template <class Small>
std::map<std::string, ds::layer_report> by_path(const setting& s, const Small& small) {
  std::map<std::string, ds::layer_report> out;
  for (const auto& l : ds::report_quantization(s.b, s.m, s.seen, small).layers) out[l.path] = l;
  return out;
}

}  // namespace

TEST_CASE_TEMPLATE("report: every linear layer once, errors and bytes as computed here", F,
                   ds::int8_channels, ds::w8a8, ds::w8a8_per_token, ds::int4_groups<32>,
                   ds::fp8_activations, ds::mxfp4, ds::smoothed<ds::w8a8>, ds::bf16_weights) {
  const setting s;
  const auto small = ds::quantize<F>(s.b, s.m, s.seen);
  const ds::quantization_report report = ds::report_quantization(s.b, s.m, s.seen, small);
  CHECK(report.layers.size() == 2 * (4 + 3 + 3) + 1);
  CHECK(report.layers.front().path == "layers.0.attn.wq");
  CHECK(report.layers.back().path == "head");
  CHECK(report.bytes_before == ds::parameter_bytes(s.m.parameters()));
  CHECK(report.bytes_after == ds::parameter_bytes(small.parameters()));
  for (const auto& l : report.layers) {
    CHECK(l.format == F::name);
    CHECK((l.weight_error > 5e-4 && l.weight_error < 0.15));
    CHECK((l.output_error > 5e-4 && l.output_error < 0.2));
    CHECK(l.bytes_after < l.bytes_before);
  }
  // The head by hand: on the rows that were sampled of what came into it.
  const auto& sample = s.seen.kept().get<3>().own.sample;
  REQUIRE(sample.rows() == 96);
  const ds::view<const float, ds::host, ds::dyn, 32> x(sample.values.data(), {96, 32});
  using coded = ds::quantized<head, F>;
  ds::model<head, float, ds::cpu> plain_head(s.b);
  ds::model<coded, float, ds::cpu> small_head(s.b);
  plain_head.parameters().weight = s.m.parameters().get<3>().weight;
  small_head.parameters().weight = small.parameters().template get<3>().weight;
  CHECK(report.layers.back().output_error ==
        relative_error(small_head(s.b, x), plain_head(s.b, x)));
  std::ostringstream table;
  table << report;
  CHECK(table.str().find("layers.1.ffn.shared_experts.w3  ") != std::string::npos);
}

TEST_CASE("report: experts met by no sampled row, nothing sampled, layers that stay") {
  const setting s;
  const auto small = ds::quantize<ds::only<ds::int8_channels, head>>(s.b, s.m);
  const auto layers = by_path(s, small);
  CHECK(layers.at("head").output_error > 0);
  CHECK(layers.at("head").format == std::string("int8_channels"));
  CHECK(layers.at("layers.0.ffn.experts.w1").output_error == 0);
  CHECK(layers.at("layers.0.ffn.experts.w1").weight_error == 0);
  CHECK(layers.at("layers.0.ffn.experts.w1").format == std::string("plain"));
  const auto unseen = ds::report_quantization(s.b, s.m, s.m.calibration(), small);
  CHECK(std::isnan(unseen.layers.back().output_error));
}

TEST_CASE("only: composites and linear layers by their types, others are the plain net's") {
  const setting s;
  const auto names = [&](const auto& small) {
    std::map<std::string, int> count;
    for (const auto& [path, l] : by_path(s, small)) ++count[l.format];
    return count;
  };
  using count = std::map<std::string, int>;
  CHECK(names(ds::quantize<ds::only<ds::int4_groups<32>, ffn>>(s.b, s.m)) ==
        count{{"int4_groups", 12}, {"plain", 9}});
  CHECK(names(ds::quantize<ds::only<ds::w8a8, attention, head>>(s.b, s.m, s.seen)) ==
        count{{"w8a8", 9}, {"plain", 12}});
  CHECK(names(ds::quantize<ds::only<ds::mxfp4, ds::linear<32, 48>, ds::linear<48, 32>>>(
            s.b, s.m)) == count{{"mxfp4", 12}, {"plain", 9}});
  // One format after the other: a second quantization of what the first left.
  using first = ds::only<ds::int8_channels, attention>;
  const auto none = ds::quantize<ds::only<ds::int8_channels, ds::linear<5, 5>>>(s.b, s.m);
  const auto y = none(s.b, s.text()), want = s.m(s.b, s.text());
  CHECK(std::memcmp(y.data(), want.data(), static_cast<std::size_t>(y.size()) * sizeof(float)) ==
        0);
  static_assert(ds::rows_are_independent<ds::quantized<net, first>>);
  static_assert(!ds::rows_are_independent<ds::quantized<net, ds::only<ds::w8a8_dynamic, head>>>);
}

// Two channels of the inputs are 60 times as large as the others.
TEST_CASE("smoothed: outliers move into the weights") {
  using layer = ds::linear<64, 48>;
  const ds::cpu b;
  const ds::model<layer, float, ds::cpu> m(b, ds::scaled_init{.seed = 4});
  ds::tensor<float, ds::host, 80, 64> x;
  ds::initialize_tensor(ds::normal_init{.stddev = 1, .seed = 5}, "x", x);
  for (ds::index_t n = 0; n < 80; ++n) x.view()(n, 3) *= 60, x.view()(n, 41) *= -60;
  auto seen = m.calibration();
  m.observe(b, x, seen);
  const auto y = m(b, x);
  const auto error = [&](const auto& small) { return relative_error(small(b, x), y); };
  const double raw = error(ds::quantize<ds::w8a8>(b, m, seen));
  const auto smooth = ds::quantize<ds::smoothed<ds::w8a8>>(b, m, seen);
  MESSAGE("outputs: w8a8 " << raw << ", smoothed " << error(smooth));
  CHECK(error(smooth) < 0.5 * raw);
  CHECK(error(ds::quantize<ds::smoothed<ds::w8a8_per_token>>(b, m, seen)) < 0.5 * raw);
  // The scales by their formula.
  const auto& w = smooth.parameters().weight;
  for (ds::index_t j : {0, 3, 41}) {
    double of_x = 0, of_w = 0;
    for (ds::index_t n = 0; n < 80; ++n)
      of_x = std::max(of_x, std::abs(static_cast<double>(x.view()(n, j))));
    for (ds::index_t n = 0; n < 48; ++n) {
      of_w = std::max(of_w, std::abs(static_cast<double>(m.parameters().weight.view()(n, j))));
    }
    const double s = std::pow(of_x, 0.5) / std::pow(of_w, 0.5);
    CHECK(std::fabs(static_cast<double>(w.input_scale.data()[j]) * s - 1) < 1e-5);
  }
  // A share of 0 leaves the weights equal; channels without inputs stay as they are.
  ds::tensor<float, ds::host, 4, 64> zeros;
  auto nothing = m.calibration();
  m.observe(b, zeros, nothing);
  const auto same = ds::quantize<ds::smoothed<ds::int8_channels>>(b, m, nothing);
  for (ds::index_t j = 0; j < 64; ++j) CHECK(same.parameters().weight.input_scale.data()[j] == 1);
  CHECK_ERROR(ds::error_code::invalid_argument, "never calibrated", "smoothed",
              ds::quantize<ds::smoothed<>>(b, m, m.calibration()));
}
