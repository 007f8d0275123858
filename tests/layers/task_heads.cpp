// SPDX-License-Identifier: Apache-2.0
// memory_compression and the heads of tasks: values against plain loops in double, gradients,
// sequences alone, shapes.
#include "deepseek/layers/task_heads.hpp"
#include "deepseek/layers/memory_compression.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"
#include "oracle/activation.hpp"
#include "oracle/gemm.hpp"
#include "oracle/norm.hpp"
#include "oracle/pool.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

using memory = ds::memory_compression<ds::memory_compression_config{.dim = 6, .ratio = 0.4}>;
const std::int32_t offsets[] = {0, 2, 3, 7};
const std::vector<std::int32_t> offset_list{0, 2, 3, 7};
const layer_test::options packed{.how = ds::mode::training, .seed = 3, .sequences = {offsets, {4}}};

template <class Tensor>
std::vector<double> values(const Tensor& t) {
  return std::vector<double>(t.data(), t.data() + t.size());
}

// A head of one row a sequence as a layer of one row a token, for the harness: y of the sequence in
// its first rows, zeros in the others.
template <class Head>
struct padded {
  static constexpr ds::index_t out = Head::out;
  static constexpr const char* label = "padded";
  template <class Of>
  struct parts {
    using layer = padded;
    ds::each<Of, Head> body;
    static constexpr auto fields() { return std::tuple{ds::named("", &parts::body)}; }
  };
  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& x, const Y& y, K& k) {
    ds::ops::fill(c.backend, 0.0, y);
    ds::run_forward<Head>(c, p.body, x, ds::rows(y, 0, 3), k.body);
  }
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k, G& g) {
    ds::run_backward<Head>(c, p.body, x, ds::rows(dy, 0, 3), dx, k.body, g.body);
  }
};

template <class Head, class B>
std::vector<double> sequences_of(const B& b, layer_test::trial<padded<Head>, double>& t,
                                 rows_of<double, 4>& x) {
  auto y = t.forward(b, x.view(), packed);
  y.resize(static_cast<std::size_t>(3 * Head::out));
  return y;
}
void expect_values(const char* name, const std::vector<double>& y, const std::vector<double>& want,
                   std::size_t row) {
  support::expect(name, "values",
                  support::compare(support::gemm_limits(ds::dtype::f64, 16), y, want, row));
}

}  // namespace

TEST_CASE_TEMPLATE("memory_compression: values by the formula, gradient", B, ds::reference,
                   ds::cpu) {
  const B b;
  static_assert(ds::memory_compression_config{.dim = 512}.narrow() == 204);  // int(512 * 0.4)
  rows_of<double, 6> x(4);
  layer_test::trial<memory, double> t;
  const auto& w = t.p.get<0>().body;
  auto h = oracle::linear(x.values(), values(w.w1.weight), values(w.w1.bias), {4, 6, 2});
  for (double& e : h) e = oracle::gelu(e);
  h = oracle::linear(h, values(w.w2.weight), values(w.w2.bias), {4, 2, 6});
  for (std::size_t i = 0; i < h.size(); ++i) h[i] += x.values()[i];
  const auto& norm = t.p.get<1>();
  expect_values("memory_compression", t.forward(b, x.view()),
                oracle::layer_norm(h, values(norm.weight), values(norm.bias), 1e-5), 6);
  layer_test::expect_layer_gradient<memory>(b, "memory_compression", x.view());
}

TEST_CASE("memory_compression: a golden row, names") {
  // h = [1, -2, 0.5, 3, -1, 0], W_e rows 0.1 (1 .. 6) and 0.2 (-1)^i, b_e = [0.1, -0.1],
  // W_d[i, 0] = 0.3 i, W_d[i, 1] = 0.5 or -0.25, b_d = 0.01 i: hidden gelu([0.65, -0.2]).
  const ds::cpu b;
  rows_of<double, 6> x(1);
  x.values() = {1, -2, 0.5, 3, -1, 0};
  layer_test::trial<memory, double> t;
  auto& w = t.p.get<0>().body;
  for (ds::index_t i = 0; i < 6; ++i) {
    w.w1.weight.view()(0, i) = 0.1 * static_cast<double>(i + 1);
    w.w1.weight.view()(1, i) = i % 2 == 0 ? 0.2 : -0.2;
    w.w2.weight.view()(i, 0) = 0.3 * static_cast<double>(i);
    w.w2.weight.view()(i, 1) = i % 2 == 0 ? 0.5 : -0.25;
    w.w2.bias.data()[i] = 0.01 * static_cast<double>(i);
  }
  w.w1.bias.data()[0] = 0.1, w.w1.bias.data()[1] = -0.1;
  expect_values("memory_compression", t.forward(b, x.view()),
                {0.20675239518228361, -1.5276956900269529, 0.087954290473945332, 1.7822931146396701,
                 -0.65425961593893145, 0.10495550566998585},
                6);
  std::string names;
  ds::visit([&](const ds::tensor_name& at, const auto&) { names += at.path + " "; }, t.p);
  CHECK(names ==
        "compression.w1.weight compression.w1.bias compression.w2.weight compression.w2.bias "
        "norm.weight norm.bias ");
}

