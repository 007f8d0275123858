// SPDX-License-Identifier: Apache-2.0
// Multi-token prediction in a small net: the gradient of both losses in double, names, sequences
// packed side by side, and the drafts of a decoder against those of the full run.
#include "deepseek/deepseek.hpp"
#include "layers/layer_gradient.hpp"
#include "support/compare.hpp"
#include "support/report.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>
#include <cstring>

namespace ds = deepseek;

namespace {

inline constexpr ds::attention_config heads{.dim = 8, .heads = 4, .kv_heads = 2};
using block = ds::transformer_block<ds::multi_head_attention<heads, ds::causal>, ds::swiglu<8, 12>>;
template <ds::mtp_config C = ds::mtp_config{}>
struct net_of : ds::with_mtp<ds::embedding<11, 8>, ds::repeat<2, block>, ds::mtp_layer<block, C>,
                             ds::called<"head", ds::linear<8, 11>>> {};
using net = net_of<>;
using after_norm = net_of<ds::mtp_config{.eps = 1e-3, .hidden = ds::mtp_hidden::after_norm}>;
struct tied_net : ds::with_mtp<ds::embedding<11, 8>, block, ds::mtp_layer<ds::checkpointed<block>>,
                               ds::tied_head<11, 8>> {};
using model = ds::model<net, float, ds::cpu>;

// Both outputs side by side, for the harness: y = [logits, drafts].
template <class Net>
struct both_outputs : Net {
  static constexpr ds::index_t V = Net::out, out = 2 * V;
  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& x, const Y& y, K& k) {
    Net::forward(c, p, x, split(y), k);
  }
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k, G& g) {
    Net::backward(c, p, x, split(dy), dx, k, g);
  }
  template <class Y>
  static auto split(const Y& y) {
    return ds::mtp_outputs{ds::columns<0, V>(y), ds::columns<V, V>(y)};
  }
};

using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;
const std::int32_t tokens[] = {1, 5, 2, 9, 10, 0, 3, 3, 7};
ids some(ds::index_t n, ds::index_t first = 0) {
  return {tokens + first, {n}};
}
const std::int32_t offsets[] = {0, 4, 4, 5, 9};
const ds::run_options<ds::host> packed{
    .how = ds::mode::training, .seed = 3, .sequences = {offsets, {5}}};

struct both {
  std::vector<float> logits, drafts;
};
template <class M>
both full_run(const ds::cpu& b, const M& m, const ids& x, const ds::run_options<ds::host>& run) {
  auto tape = m.tape(b);
  const auto y = m.forward(b, x, tape, run);
  return {{y.logits.data(), y.logits.data() + y.logits.size()},
          {y.drafts.data(), y.drafts.data() + y.drafts.size()}};
}
template <class View>
bool same_row(const View& y, ds::index_t i, const std::vector<float>& all, ds::index_t row) {
  return std::memcmp(&y(i, 0), all.data() + row * 11, 11 * sizeof(float)) == 0;
}

}  // namespace

TEST_CASE("with_mtp: the gradient of both losses, shared parts getting both") {
  ds::cpu b{{.threads = 2}};
  layer_test::expect_layer_gradient<both_outputs<net>>(b, "with_mtp", some(9), packed);
  layer_test::expect_layer_gradient<both_outputs<after_norm>>(b, "with_mtp after norm", some(9),
                                                              packed);
  layer_test::expect_layer_gradient<both_outputs<tied_net>>(b, "with_mtp tied", some(9), packed);
}

TEST_CASE("with_mtp: names") {
  std::string all;
  const ds::parameters<net, float, ds::host> p;
  ds::visit([&](const ds::tensor_name& at, const auto&) { all += at.path + " "; }, p);
  CHECK(all.find("embed.weight layers.0.attn_norm.weight ") == 0);
  CHECK(all.find(" norm.weight head.weight mtp.0.enorm.weight mtp.0.hnorm.weight "
                 "mtp.0.eh_proj.weight mtp.0.attn_norm.weight mtp.0.attn.wq.weight ") !=
        std::string::npos);
  CHECK(all.find(" mtp.0.ffn.w2.weight ") != std::string::npos);
  CHECK(all.ends_with(" mtp.0.norm.weight "));
}

TEST_CASE("with_mtp: a draft sees the token after its own and nothing of later ones") {
  ds::cpu b{{.threads = 2}};
  const model m(b, ds::normal_init{.stddev = 0.3, .seed = 7});
  const auto whole = full_run(b, m, some(9), {});
  for (ds::index_t n : {1, 2, 5, 8}) {
    const auto part = full_run(b, m, some(n), {});
    CHECK(std::equal(part.logits.begin(), part.logits.end(), whole.logits.begin()));
    CHECK(std::equal(part.drafts.begin(), part.drafts.end() - 11, whole.drafts.begin()));
  }
  std::int32_t changed[9];
  std::copy_n(tokens, 9, changed);
  changed[5] = 8;
  const auto other = full_run(b, m, ids{changed, {9}}, {});
  CHECK(std::equal(other.drafts.begin(), other.drafts.begin() + 4 * 11, whole.drafts.begin()));
  CHECK(!std::equal(other.drafts.begin() + 4 * 11, other.drafts.begin() + 5 * 11,
                    whole.drafts.begin() + 4 * 11));
  CHECK(std::equal(other.logits.begin(), other.logits.begin() + 5 * 11, whole.logits.begin()));
}

