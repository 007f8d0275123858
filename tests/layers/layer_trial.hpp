// SPDX-License-Identifier: Apache-2.0
// One layer with parameters of its own, run forward and backward outside a model: results as plain
// vectors, the gradients by name, the size of the tape.
#pragma once

#include "layers/layer_gradient.hpp"
#include "support/poison.hpp"
#include "support/report.hpp"
#include "support/seed.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <type_traits>
#include <vector>

namespace layer_test {

using options = ds::run_options<ds::host>;
inline constexpr options train{.how = ds::mode::training, .seed = 3};

// n rows of D normal numbers.
template <class T, ds::index_t D>
class rows_of {
 public:
  explicit rows_of(ds::index_t n, const char* stream = "rows") : n_(n) {
    support::numbers from{std::string(stream)};
    values_ = support::as<T>(
        support::draw(support::values::normal, static_cast<std::size_t>(n * D), from));
  }
  ds::view<T, ds::host, ds::dyn, D> view() { return {values_.data(), {n_, D}}; }
  ds::view<T, ds::host, ds::dyn, D> rows(ds::index_t first, ds::index_t n) {
    return ds::rows(view(), first, n);
  }
  std::vector<T>& values() { return values_; }

 private:
  ds::index_t n_;
  std::vector<T> values_;
};

template <class P>
auto flat(P& p) {
  std::vector<double> all;
  ds::visit(
      [&](const ds::tensor_name&, const auto& t) {
        for (ds::index_t i = 0; i < t.size(); ++i) all.push_back(static_cast<double>(t.data()[i]));
      },
      p);
  return all;
}

template <class Net, class T>
class trial {
 public:
  using parameters = ds::parameters<Net, T, ds::host>;

  trial() { ds::initialize(ds::normal_init{.stddev = 0.4, .seed = 5}, p); }

  template <class B, class X>
  std::vector<T> forward(const B& b, const X& x, options run = {}) const {
    ds::keep<ds::nothing, Net, T, ds::host> kept;
    ds::arena<ds::host> tape;
    return run_to(b, x, run, tape, kept);
  }
  // Forward, then backward with fixed weights: adds to g and gives dx (nothing for integers).
  template <class B, class X>
  std::vector<T> backward(const B& b, const X& x, options run = train) {
    ds::keep<ds::for_backward, Net, T, ds::host> kept;
    ds::arena<ds::host> tape;
    run_to(b, x, run, tape, kept);
    tape_bytes = tape.bytes_used();
    std::vector<T> dy =
        support::as<T>(support::loss_weights(static_cast<std::size_t>(x.extent(0) * Net::out)));
    const ds::view<const T, ds::host, ds::dyn, Net::out> dyv(dy.data(), {x.extent(0), Net::out});
    std::vector<T> dx;
    const ds::scope freed(b.workspace());
    const ds::call<B> c{b, run, b.workspace(), tape, 7, {}};
    if constexpr (X::rank == 2) {
      dx.resize(static_cast<std::size_t>(x.size()));
      ds::run_backward<Net>(c, p, ds::as_const(x), dyv, X(dx.data(), {x.extent(0), x.extent(1)}),
                            kept, g);
    } else {
      ds::run_backward<Net>(c, p, ds::as_const(x), dyv, ds::none{}, kept, g);
    }
    return dx;
  }

  parameters p, g;
  std::size_t tape_bytes = 0;
  double auxiliary_loss = 0;

 private:
  template <class B, class X, class K>
  std::vector<T> run_to(const B& b, const X& x, options run, ds::arena<ds::host>& tape,
                        K& kept) const {
    std::vector<T> y(static_cast<std::size_t>(x.extent(0) * Net::out));
    const ds::scope freed(b.workspace());
    const ds::call<B> c{b, run, b.workspace(), tape, 7, {}};
    ds::run_forward<Net>(
        c, p, ds::as_const(x),
        ds::view<T, ds::host, ds::dyn, Net::out>(y.data(), {x.extent(0), Net::out}), kept);
    return y;
  }
};

// A layer with sequences packed side by side gives the bits of each sequence alone, in y and dx.
template <class Net, class B, class X>
void expect_sequences_alone(const B& b, const char* name, X& x,
                            const std::vector<std::int32_t>& offsets) {
  trial<Net, float> t;
  auto packed = train;
  packed.sequences = {offsets.data(), {static_cast<ds::index_t>(offsets.size())}};
  const auto y = t.forward(b, x.view(), packed);
  const std::size_t width = y.size() / static_cast<std::size_t>(offsets.back());
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
    const auto one = t.forward(b, x.rows(offsets[s], offsets[s + 1] - offsets[s]), train);
    const auto at = y.begin() + offsets[s] * static_cast<std::ptrdiff_t>(width);
    const std::vector<float> part(at, at + static_cast<std::ptrdiff_t>(one.size()));
    support::expect_true(name, support::text("sequence", s, "rows", offsets[s + 1] - offsets[s]),
                         support::same_bits(one, part), "a sequence differs from itself alone");
  }
}

}  // namespace layer_test