TEST_CASE_TEMPLATE("heads: values and gradients", B, ds::reference, ds::cpu) {
  const B b;
  rows_of<double, 4> x(7);
  using labels = ds::classification_head<4, 3, ds::pooled_row::mean>;
  layer_test::trial<padded<labels>, double> c;
  const auto& w = c.p.body.template get<1>();
  const auto mean = oracle::pool(x.values(), offset_list, oracle::pooled::mean, 4);
  expect_values("classification_head", sequences_of<labels>(b, c, x),
                oracle::linear(mean, values(w.weight), values(w.bias), {3, 4, 3}), 3);
  using reward = ds::reward_head<4>;
  layer_test::trial<padded<reward>, double> r;
  const auto last = oracle::pool(x.values(), offset_list, oracle::pooled::last, 4);
  expect_values("reward_head", sequences_of<reward>(b, r, x),
                oracle::linear(last, values(r.p.body.template get<1>().weight), {0}, {3, 4, 1}), 1);
  using unit = ds::contrastive_head<4, 5, ds::pooled_row::first>;
  layer_test::trial<padded<unit>, double> u;
  const auto first = oracle::pool(x.values(), offset_list, oracle::pooled::first, 4);
  auto z = oracle::linear(first, values(u.p.body.template get<1>().weight), std::vector<double>(5),
                          {3, 4, 5});
  for (std::size_t s = 0; s < 3; ++s) {
    double square = 0;
    for (std::size_t d = 0; d < 5; ++d) square += z[5 * s + d] * z[5 * s + d];
    for (std::size_t d = 0; d < 5; ++d) z[5 * s + d] /= std::sqrt(square + 1e-12);
  }
  expect_values("contrastive_head", sequences_of<unit>(b, u, x), z, 5);

  layer_test::expect_layer_gradient<padded<labels>>(b, "classification_head", x.view(), packed);
  layer_test::expect_layer_gradient<padded<reward>>(b, "reward_head", x.view(), packed);
  layer_test::expect_layer_gradient<padded<unit>>(b, "contrastive_head", x.view(), packed);
  layer_test::expect_layer_gradient<ds::tagging_head<4, ds::bio_tags(2)>>(b, "tagging_head",
                                                                          x.view(), packed);
  layer_test::expect_layer_gradient<ds::generation_head<4, 9>>(b, "generation_head", x.view());
  layer_test::expect_layer_gradient<ds::l2_normalize<4, ds::l2_config{.eps = 0.3}>>(
      b, "l2_normalize", x.view());
}

TEST_CASE("l2_normalize: rows of length one, zeros stay, a row alone has its bits") {
  const ds::cpu b{{.threads = 2}};
  rows_of<float, 33> x(40);
  for (std::size_t i = 0; i < 33; ++i) x.values()[i] = 0;
  layer_test::trial<ds::l2_normalize<33>, float> t;
  const auto y = t.forward(b, x.view());
  for (std::size_t r = 0; r < 40; ++r) {
    double square = 0;
    for (std::size_t d = 0; d < 33; ++d)
      square += static_cast<double>(y[33 * r + d]) * y[33 * r + d];
    CHECK(std::fabs(square - (r == 0 ? 0 : 1)) < 1e-6);
  }
  layer_test::expect_sequences_alone<ds::l2_normalize<33>>(b, "l2_normalize", x, {0, 1, 7, 40});
}

TEST_CASE("heads: rows of y, a sequence without rows") {
  using labels = ds::classification_head<4, 3>;
  CHECK(ds::output_rows<labels>({7, 3}) == 3);
  CHECK(ds::output_rows<ds::tagging_head<4, 5>>({7, 3}) == 7);
  CHECK(ds::count_rows(packed, 7).sequences == 3);
  CHECK(ds::count_rows(layer_test::options{}, 7).sequences == 1);
  CHECK(ds::count_rows(layer_test::options{}, 0).sequences == 0);
  const ds::cpu b;
  rows_of<double, 4> x(7);
  layer_test::trial<padded<labels>, double> t;
  const std::int32_t bad[] = {0, 7, 7, 7};
  CHECK_ERROR(ds::error_code::offsets, "pool: offsets[2] is 7", "sequence 1 has no rows",
              t.forward(b, x.view(), {.sequences = {bad, {4}}}));
}
