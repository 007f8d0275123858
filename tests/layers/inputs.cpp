// SPDX-License-Identifier: Apache-2.0
// Input layers: patches and frames against loops in double, gradients, several kinds joined row by
// row, the dynamic embedding's formula, errors.
#include "deepseek/layers/inputs.hpp"
#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/dynamic_embedding.hpp"
#include "deepseek/layers/embedding.hpp"
#include "deepseek/layers/frame_embedding.hpp"
#include "deepseek/layers/patch_embedding.hpp"
#include "deepseek/layers/residual.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"
#include "oracle/unfold.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

constexpr ds::index_t D = 5;
using image = ds::patch_embedding<ds::patch_config{
    .channels = 2, .height = 4, .width = 6, .patch = 2, .dim = D}>;
using audio = ds::frame_embedding<ds::frame_config{
    .features = 2, .length = 4, .step = 2, .frames = 6, .dim = D}>;
using text = ds::called<"text", ds::embedding<7, D>>;
using all_kinds = ds::inputs<text, image, audio>;
using mixture = ds::dynamic_embedding<ds::dynamic_embedding_config{.dim = D, .kinds = 3}>;
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;

// A layer of items seen as one of rows: an item is a row of x, all its windows one row of y.
template <class L, ds::index_t Windows>
struct by_item {
  static constexpr ds::index_t out = Windows * L::out;
  static constexpr const char* label = "items";
  template <class Of>
  struct parts {
    using layer = by_item;
    ds::each<Of, L> body;
    static constexpr auto fields() { return std::tuple{ds::named("", &parts::body)}; }
  };
  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X& x, const Y& y, K& k) {
    ds::run_forward<L>(c, p.body, items(x), windows(y), k.body);
  }
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P& p, const X& x, const DY& dy, const DX& dx, K& k, G& g) {
    ds::run_backward<L>(c, p.body, items(x), windows(dy), items(dx), k.body, g.body);
  }
  template <class V>
  static auto windows(const V& v) {
    return ds::view<typename V::element_type, ds::host, ds::dyn, L::out>(
        v.data(), {v.extent(0) * Windows, L::out});
  }
  template <class V>
  static auto items(const V& v) {
    using T = typename V::element_type;
    if constexpr (std::is_same_v<L, image>) {
      return ds::view<T, ds::host, ds::dyn, ds::dyn, ds::dyn, ds::dyn>(v.data(),
                                                                       {v.extent(0), 2, 4, 6});
    } else {
      return ds::view<T, ds::host, ds::dyn, ds::dyn, ds::dyn>(v.data(),
                                                              {v.extent(0), v.extent(1) / 2, 2});
    }
  }
};

template <class P, class T>
void check_windows(const P& p, const oracle::image_windows& w, const std::vector<double>& x,
                   const std::vector<T>& y) {
  const auto rows = oracle::unfold(x, w);
  std::vector<double> want;
  for (std::size_t n = 0; n < w.count(); ++n) {
    const auto place = static_cast<ds::index_t>(n % (w.rows() * w.columns()));
    for (ds::index_t d = 0; d < D; ++d) {
      double sum = p.proj.bias.data()[d] + p.position.weight.view()(place, d);
      for (std::size_t e = 0; e < w.window(); ++e) {
        sum += rows[n * w.window() + e] * p.proj.weight.view()(d, static_cast<ds::index_t>(e));
      }
      want.push_back(sum);
    }
  }
  support::expect("window_embedding", "values",
                  support::compare(support::gemm_limits(ds::dtype::f64, w.window() + 2), y, want,
                                   static_cast<std::size_t>(D)));
}

// Two sentences of all kinds: an image between bytes, then frames, some of them twice.
struct example {
  std::int32_t bytes[4] = {1, 6, 0, 6};
  rows_of<double, 48> images{2, "images"};
  rows_of<double, 24> clips{1, "clips"};
  ds::row_order order{{4, 12, 5}};
  example() {
    order.add(0, 0, 2), order.add(1, 6, 6), order.end_sequence();
    order.add(2, 1, 3), order.add(0, 2, 2), order.add(2, 1, 2), order.end_sequence();
  }
  auto inputs() {
    using cube = ds::view<double, ds::host, ds::dyn, ds::dyn, ds::dyn>;
    return ds::by_kind(order, ids(bytes, {4}), by_item<image, 6>::items(images.view()),
                       cube(clips.view().data(), {1, 12, 2}));
  }
};

