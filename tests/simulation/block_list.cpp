// SPDX-License-Identifier: Apache-2.0
// block_list on the simulated device in memory that the host cannot touch: what the host listed is
// carried there and gives the bits of the pattern as a type; sizes that the host knows are refused
// before a launch; what it cannot know, offsets and a start that stand there, is not seen beyond
// the lists.
#include "deepseek/backend/cuda/ops.hpp"
#include "deepseek/backend/reference/reference.hpp"
#include "deepseek/core/transfer.hpp"
#include "deepseek/pattern/any_pattern.hpp"
#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/list_blocks.hpp"
#include "deepseek/pattern/random_blocks.hpp"

#include "simulation/device.hpp"
#include "support/compare.hpp"
#include "support/poison.hpp"
#include "support/report.hpp"
#include "support/seed.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;
using gpu = simulation::basic_device<ds::device>;

namespace {

using ds::index_t;
using drawn = ds::both<ds::causal, ds::either<ds::local<9>, ds::random_blocks<16, 2>>>;

template <class T>
using cube = ds::tensor<T, ds::device, ds::dyn, ds::dyn, ds::dyn>;

struct listed_shape {
  index_t n, m, heads, kv_heads, d;
};

// What both ops read and write, in device memory.
template <class T>
struct carried {
  listed_shape at;
  cube<T> q, k, v, g, o, dq, dk, dv;
  ds::tensor<float, ds::device, ds::dyn, ds::dyn> lse;

  explicit carried(const listed_shape& s)
      : at(s),
        q(drawn_cube(s.n, s.heads, 1)),
        k(drawn_cube(s.m, s.kv_heads, 2)),
        v(drawn_cube(s.m, s.kv_heads, 3)),
        g(drawn_cube(s.n, s.heads, 4)),
        o({s.n, s.heads, s.d}),
        dq({s.n, s.heads, s.d}),
        dk({s.m, s.kv_heads, s.d}),
        dv({s.m, s.kv_heads, s.d}),
        lse({s.n, s.heads}) {}

  cube<T> drawn_cube(index_t rows, index_t heads, std::uint64_t seed) const {
    support::numbers from(seed);
    ds::tensor<T, ds::host, ds::dyn, ds::dyn, ds::dyn> x({rows, heads, at.d});
    const auto values = support::as<T>(
        support::draw(support::values::normal, static_cast<std::size_t>(x.size()), from));
    std::copy(values.begin(), values.end(), x.data());
    return ds::in_memory<ds::device>(x);
  }
  template <class Spec>
  void forward(const gpu& b, const Spec& spec) {
    ds::ops::attention(b, ds::attention_inputs{q, k, v}, ds::attention_outputs{o, lse}, spec);
  }
  template <class Spec>
  void backward(const gpu& b, const Spec& spec) {
    ds::ops::attention_backward(b, ds::attention_inputs{q, k, v}, ds::attention_outputs{o, lse},
                                ds::attention_gradients{g, dq, dk, dv}, spec);
  }
};

template <class X>
auto brought_back(const X& x) {
  const auto there = ds::in_memory<ds::host>(x);
  using T = std::remove_cvref_t<decltype(there.data()[0])>;
  return std::vector<T>(there.data(), there.data() + there.size());
}
template <class T>
bool same_results(const carried<T>& a, const carried<T>& b) {
  return support::same_bits(brought_back(a.o), brought_back(b.o)) &&
         support::same_bits(brought_back(a.lse), brought_back(b.lse)) &&
         support::same_bits(brought_back(a.dq), brought_back(b.dq)) &&
         support::same_bits(brought_back(a.dk), brought_back(b.dk)) &&
         support::same_bits(brought_back(a.dv), brought_back(b.dv));
}

template <class P>
ds::attention_spec<P, ds::device> there(const P& pattern) {
  return {.pattern = pattern};
}

template <class T>
void listed_there(const listed_shape& s) {
  const gpu b;
  const auto pattern = ds::make_pattern<drawn>({.seed = 4, .site = 1});
  // Listed through any_pattern, which no kernel could ask.
  const auto tables =
      ds::list_blocks(ds::any_pattern(pattern),
                      {.queries = s.n, .keys = s.m, .heads = s.heads, .start = s.m - s.n});
  const auto moved = ds::in_memory<ds::device>(tables);
  CHECK(moved.bytes() == tables.bytes());
  carried<T> typed(s), listed(s);
  typed.forward(b, there(pattern));
  typed.backward(b, there(pattern));
  listed.forward(b, there(ds::block_list(moved)));
  listed.backward(b, there(ds::block_list(moved)));
  support::expect_true("attention", support::text("n", s.n, "m", s.m, "d", s.d) + " listed there",
                       same_results(typed, listed), "other bits than the pattern as a type");
}

}  // namespace

