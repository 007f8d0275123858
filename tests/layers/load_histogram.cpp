// SPDX-License-Identifier: Apache-2.0
// load_histogram: bars and figures of known loads; every router of a model, by name.
#include "deepseek/layers/load_histogram.hpp"
#include "deepseek/layers/moe.hpp"
#include "deepseek/layers/repeat.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"
#include "support/throws.hpp"

namespace ds = deepseek;

TEST_CASE("load_histogram: known loads") {
  const float load[] = {0.25F, 0.5F, 0, 0.25F};
  const ds::view<const float, ds::host, ds::dyn> v(load, {4});
  CHECK(ds::load_histogram_of("gate", v, {.width = 8}) ==
        "gate: 4 experts, an equal share is 25.0 %, least 0.00 and most 2.00 of it\n"
        "    0 ####|      25.0 %\n"
        "    1 ####|####  50.0 %\n"
        "    2     |       0.0 %\n"
        "    3 ####|      25.0 %\n");
  CHECK(ds::load_histogram_of("gate", v, {.width = 8, .lines = 2}) ==
        "gate: 4 experts, an equal share is 25.0 %, least 0.00 and most 2.00 of it\n"
        "    0 ####|##    37.5 %\n"
        "    2 ##  |      12.5 %\n");
  const float crowded[] = {3, 0, 0};  // counts serve as well as shares
  CHECK(ds::load_histogram_of("g", ds::view<const float, ds::host, ds::dyn>(crowded, {3}),
                              {.width = 4})
            .find("    0 ##|#> 100.0 %") != std::string::npos);
  const float none[] = {0, 0};
  CHECK(ds::load_histogram_of("g", ds::view<const float, ds::host, ds::dyn>(none, {2})) ==
        "g: 2 experts, nothing counted yet\n");
  const auto with = [](std::vector<float> loads, ds::histogram_style how) {
    return ds::load_histogram_of(
        "g", ds::view<const float, ds::host, ds::dyn>(loads.data(), {ds::index_t(loads.size())}),
        how);
  };
  constexpr auto invalid = ds::error_code::invalid_argument;
  CHECK_ERROR(invalid, "width is 0, lines 64", with({1}, {.width = 0}));
  CHECK_ERROR(invalid, "width is -4", with({3, 0}, {.width = -4}));
  CHECK_ERROR(invalid, "width is 40, lines 0", with({1}, {.lines = 0}));
  CHECK_ERROR(invalid, "lines -5", with({1, 2}, {.lines = -5}));
  CHECK_ERROR(ds::error_code::nonfinite, "expert 1 is nan", with({1, std::nanf("")}, {}));
  CHECK_ERROR(ds::error_code::nonfinite, "expert 0 is -1", with({-1, 2}, {}));
}

TEST_CASE("load_histogram: the routers of a model") {
  using net =
      ds::repeat<2, ds::moe<ds::moe_config{.dim = 4, .hidden = 2, .routed = 3, .active = 1}>>;
  layer_test::trial<net, float> t;
  layer_test::rows_of<float, 4> x(30);
  const ds::cpu b;
  t.backward(b, x.view());
  ds::update_buffers(b, t.p, t.g);
  const std::string text = ds::load_histogram(t.p, {.width = 10});
  CHECK(text.find("0.gate: 3 experts, an equal share is 33.3 %") == 0);
  CHECK(text.find("\n1.gate: 3 experts") != std::string::npos);
  CHECK(std::count(text.begin(), text.end(), '\n') == 8);
  double share = 0;
  for (ds::index_t e = 0; e < 3; ++e) share += static_cast<double>(t.p.all[0].gate.load.data()[e]);
  CHECK(share == doctest::Approx(1).epsilon(1e-6));
}
