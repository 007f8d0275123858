// SPDX-License-Identifier: Apache-2.0
// rope on the device in two kernels: sine and cosine of each (token, pair), in double, a thread
// raising theta to its pair's power once for eight tokens; then the pairs of all heads, each
// element read and written once. See ops/rope.hpp.
#pragma once

#include "deepseek/backend/cuda/elementwise.hpp"
#include "deepseek/backend/rows/rope.hpp"

namespace deepseek {

namespace cuda_rope {

template <class A>
struct turn {
  A c, s;
};

inline constexpr index_t tokens_each = 8;

template <class P, class Turns>
struct turns_of {
  P positions;
  rope_spec spec;
  double amplitude;
  Turns turns;  // [tokens, pairs]
  DEEPSEEK_HOST_DEVICE void operator()(index_t i) const {
    using A = decltype(turns(0, 0).c);
    const index_t pairs = turns.extent(1), pair = i % pairs, first = i / pairs * tokens_each;
    const double frequency = rope_frequency(spec, pair);
    for (index_t t = first; t < first + tokens_each && t < turns.extent(0); ++t) {
      const double angle = static_cast<double>(positions(t)) * frequency;
      turns(t, pair) = {static_cast<A>(amplitude * std::cos(angle)),
                        static_cast<A>(amplitude * std::sin(angle))};
    }
  }
};

// A unit of a head: a pair, or (copied, where y is not x) an element that does not turn. A block
// has units of one token, neighbours in neighbouring threads.
template <class X, class Y, class Turns>
struct rotated {
  static constexpr int threads = 128, each = 4;
  X x;
  Y y;
  Turns turns;
  rope_spec spec;
  int units;  // of a head

  DEEPSEEK_HOST_DEVICE index_t tiles() const {
    return (x.extent(1) * units + threads * each - 1) / (threads * each);
  }
  index_t blocks() const { return x.extent(0) * tiles(); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t token = block.index() / tiles();
    const int all = static_cast<int>(x.extent(1)) * units;
    const int first = static_cast<int>(block.index() % tiles()) * (threads * each) + block.rank();
    for (int i = first; i < first + threads * each && i < all; i += threads) {
      turn_unit(token, i / units, i % units);
    }
  }

 private:
  DEEPSEEK_HOST_DEVICE void turn_unit(index_t token, index_t head, index_t unit) const {
    using out = typename Y::value_type;
    using A = decltype(turns(0, 0).c);
    const index_t pairs = turns.extent(1);
    if (unit < pairs) {
      const rope_pair at = rope_pair_at(spec, unit);
      const auto t = turns(token, unit);
      const A a = static_cast<A>(x(token, head, at.a)), b = static_cast<A>(x(token, head, at.b));
      y(token, head, at.a) = static_cast<out>(a * t.c - b * t.s);
      y(token, head, at.b) = static_cast<out>(a * t.s + b * t.c);
    } else {
      const index_t e = unit - pairs, d = e < spec.first ? e : e + spec.count;
      y(token, head, d) = static_cast<out>(static_cast<A>(x(token, head, d)));
    }
  }
};

// Whether both are the same elements.
template <class X, class Y>
bool coincide(const X& x, const Y& y) {
  if (!std::is_same_v<typename X::value_type, typename Y::value_type>) return false;
  if (static_cast<const void*>(x.data()) != static_cast<const void*>(y.data())) return false;
  for (int d = 0; d < X::rank; ++d) {
    if (x.extent(d) > 1 && x.stride(d) != y.stride(d)) return false;
  }
  return true;
}

}  // namespace cuda_rope

template <DeviceBackend B, class X, class P, class Y>
void rope_impl(const B& b, const X& x, const P& positions, const Y& y, const rope_spec& spec) {
  using A = accumulate_t<typename Y::value_type>;
  using Turns = view<cuda_rope::turn<A>, typename B::space, dyn, dyn>;
  const index_t tokens = x.extent(0), pairs = spec.count / 2;
  const scope freed(b.workspace());
  const Turns turns = b.workspace().template make<cuda_rope::turn<A>, dyn, dyn>(tokens, pairs);
  run_each_element(
      b, blocks_of(tokens, cuda_rope::tokens_each) * pairs,
      cuda_rope::turns_of<P, Turns>{positions, spec, rope_amplitude(spec.scaling), turns});
  const index_t others = cuda_rope::coincide(x, y) ? 0 : x.extent(2) - spec.count;
  const index_t units = pairs + others;
  require(x.extent(1) * x.extent(2) < (index_t{1} << 30), error_code::overflow,
          "rope: ", x.extent(1), " heads of ", x.extent(2),
          " elements; a token has less than 2^30");
  if (units > 0) {
    b.launch(cuda_rope::rotated<X, Y, Turns>{x, y, turns, spec, static_cast<int>(units)});
  }
}

}  // namespace deepseek