TEST_CASE("with_mtp: eh_proj reads the embedding first, then the hidden state") {
  ds::cpu b;
  model m(b, ds::normal_init{.stddev = 0.3, .seed = 7});
  auto& w = m.parameters().mtp.eh_proj.weight;
  const auto before = full_run(b, m, some(4), {});
  // Without the hidden half only the next token (and what the block saw before) can matter.
  for (ds::index_t o = 0; o < 8; ++o) {
    for (ds::index_t i = 0; i < 8; ++i) w.view()(o, 8 + i) = 0;
  }
  const std::int32_t a[] = {1, 5, 2}, c[] = {9, 5, 2};  // the first token differs
  const auto one = full_run(b, m, ids{a, {3}}, {}), two = full_run(b, m, ids{c, {3}}, {});
  CHECK(std::equal(one.drafts.begin(), one.drafts.begin() + 22, two.drafts.begin()));
  CHECK(!std::equal(one.logits.begin(), one.logits.begin() + 22, two.logits.begin()));
  CHECK(before.drafts != full_run(b, m, some(4), {}).drafts);
}

TEST_CASE("with_mtp: packed sequences are each alone; nothing crosses a border") {
  ds::cpu b{{.threads = 2}};
  const model m(b, ds::normal_init{.stddev = 0.3, .seed = 7});
  const auto all = full_run(b, m, some(9), packed);
  for (int s = 0; s < 4; ++s) {
    const ds::index_t first = offsets[s], n = offsets[s + 1] - first;
    const auto alone = full_run(b, m, some(n, first), {.how = ds::mode::training, .seed = 3});
    CHECK(std::equal(alone.logits.begin(), alone.logits.end(), all.logits.begin() + first * 11));
    CHECK(std::equal(alone.drafts.begin(), alone.drafts.end(), all.drafts.begin() + first * 11));
  }
}

TEST_CASE("with_mtp: inference gives the logits alone, the same bits") {
  ds::cpu b{{.threads = 2}};
  const model m(b, ds::normal_init{.stddev = 0.3, .seed = 7});
  const auto both = full_run(b, m, some(9), {});
  const auto y = m(b, some(9));
  CHECK(y.size() == 99);
  CHECK(std::memcmp(y.data(), both.logits.data(), 99 * sizeof(float)) == 0);
  CHECK(m(b, some(0)).size() == 0);
}

TEST_CASE_TEMPLATE("with_mtp: drafts of a decoder are those of the full run", Net, net,
                   after_norm) {
  ds::cpu b{{.threads = 2}};
  const ds::model<Net, float, ds::cpu> m(b, ds::normal_init{.stddev = 0.3, .seed = 7});
  const auto want = full_run(b, m, some(9), {});
  auto d = m.decoder(b, 9);
  // Decoded in parts of 3, 1, 4; drafts one token behind, in other parts.
  const auto decode = [&](ds::index_t n) {
    const ds::index_t at = d.length();
    const auto y = m.decode(b, some(n, at), d);
    for (ds::index_t i = 0; i < n; ++i) CHECK(same_row(y, i, want.logits, at + i));
  };
  const auto draft = [&](ds::index_t n) {
    const ds::index_t at = d.drafted();
    const auto y = m.draft(b, some(n, at + 1), d);
    for (ds::index_t i = 0; i < n; ++i) CHECK(same_row(y, i, want.drafts, at + i));
  };
  decode(3), draft(2), decode(1), draft(2), decode(4), draft(1), draft(3);
  CHECK(d.drafted() == 8);
  // One token further, from the last draft; forgotten by the next decode.
  const std::int32_t guess[] = {6};
  m.draft(b, ids{guess, {1}}, d);
  CHECK(d.drafted() == 9);
  CHECK_ERROR(ds::error_code::index_range, "draft: 9 + 1", "capacity of 9",
              m.draft(b, ids{guess, {1}}, d));
  d.rewind(6);
  CHECK(d.drafted() == 5);
  draft(1);
  decode(2), draft(2);
  m.draft(b, ids{guess, {1}}, d);
  CHECK(d.drafted() == 9);
  decode(1);
  CHECK(d.drafted() == 8);
}

TEST_CASE("with_mtp: what draft refuses changes nothing") {
  ds::cpu b;
  const model m(b, ds::normal_init{.stddev = 0.3, .seed = 7});
  auto d = m.decoder(b, 6);
  CHECK_ERROR(ds::error_code::index_range, "draft: 1 next tokens for 0 positions",
              m.draft(b, some(1), d));
  m.decode(b, some(3), d);
  CHECK_ERROR(ds::error_code::index_range, "draft: 4 next tokens for 3 positions, 0 of which",
              m.draft(b, some(4, 1), d));
  const std::int32_t bad[] = {11};
  CHECK_ERROR(ds::error_code::index_range, "11", m.draft(b, ids{bad, {1}}, d));
  m.draft(b, some(3, 1), d);
  CHECK_ERROR(ds::error_code::index_range, "draft: 2 next tokens for 3 positions, 3 of which",
              m.draft(b, some(2), d));
  CHECK(m.draft(b, some(0), d).size() == 0);
  CHECK(d.length() == 3);
  CHECK(d.drafted() == 3);
}

TEST_CASE("with_mtp: in int8, calibrated drafts included") {
  ds::cpu b{{.threads = 2}};
  const model m(b, ds::scaled_init{.gain = 1.5, .seed = 7});
  auto seen = m.calibration();
  m.observe(b, some(9), seen);
  const auto small = ds::quantize<ds::w8a8>(b, m, seen);
  const auto plain = full_run(b, m, some(9), {});
  auto d = small.decoder(b, 9);
  small.decode(b, some(8), d);
  const auto y = small.draft(b, some(8, 1), d);
  double difference = 0, norm = 0;
  for (ds::index_t i = 0; i < 88; ++i) {
    const double want = plain.drafts[static_cast<std::size_t>(i)];
    difference += std::pow(y.data()[i] - want, 2);
    norm += want * want;
  }
  CHECK(difference > 0);
  CHECK(std::sqrt(difference / norm) < 0.1);
}