TEST_CASE("block list on the device: the bits of the pattern as a type") {
  listed_there<float>({70, 150, 4, 2, 8});
  listed_there<ds::bf16>({70, 150, 4, 2, 64});
  listed_there<ds::bf16>({1, 600, 4, 1, 128});
}

TEST_CASE("block list on the device: sizes that the host knows are refused") {
  const gpu b;
  const auto tables = ds::list_blocks(ds::causal{}, {.queries = 70, .keys = 150, .start = 79});
  const auto moved = ds::in_memory<ds::device>(tables);
  carried<float> run({70, 150, 2, 2, 8});
  const index_t before = b.launches();
  CHECK_ERROR(ds::error_code::shape_mismatch, "80 .. 149, but 79 .. 148 are listed",
              run.forward(b, there(ds::block_list(moved))));
  CHECK_ERROR(ds::error_code::shape_mismatch, "80 .. 149, but 79 .. 148 are listed",
              run.backward(b, there(ds::both<ds::causal, ds::block_list>(ds::causal{},
                                                                         ds::block_list(moved)))));
  CHECK(b.launches() == before);
  auto early = there(ds::block_list(moved));
  early.start = 79;
  run.forward(b, early);
}

TEST_CASE("block list on the device: a start that is read there") {
  const gpu b;
  const ds::any_pattern pattern(ds::both<ds::causal, ds::local<9>>{});
  const auto tables = ds::list_blocks(pattern, {.queries = 150, .keys = 150});
  const auto moved = ds::in_memory<ds::device>(tables);
  for (const std::int32_t start : {0, 63, 64, 147}) {
    ds::tensor<std::int32_t, ds::host, 1> at;
    at.data()[0] = start;
    const auto at_there = ds::in_memory<ds::device>(at);
    carried<float> typed({3, 150, 4, 2, 8}), listed({3, 150, 4, 2, 8});
    auto of_type = there(ds::both<ds::causal, ds::local<9>>{});
    auto of_list = there(ds::block_list(moved));
    of_type.start_at = of_list.start_at = {at_there.data(), {1}};
    typed.forward(b, of_type);
    listed.forward(b, of_list);
    CHECK(same_results(typed, listed));
  }
}

TEST_CASE("block list on the device: packed sequences beyond the lists see nothing") {
  const gpu b;
  const auto tables = ds::list_blocks(ds::everyone{}, {.queries = 70, .keys = 70});
  const auto moved = ds::in_memory<ds::device>(tables);
  ds::tensor<std::int32_t, ds::host, 3> offsets;
  offsets.data()[1] = 60, offsets.data()[2] = 150;
  const auto offsets_there = ds::in_memory<ds::device>(offsets);
  carried<float> run({150, 150, 1, 1, 8});
  auto spec = there(ds::block_list(moved));
  spec.query_offsets = spec.key_offsets = {offsets_there.data(), {3}};
  run.forward(b, spec);
  const auto lse = brought_back(run.lse);
  index_t seeing = 0;
  for (const float x : lse) seeing += std::isinf(x) ? 0 : 1;
  CHECK(seeing == 60 + 70);
  CHECK((!std::isinf(lse[129]) && std::isinf(lse[130])));
}