// The example as a layer of rows for the harness (its x is not looked at), with what follows it.
struct joined {
  static constexpr ds::index_t out = D;
  static constexpr const char* label = "joined";
  using net = ds::chain<all_kinds, mixture>;
  template <class Of>
  struct parts {
    using layer = joined;
    ds::each<Of, net> body;
    static constexpr auto fields() { return std::tuple{ds::named("", &parts::body)}; }
  };
  template <class C, class P, class X, class Y, class K>
  static void forward(const C& c, const P& p, const X&, const Y& y, K& k) {
    example e;
    ds::run_forward<net>(c, p.body, e.inputs(), y, k.body);
  }
  template <class C, class P, class X, class DY, class DX, class K, class G>
  static void backward(const C& c, const P& p, const X&, const DY& dy, const DX&, K& k, G& g) {
    example e;
    ds::run_backward<net>(c, p.body, e.inputs(), dy, ds::none{}, k.body, g.body);
  }
};
const std::int32_t fifteen[15] = {};

}  // namespace

TEST_CASE_TEMPLATE("patch_embedding and frame_embedding: values and gradients", B, ds::reference,
                   ds::cpu) {
  const B b;
  rows_of<double, 48> pixels(3, "pixels");
  layer_test::trial<by_item<image, 6>, double> i;
  check_windows(i.p.body, {3, 2, 4, 6, 2, 2, 2, 2}, pixels.values(), i.forward(b, pixels.view()));
  layer_test::expect_layer_gradient<by_item<image, 6>>(b, "patch_embedding", pixels.view());
  rows_of<double, 26> clips(2, "clips");  // 13 steps: 5 frames, and one step over
  layer_test::trial<by_item<audio, 5>, double> a;
  check_windows(a.p.body, {2, 1, 13, 2, 4, 2, 2, 2}, clips.values(), a.forward(b, clips.view()));
  layer_test::expect_layer_gradient<by_item<audio, 5>>(b, "frame_embedding", clips.view());
}

TEST_CASE("learned_positions: values by sequence, gradient, the end of the table") {
  const ds::cpu b;
  using layer = ds::learned_positions<4, 3>;
  rows_of<double, 3> x(6);
  const std::int32_t offsets[] = {0, 2, 6};
  const layer_test::options run{.how = ds::mode::training, .sequences = {offsets, {3}}};
  layer_test::trial<layer, double> t;
  const auto y = t.forward(b, x.view(), run);
  for (ds::index_t r = 0; r < 6; ++r) {
    for (ds::index_t d = 0; d < 3; ++d) {
      CHECK(y[static_cast<std::size_t>(3 * r + d)] ==
            x.view()(r, d) + t.p.weight.view()(r < 2 ? r : r - 2, d));
    }
  }
  layer_test::expect_layer_gradient<layer>(b, "learned_positions", x.view(), run);
  CHECK_ERROR(ds::error_code::index_range, "is 4", "0 .. 3", t.forward(b, x.view()));
}

TEST_CASE("inputs: kinds joined row by row, and their dynamic embedding") {
  const ds::cpu b{{.threads = 2}};
  example e;
  layer_test::trial<joined, double> t;
  const auto y = t.forward(b, ids(fifteen, {15}));
  // Each kind by its own layer, then the mixture's formula in plain loops.
  const auto& p = t.p.body.get<0>();
  layer_test::trial<by_item<image, 6>, double> i;
  layer_test::trial<by_item<audio, 5>, double> a;
  i.p.body = p.get<1>();
  a.p.body = p.get<2>();
  const auto patches = i.forward(b, e.images.view()), frames = a.forward(b, e.clips.view());
  std::vector<std::vector<double>> rows;
  for (const std::int32_t byte : e.bytes) {
    const auto* row = p.get<0>().weight.data() + byte * D;
    rows.emplace_back(row, row + D);
  }
  for (const auto* part : {&patches, &frames}) {
    for (std::size_t r = 0; r < part->size(); r += D) {
      rows.emplace_back(part->begin() + static_cast<long>(r),
                        part->begin() + static_cast<long>(r + D));
    }
  }
  const auto& m = t.p.body.get<1>();
  std::vector<double> want;
  for (ds::index_t r = 0; r < 15; ++r) {
    const auto& x = rows[static_cast<std::size_t>(e.order.order()(r))];
    const auto product = [&](const auto& w, ds::index_t o) {
      double sum = 0;
      for (ds::index_t d = 0; d < D; ++d) sum += w.view()(o, d) * x[static_cast<std::size_t>(d)];
      return sum;
    };
    double shares[3], total = 0;
    for (ds::index_t v = 0; v < 3; ++v) {
      shares[v] = std::exp(product(m.gate.weight, v) +
                           m.preference.weight.view()(e.order.kind_of_rows()(r), v));
      total += shares[v];
    }
    for (ds::index_t d = 0; d < D; ++d) {
      double sum = 0;
      for (ds::index_t v = 0; v < 3; ++v)
        sum += shares[v] / total * product(m.views.weight, v * D + d);
      want.push_back(sum);
    }
  }
  support::expect("dynamic_embedding", "values",
                  support::compare(support::gemm_limits(ds::dtype::f64, 64), y, want,
                                   static_cast<std::size_t>(D)));
  CHECK(e.order.kind_of_rows()(2) == 1);
  CHECK(e.order.offsets()(2) == 15);
}

