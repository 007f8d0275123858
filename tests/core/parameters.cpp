// SPDX-License-Identifier: Apache-2.0
// Structs generated from layer types: names, roles, walking several at once, conversion, buffers.
#include "deepseek/core/parameters.hpp"

#include <doctest/doctest.h>

#include "deepseek/core/keep.hpp"

namespace ds = deepseek;

namespace {

struct leaf {
  template <class T, class S>
  struct parameters {
    using layer = leaf;
    ds::tensor<T, S, 2> weight;
    ds::tensor<float, S, 1> load;
    static constexpr auto fields() {
      return std::tuple{ds::named("weight", &parameters::weight),
                        ds::buffer("load", &parameters::load)};
    }
  };
  template <class T, class S>
  struct saved {
    T value{};
  };
  template <class B, class P, class G>
  static void update(const B&, P& p, const G& g) {
    p.load.data()[0] += g.load.data()[0];
  }
};
struct bare {};  // no parameters at all

struct pair {
  template <class Of>
  struct parts {
    using layer = pair;
    ds::numbered<ds::each<Of, leaf>, 2, 5> layers;
    ds::each<Of, bare> nothing;
    ds::each<Of, leaf> last;
    static constexpr auto fields() {
      return std::tuple{ds::named("layers", &parts::layers), ds::named("nothing", &parts::nothing),
                        ds::named("", &parts::last)};
    }
  };
};
using params = ds::parameters<pair, double, ds::host>;

}  // namespace

TEST_CASE("visit names every tensor once, with its role") {
  params p;
  std::string all;
  ds::visit([&](const ds::tensor_name& at,
                auto&) { all += at.path + (at.role == ds::field_role::state ? "* " : " "); },
            p);
  CHECK(all == "layers.5.weight layers.5.load* layers.6.weight layers.6.load* weight load* ");
  static_assert(std::is_same_v<ds::parameters<bare, double, ds::host>, ds::none>);
}

TEST_CASE("several structs are walked side by side, of other element types too") {
  params p, g;
  ds::parameters<pair, float, ds::host> half;
  g.layers[1].weight.data()[0] = 3;
  half.layers[1].weight.data()[0] = 0.5f;
  int tensors = 0;
  ds::visit(
      [&](const ds::tensor_name&, auto& w, const auto& d, const auto& h) {
        ++tensors;
        w.data()[0] +=
            static_cast<std::remove_reference_t<decltype(w.data()[0])>>(d.data()[0] * h.data()[0]);
      },
      p, g, half);
  CHECK(tensors == 6);
  CHECK(p.layers[1].weight.data()[0] == 1.5);
  CHECK(p.last.weight.data()[0] == 0);
}

TEST_CASE("buffers move by their layer's rule; equal structs convert by copy") {
  params p, g;
  g.layers[0].load.data()[0] = 2;
  g.last.load.data()[0] = 1;
  ds::update_buffers(ds::none{}, p, g);
  CHECK(p.layers[0].load.data()[0] == 2);
  CHECK(p.layers[1].load.data()[0] == 0);
  CHECK(p.last.load.data()[0] == 1);
  params q;
  ds::keep<ds::for_calibration, pair, double, ds::host> nothing_seen;
  ds::convert(p, nothing_seen, q);
  CHECK(q.layers[0].load.data()[0] == 2);
}

TEST_CASE("kept things are generated like the parameters") {
  ds::keep<ds::for_backward, pair, double, ds::host> tape;
  tape.layers[1].own.value = 4;
  double sum = 0;
  ds::visit_kept([&](auto& own) -> decltype(static_cast<void>(own.value)) { sum += own.value; },
                 tape);
  CHECK(sum == 4);
  static_assert(ds::keeps_tape<decltype(tape)> && !ds::keeps_state<decltype(tape)>);
  static_assert(std::is_same_v<decltype(tape.nothing.own), ds::none>);
  static_assert(
      std::is_same_v<decltype(ds::keep<ds::nothing, leaf, double, ds::host>::own), ds::none>);
}
