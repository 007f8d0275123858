// SPDX-License-Identifier: Apache-2.0
// A small net with experts, biases and a cache in each weight-only format: bit for bit the plain
// net whose weights are what the format holds; prefill and decode; names in files.
#include "deepseek/deepseek.hpp"

#include "deepseek/layers/quantize.hpp"

#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <map>

namespace ds = deepseek;

namespace {

inline constexpr ds::attention_config heads{.dim = 64, .heads = 4, .kv_heads = 2};
inline constexpr ds::moe_config experts{
    .dim = 64, .hidden = 96, .routed = 4, .shared = 1, .active = 2};
using layer = ds::transformer_block<ds::multi_head_attention<heads, ds::causal>,
                                    ds::moe<experts, ds::softmax_top_k<ds::renormalize::yes>>>;
struct net : ds::chain<ds::embedding<37, 64>, layer, ds::rms_norm<64>,
                       ds::linear<64, 40, ds::plain, ds::bias::present>> {};
using plain_model = ds::model<net, float, ds::cpu>;

using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;
const std::int32_t tokens[] = {1, 5, 2, 9, 10, 0, 3, 3, 7, 36, 20, 21};
ids some(ds::index_t n) {
  return {tokens, {n}};
}

plain_model make_model(const ds::cpu& b) {
  plain_model m(b, ds::scaled_init{.gain = 1, .seed = 7});
  ds::visit(
      [](const ds::tensor_name& at, auto& t) {
        if (at.path.find("bias") == std::string::npos) return;
        for (ds::index_t i = 0; i < t.size(); ++i) t.data()[i] = 0.1F * static_cast<float>(i);
      },
      m.parameters());
  return m;
}

template <class Y>
bool same_bits(const Y& a, const Y& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(float)) == 0;
}

// What the format holds, as floats: the elements of a tensor, or what codes stand for.
template <class W>
void widen(const W& from, auto& to) {
  if constexpr (ds::is_tensor<W>) {
    for (ds::index_t i = 0; i < to.size(); ++i) to.data()[i] = static_cast<float>(from.data()[i]);
  } else {
    const auto w = from.operand();
    for (ds::index_t i = 0; i < to.size(); ++i) {
      const ds::index_t row = i / w.in();
      to.data()[i] = w.expert(row / w.out())(row % w.out(), i % w.in());
    }
  }
}

// The plain model with the weights of the quantized one.
template <class Small>
plain_model widened(const ds::cpu& b, const plain_model& m, const Small& small) {
  plain_model out(b);
  const auto walk = [&](const auto& self, const auto& p, const auto& q, auto& o) -> void {
    using P = std::remove_cvref_t<decltype(p)>;
    if constexpr (ds::is_tensor<P>) {
      widen(q, o);
    } else if constexpr (ds::is_numbered<P>) {
      for (ds::index_t i = 0; i < P::count; ++i) self(self, p[i], q[i], o[i]);
    } else if constexpr (ds::has_fields<P>) {
      [&]<std::size_t... I>(std::index_sequence<I...>) {
        (self(self, ds::field_of<I>(p), ds::field_of<I>(q), ds::field_of<I>(o)), ...);
      }
      (ds::field_sequence<P>{});
    }
  };
  walk(walk, m.parameters(), small.parameters(), out.parameters());
  return out;
}

}  // namespace

TEST_CASE_TEMPLATE("a net in this format is the plain net with the weights it holds", Format,
                   ds::bf16_weights, ds::fp8_blocks, ds::fp8_blocks_ue8m0, ds::int4_groups<32>,
                   ds::int4_groups<64>) {
  const ds::cpu b{{.threads = 2}};
  const auto m = make_model(b);
  const auto small = ds::quantize<Format>(b, m);
  const auto wide = widened(b, m, small);
  CHECK(!same_bits(wide(b, some(12)), m(b, some(12))));
  const auto full = small(b, some(12));
  CHECK(same_bits(full, wide(b, some(12))));
  CHECK(ds::parameter_bytes(small.parameters()) < ds::parameter_bytes(m.parameters()));
  for (int threads : {1, 3}) {
    const ds::cpu other{{.threads = threads}};
    CHECK(same_bits(small(other, some(12)), full));
  }
  static_assert(ds::rows_are_independent<ds::quantized<net, Format>>);
  auto decoder = small.decoder(b, 12);
  for (ds::index_t at = 0; at < 12;) {
    const ds::index_t n = at == 0 ? 5 : 1;
    const auto y = small.decode(b, ids{tokens + at, {n}}, decoder);
    for (ds::index_t i = 0; i < n; ++i) {
      CHECK(std::memcmp(&y(i, 0), full.data() + (at + i) * 40, 40 * sizeof(float)) == 0);
    }
    at += n;
  }
}

TEST_CASE("fp8 inputs and weights: close to the plain net, rows independent") {
  using Format = ds::fp8_activations;
  const ds::cpu b{{.threads = 2}};
  const auto m = make_model(b);
  const auto small = ds::quantize<Format>(b, m);
  const auto y = small(b, some(12)), want = m(b, some(12));
  double error = 0, norm = 0;
  for (ds::index_t i = 0; i < y.size(); ++i) {
    const double r = static_cast<double>(want.data()[i]);
    const double d = static_cast<double>(y.data()[i]) - r;
    error += d * d, norm += r * r;
  }
  // Seven products of inputs and weights, each with an error of 2.7 %: sqrt(14) 2.7 % = 10 %.
  CHECK(std::sqrt(error / norm) < 0.2);
  CHECK(std::sqrt(error / norm) > 0.01);
  const auto alone = small(b, some(5));
  CHECK(std::memcmp(alone.data(), y.data(), 5 * 40 * sizeof(float)) == 0);
}

template <class Format>
std::map<std::string, std::string> types_in_files() {
  const ds::parameters<ds::quantized<ds::linear<64, 40>, Format>, float, ds::host> p;
  std::map<std::string, std::string> types;
  ds::visit(
      [&](const ds::tensor_name& at, const auto& t) {
        using T = typename std::remove_cvref_t<decltype(t)>::value_type;
        types[at.path] = ds::to_string(ds::dtype_of<T>);
      },
      p);
  return types;
}

TEST_CASE("names in files") {
  using names = std::map<std::string, std::string>;
  CHECK(types_in_files<ds::fp8_blocks>() ==
        names{{"weight.q", "f8_e4m3"}, {"weight.scale", "f32"}});
  CHECK(types_in_files<ds::int4_groups<>>() ==
        names{{"weight.q", "i32"}, {"weight.scale", "bf16"}, {"weight.zero", "u8"}});
  CHECK(types_in_files<ds::bf16_weights>() == names{{"weight", "bf16"}});
}
