// SPDX-License-Identifier: Apache-2.0
// cross_attention and encoder_decoder: values, gradients through both sides, packed sequences,
// decoding with what is kept of the source.
#include "deepseek/layers/encoder_decoder.hpp"

#include "deepseek/layers/embedding.hpp"
#include "deepseek/layers/mlp.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"
#include "oracle/attention.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;
using layer_test::rows_of;
using layer_test::trial;

namespace {

inline constexpr ds::attention_config heads{.dim = 8, .heads = 4, .kv_heads = 2};
inline constexpr ds::attention_config across{
    .dim = 8, .heads = 4, .kv_heads = 2, .rope = ds::rotary::none};
using encoder = ds::encoder_block<heads, ds::mlp<8, 6>>;
using decoder = ds::decoder_block<ds::multi_head_attention<heads, ds::causal>,
                                  ds::cross_attention<across>, ds::mlp<8, 6>>;

// One matrix of rows as both: its first `Source` rows of every 4 (packed: of each sequence of 4)
// are the source.
template <class E, class D>
struct both_sides {
  using inner = ds::encoder_decoder<E, D>;
  static constexpr ds::index_t out = D::out;
  static constexpr const char* label = "";
  template <class Of>
  struct parts {
    using layer = both_sides;
    ds::each<Of, inner> body;
    static constexpr auto fields() { return std::tuple{ds::named("", &parts::body)}; }
  };
  template <class C, class V>
  static auto split(const C&, const V& v) {
    return ds::source_and_target{ds::rows(v, 0, 3), ds::rows(v, 0, v.extent(0))};
  }
  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& x, const Y& y, K& k) {
    ds::run_forward(c, p.body, split(c, x), y, k.body);
  }
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k, G& g) {
    const ds::scope freed(c.scratch);
    const auto d = c.scratch.template make<double, ds::dyn, 8>(3);
    ds::run_backward(c, p.body, split(c, x), dy,
                     ds::source_and_target{d, ds::rows(dx, 0, dx.extent(0))}, k.body, g.body);
    ds::ops::add(c.backend, d, ds::rows(dx, 0, 3));
  }
};

using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;
struct net : ds::encoder_decoder<ds::chain<ds::embedding<11, 8>, encoder, ds::rms_norm<8>>,
                                 ds::chain<ds::embedding<7, 8>, ds::called<"blocks", decoder>,
                                           ds::called<"head", ds::linear<8, 7>>>> {};
const std::int32_t source[] = {3, 10, 1, 4, 0, 9, 9, 2}, target[] = {1, 6, 0, 3, 2, 5, 4, 1, 1, 0};

template <class View>
std::vector<float> values(const View& y) {
  return {y.data(), y.data() + y.size()};
}

}  // namespace

TEST_CASE("encoder and decoder: gradients through both sides") {
  const ds::cpu b({.threads = 2});
  rows_of<double, 8> x(6, "tokens");
  layer_test::expect_layer_gradient<both_sides<encoder, decoder>>(b, "encoder_decoder", x.view());
}

TEST_CASE("cross attention: the definition") {
  const ds::cpu b;
  using layer = ds::cross_attention<across>;
  trial<layer, double> t;
  rows_of<double, 8> x(5, "targets"), e(9, "sources");
  const auto product = [](const std::vector<double>& rows, const auto& w) {
    const std::size_t out = static_cast<std::size_t>(w.view().extent(0));
    std::vector<double> y(rows.size() / 8 * out);
    for (std::size_t i = 0; i < y.size(); ++i) {
      for (std::size_t c = 0; c < 8; ++c) {
        y[i] += rows[i / out * 8 + c] * w.data()[i % out * 8 + c];
      }
    }
    return y;
  };
  const oracle::attention_inputs in{product(x.values(), t.p.wq.weight),
                                    product(e.values(), t.p.wk.weight),
                                    product(e.values(), t.p.wv.weight)};
  const auto o =
      oracle::attention(in, {5, 9, 4, 2, 2, 2, 1 / std::sqrt(2.0)}, oracle::everything());
  const auto want = product(o.out, t.p.wo.weight);
  std::vector<double> y(40);
  ds::keep<ds::nothing, layer, double, ds::host> kept;
  ds::arena<ds::host> tape;
  const ds::call<ds::cpu> c{b, {}, b.workspace(), tape, 7, {}};
  const auto lent = c.with<ds::encoder_output>(
      ds::encoder_rows<double, ds::host, 8>{ds::as_const(e.view()), {}, true});
  ds::run_forward<layer>(lent, t.p, ds::as_const(x.view()),
                         ds::view<double, ds::host, ds::dyn, 8>(y.data(), {5, 8}), kept);
  double most = 0;
  for (std::size_t i = 0; i < 40; ++i) most = std::fmax(most, std::fabs(y[i] - want[i]));
  CHECK(most < 1e-13);
}

TEST_CASE("encoder and decoder: decoding, packed sequences") {
  const ds::cpu b({.threads = 2});
  const ds::model<net, float, ds::cpu> m(b, ds::normal_init{.stddev = 0.4, .seed = 1});
  const ids from(source, {8}), to(target, {10});
  const auto whole = m(b, ds::source_and_target{from, to});
  auto d = m.decoder(b, 10);
  const auto first = values(m.decode(b, ds::source_and_target{from, ds::rows(to, 0, 4)}, d));
  CHECK(support::same_bits(first, {whole.data(), whole.data() + 28}));
  for (ds::index_t t = 4; t < 10; ++t) {
    const auto y = values(m.decode(b, ds::source_and_target{ids{}, ds::rows(to, t, 1)}, d));
    CHECK(support::same_bits(y, {whole.data() + 7 * t, whole.data() + 7 * t + 7}));
  }
  d.rewind(0);  // another source
  const auto other = m(b, ds::source_and_target{ds::rows(from, 0, 2), to});
  const auto again = values(m.decode(b, ds::source_and_target{ds::rows(from, 0, 2), to}, d));
  CHECK(support::same_bits(again, {other.data(), other.data() + 70}));
  CHECK(!support::same_bits(again, values(whole.view())));

  const std::int32_t sources[] = {0, 2, 8}, targets[] = {0, 6, 10};
  const ds::sequence_offsets<ds::host> of_source(sources, {3}), of_target(targets, {3});
  const auto packed = m(b, ds::source_and_target{from, to, of_source}, {.sequences = of_target});
  const auto one = m(b, ds::source_and_target{ds::rows(from, 0, 2), ds::rows(to, 0, 6)});
  const auto two = m(b, ds::source_and_target{ds::rows(from, 2, 6), ds::rows(to, 6, 4)});
  CHECK(support::same_bits(values(one.view()), {packed.data(), packed.data() + 42}));
  CHECK(support::same_bits(values(two.view()), {packed.data() + 42, packed.data() + 70}));
  CHECK_ERROR(ds::error_code::shape_mismatch, "query_offsets[3]", "key_offsets[0]",
              m(b, ds::source_and_target{from, to}, {.sequences = of_target}));
  std::string names;
  ds::visit([&](const ds::tensor_name& at, const auto&) { names += at.path + " "; },
            m.parameters());
  CHECK(names.find("encoder.attn.wq.weight ") != std::string::npos);
  CHECK(names.find("decoder.blocks.cross.wk.weight ") != std::string::npos);
}