TEST_CASE_TEMPLATE("inputs: the gradient of all kinds", B, ds::reference, ds::cpu) {
  layer_test::expect_layer_gradient<joined>(B{}, "inputs", ids(fifteen, {15}));
}

TEST_CASE("inputs: no bit depends on threads; names") {
  layer_test::trial<joined, double> first;
  first.backward(ds::cpu{}, ids(fifteen, {15}));
  for (int threads : {2, 3}) {
    layer_test::trial<joined, double> t;
    t.backward(ds::cpu{{.threads = threads}}, ids(fifteen, {15}));
    CHECK(support::same_bits(layer_test::flat(t.g), layer_test::flat(first.g)));
  }
  std::string names;
  ds::visit([&](const ds::tensor_name& at, const auto&) { names += at.path + " "; }, first.p);
  CHECK(names ==
        "inputs.text.weight inputs.image.proj.weight inputs.image.proj.bias "
        "inputs.image.position.weight inputs.audio.proj.weight inputs.audio.proj.bias "
        "inputs.audio.position.weight dynamic.views.weight dynamic.gate.weight "
        "dynamic.preference.weight ");
}

TEST_CASE("inputs: bad input") {
  ds::row_order order({4, 6});
  CHECK_ERROR(ds::error_code::index_range, "row_order: kind 2 of 2", order.add(2, 0, 1));
  CHECK_ERROR(ds::error_code::index_range, "rows 5 .. 7 of kind 1 that has 6", order.add(1, 5, 2));
  CHECK_ERROR(ds::error_code::index_range, "rows -1 .. 1", order.add(0, -1, 2));
  CHECK_ERROR(ds::error_code::invalid_argument, "-1 rows of kind 1", ds::row_order({2, -1}));
  CHECK(order.order().extent(0) == 0);  // nothing was added
  const std::int32_t bytes[] = {1, 2, 3, 4};
  CHECK_ERROR(ds::error_code::invalid_argument, "by_kind: 1 inputs for an order of 2 kinds",
              ds::by_kind(order, ids(bytes, {4})));
  const ds::cpu b;
  layer_test::trial<by_item<image, 6>, double> i;
  layer_test::trial<by_item<audio, 9>, double> a;
  rows_of<double, 40> long_clip(1);
  CHECK_ERROR(ds::error_code::index_range, "window_embedding: 9 windows", "6 positions",
              a.forward(b, long_clip.view()));
  std::vector<double> y(60), data(96);
  ds::keep<ds::nothing, image, double, ds::host> kept;
  const ds::call<ds::cpu> c{b, {}, b.workspace(), b.workspace(), 0, {}};
  const ds::view<double, ds::host, ds::dyn, D> out(y.data(), {12, D});
  using images = ds::view<double, ds::host, ds::dyn, ds::dyn, ds::dyn, ds::dyn>;
  CHECK_ERROR(ds::error_code::shape_mismatch, "patch_embedding: x[2, 2, 6, 4]", "expected 4",
              image::forward(c, i.p.body, images(data.data(), {2, 2, 6, 4}), out, kept));
  CHECK_ERROR(ds::error_code::shape_mismatch, "unfold", "[12, 4]",
              image::forward(c, i.p.body, images(data.data(), {2, 1, 4, 6}), out, kept));
}
