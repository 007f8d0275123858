// SPDX-License-Identifier: Apache-2.0
// stepped_pair<Net, T>: a net on the simulated device in memory that the host cannot touch, with
// two decoders that go the same way: one launches every call, the other takes single tokens by
// decode_steps, which records and replays. Every pair of rows must have the same bits.
#pragma once

#include "deepseek/backend/cuda/ops.hpp"
#include "deepseek/backend/reference/reference.hpp"
#include "deepseek/serve/decode_steps.hpp"

#include "simulation/device.hpp"
#include "support/poison.hpp"
#include "support/report.hpp"

#include <doctest/doctest.h>

namespace steps_test {

namespace ds = deepseek;
using gpu = simulation::basic_device<ds::device>;

template <class Net, class T>
struct stepped_pair {
  using model = ds::model<Net, T, gpu>;
  using decoder = typename model::decoder_type;
  static constexpr std::int32_t vocabulary = Net::out;

  gpu device{simulation::library::plain_loops};
  model m;
  decoder plain, stepped;
  ds::decode_steps<Net, T, gpu> steps;

  // least: the smallest bound. fill(parameters): what an initializer does not draw.
  template <class Fill>
  stepped_pair(ds::index_t capacity, ds::index_t least, const Fill& fill)
      : m(device, drawn(fill)),
        plain(m.decoder(device, capacity)),
        stepped(m.decoder(device, capacity)),
        steps(device, m, stepped, least) {}
  stepped_pair(ds::index_t capacity, ds::index_t least)
      : stepped_pair(capacity, least, [](auto&) {}) {}
  stepped_pair(const stepped_pair&) = delete;

  // n tokens in one call of each.
  void decode(ds::index_t n) {
    std::vector<std::int32_t> ids;
    for (ds::index_t i = 0; i < n; ++i) ids.push_back(token(plain.length() + i));
    const auto there =
        ds::in_memory<ds::device>(ds::view<const std::int32_t, ds::host, ds::dyn>(ids.data(), {n}));
    CHECK(same(m.decode(device, there, plain), m.decode(device, there, stepped)));
  }
  // n tokens, one at a time.
  void step(ds::index_t n) {
    bool right = true;
    for (ds::index_t i = 0; i < n; ++i) {
      const std::int32_t id = token(plain.length());
      const auto there =
          ds::in_memory<ds::device>(ds::view<const std::int32_t, ds::host, ds::dyn>(&id, {1}));
      right = same(m.decode(device, there, plain), steps(id)) && right;
    }
    CHECK(right);
  }
  void rewind(ds::index_t length) {
    plain.rewind(length);
    stepped.rewind(length);
  }
  static std::int32_t token(ds::index_t t) {
    return static_cast<std::int32_t>((t * t + 3 * t) % vocabulary);
  }

 private:
  using rows = ds::view<T, ds::device, ds::dyn, Net::out>;

  template <class Fill>
  static ds::model<Net, T, ds::reference> drawn(const Fill& fill) {
    const ds::reference host;
    ds::model<Net, T, ds::reference> here(host, ds::scaled_init{.gain = 1, .seed = 5});
    fill(here.parameters());
    return here;
  }
  static std::vector<T> last_row(const rows& y) {
    const auto row = ds::in_memory<ds::host>(ds::slice(y, y.extent(0) - 1));
    return {row.data(), row.data() + Net::out};
  }
  static bool same(const rows& a, const rows& b) {
    return support::same_bits(last_row(a), last_row(b));
  }
};

}  // namespace steps_test
