// SPDX-License-Identifier: Apache-2.0
// What every input layer promises: the concept; all of its rows and nothing beside them are
// written, as many as it says, none for no data; gradients are added to (twice is exactly twice)
// without a gradient of the data; no bit depends on threads.
#include <doctest/doctest.h>

#include <cmath>

#include "deepseek/deepseek.hpp"

#include "support/poison.hpp"

namespace ds = deepseek;

namespace {

using flat = ds::view<const float, ds::host, ds::dyn, ds::dyn>;
using cube = ds::view<const float, ds::host, ds::dyn, ds::dyn, ds::dyn>;
using images = ds::view<const float, ds::host, ds::dyn, ds::dyn, ds::dyn, ds::dyn>;

// A layer, `items` of data for it, and how many rows two items make.
struct text {
  using layer = ds::embedding<7, 8>;
  static constexpr ds::index_t rows = 2;
  static auto data(const float*, ds::index_t items) {
    static constexpr std::int32_t ids[] = {6, 1};
    return ds::view<const std::int32_t, ds::host, ds::dyn>(ids, {items});
  }
};
struct features {
  using layer = ds::linear<5, 8, ds::plain, ds::bias::present>;
  static constexpr ds::index_t rows = 2;
  static auto data(const float* x, ds::index_t items) { return flat(x, {items, 5}); }
};
struct pictures {
  using layer = ds::patch_embedding<ds::patch_config{
      .channels = 3, .height = 4, .width = 6, .patch = 2, .dim = 8}>;
  static constexpr ds::index_t rows = 12;
  static auto data(const float* x, ds::index_t items) { return images(x, {items, 3, 4, 6}); }
};
struct samples {
  using layer =
      ds::frame_embedding<ds::frame_config{.length = 10, .step = 4, .frames = 20, .dim = 8}>;
  static constexpr ds::index_t rows = 24;  // (55 - 10) / 4 + 1 = 12 frames a clip
  static auto data(const float* x, ds::index_t items) { return cube(x, {items, 55, 1}); }
};
struct mel_frames {
  using layer = ds::frame_embedding<ds::frame_config{
      .features = 6, .length = 2, .step = 2, .frames = 5, .dim = 8}>;
  static constexpr ds::index_t rows = 8;
  static auto data(const float* x, ds::index_t items) { return cube(x, {items, 9, 6}); }
};

template <class Input>
struct trial {
  using L = typename Input::layer;
  ds::cpu b;
  ds::parameters<L, float, ds::host> p, g;
  support::guarded<float> x{256}, y{static_cast<std::size_t>(8 * Input::rows)};

  explicit trial(int threads) : b({.threads = threads}) {
    b.workspace().fill_with(static_cast<unsigned char>(0xff));
    ds::initialize(ds::normal_init{.stddev = 0.3, .seed = 3}, p);
    for (std::size_t i = 0; i < 256; ++i) x[i] = std::sin(1.0f + static_cast<float>(i));
    x.remember();
  }
  std::vector<float> forward_and_backward() {
    ds::arena<ds::host> tape;
    ds::keep<ds::for_backward, L, float, ds::host> kept;
    const ds::call<ds::cpu> c{b, {.how = ds::mode::training}, b.workspace(), tape, 0, {}};
    const auto data = Input::data(x.data(), 2);
    const ds::view<float, ds::host, ds::dyn, 8> out(y.data(), {Input::rows, 8});
    ds::run_forward<L>(c, p, data, out, kept);
    ds::run_backward<L>(c, p, data, ds::as_const(out), ds::none{}, kept, g);
    std::vector<float> all;
    ds::visit([&](const ds::tensor_name&,
                  const auto& t) { all.insert(all.end(), t.data(), t.data() + t.size()); },
              g);
    return all;
  }
};

}  // namespace

TEST_CASE_TEMPLATE("every input layer keeps the contract", Input, text, features, pictures, samples,
                   mel_frames) {
  using L = typename Input::layer;
  trial<Input> t(1);
  const auto none = Input::data(t.x.data(), 0), two = Input::data(t.x.data(), 2);
  static_assert(ds::InputLayer<L, std::remove_const_t<decltype(two)>>);
  CHECK(ds::input_rows<L>(none) == 0);
  CHECK(ds::input_rows<L>(two) == Input::rows);
  auto once = t.forward_and_backward();
  CHECK((t.x.unchanged() && t.y.intact()));
  for (const float v : t.y.values()) CHECK(std::isfinite(v));  // y was NaN before
  for (float& v : once) v += v;
  CHECK(support::same_bits(t.forward_and_backward(), once));
  trial<Input> more(3);
  more.forward_and_backward();
  CHECK(support::same_bits(more.forward_and_backward(), once));
  CHECK(support::same_bits(more.y.values(), t.y.values()));
  ds::keep<ds::for_backward, L, float, ds::host> kept;
  const ds::call<ds::cpu> c{t.b, {}, t.b.workspace(), t.b.workspace(), 0, {}};
  const ds::view<float, ds::host, ds::dyn, 8> no_rows(nullptr, {0, 8});
  ds::run_forward<L>(c, t.p, none, no_rows, kept);
  ds::run_backward<L>(c, t.p, none, ds::as_const(no_rows), ds::none{}, kept, t.g);
}
