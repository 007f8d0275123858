// SPDX-License-Identifier: Apache-2.0
// dropout on the device: the mask of the contract, bit for bit; a thread draws the four words of a
// Philox block once. See ops/dropout.hpp.
#pragma once

#include "deepseek/backend/cuda/elements.hpp"
#include "deepseek/ops/dropout.hpp"

namespace deepseek {

namespace cuda_dropout {

template <class A>
struct kept {
  stream_key key;
  std::uint32_t threshold;
  A grown;
  index_t block = -1;  // whose words are at hand
  philox_words words = {};

  template <class X, class Y>
  DEEPSEEK_HOST_DEVICE void operator()(index_t i, const X& x, Y& y) {
    if (i / 4 != block) {
      block = i / 4;
      words = random_block(key, static_cast<std::uint64_t>(block));
    }
    y = convert_to<Y>(word(i % 4) >= threshold ? convert_to<A>(x) * grown : A(0));
  }

 private:
  // Without an index: words stay in registers.
  DEEPSEEK_HOST_DEVICE std::uint32_t word(index_t i) const {
    const std::uint32_t low = i % 2 == 0 ? words.w[0] : words.w[1];
    const std::uint32_t high = i % 2 == 0 ? words.w[2] : words.w[3];
    return i < 2 ? low : high;
  }
};

}  // namespace cuda_dropout

template <DeviceBackend B, class X, class Y>
void dropout_impl(const B& b, const X& x, const Y& y, const dropout_spec& spec) {
  using A = accumulate_t<typename Y::value_type>;
  if (spec.rate == 0) return copy_impl(b, x, y);
  run_map(b,
          cuda_dropout::kept<A>{dropout_stream(spec), dropout_threshold(spec.rate),
                                static_cast<A>(1 / (1 - spec.rate))},
          reads(x), writes(y));
}

}  // namespace deepseek
