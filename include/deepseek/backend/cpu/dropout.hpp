// SPDX-License-Identifier: Apache-2.0
// dropout on the cpu: 16 Philox blocks side by side, runs of elements on all threads.
#pragma once

#include "deepseek/backend/cpu/copy.hpp"
#include "deepseek/backend/reference/dropout.hpp"

namespace deepseek {

// Words of 16 neighbouring blocks of a stream, in order. Each counter word fills the low half of a
// 64-bit lane, where the products of Philox are whole.
struct dropout_words {
  static constexpr int blocks = 16, count = 4 * blocks;
  using lanes = simd::vector<std::uint64_t>;
  static constexpr int width = simd::register_bytes / 8;
  static constexpr std::uint64_t low = 0xFFFFFFFFU;
  std::uint32_t word[count];

  void draw(const stream_key& key, std::uint64_t first_block) {
    for (int i = 0; i < blocks; i += width) {
      draw_register(key, first_block + static_cast<std::uint64_t>(i), word + 4 * i);
    }
  }

 private:
  static void draw_register(const stream_key& key, std::uint64_t block, std::uint32_t* out) {
    lanes at{};
    for (int i = 0; i < width; ++i) at[i] = block + static_cast<std::uint64_t>(i);
    lanes c0 = at & low, c1 = ((at >> 32) + key.lane) & low;
    lanes c2 = lanes{} + key.site, c3 = lanes{} + key.step;
    std::uint32_t k0 = static_cast<std::uint32_t>(key.seed);
    std::uint32_t k1 =
        static_cast<std::uint32_t>(key.seed >> 32U) ^ static_cast<std::uint32_t>(key.use);
    for (int round = 0; round < 10; ++round) {
      const lanes a = c0 * std::uint64_t{0xD2511F53U}, b = c2 * std::uint64_t{0xCD9E8D57U};
      c0 = (b >> 32) ^ c1 ^ std::uint64_t{k0};
      c1 = b & low;
      c2 = (a >> 32) ^ c3 ^ std::uint64_t{k1};
      c3 = a & low;
      k0 += 0x9E3779B9U;
      k1 += 0xBB67AE85U;
    }
    for (int i = 0; i < width; ++i) {
      out[4 * i] = static_cast<std::uint32_t>(c0[i]);
      out[4 * i + 1] = static_cast<std::uint32_t>(c1[i]);
      out[4 * i + 2] = static_cast<std::uint32_t>(c2[i]);
      out[4 * i + 3] = static_cast<std::uint32_t>(c3[i]);
    }
  }
};

// y = x * grown where kept, for n neighbouring elements of which the first is number `first`.
template <class From, class T>
void dropout_run(const dropout_spec& spec, index_t first, index_t n, const From* x, T* y) {
  const T grown = static_cast<T>(1 / (1 - spec.rate));
  const std::uint32_t threshold = dropout_threshold(spec.rate);
  const stream_key key = dropout_stream(spec);
  dropout_words words;
  for (index_t done = 0; done < n;) {
    const auto element = static_cast<std::uint64_t>(first + done);
    words.draw(key, element / 4);
    const auto skip = static_cast<index_t>(element % 4);
    const index_t take = std::min<index_t>(n - done, dropout_words::count - skip);
    for (index_t i = 0; i < take; ++i) {
      const T grows = convert_to<T>(x[done + i]) * grown;
      y[done + i] = words.word[skip + i] >= threshold ? grows : T(0);
    }
    done += take;
  }
}

template <class X, class Y>
void dropout_impl(const cpu& b, const X& x, const Y& y,
                  const dropout_spec& spec) requires Packable<Y> {
  if (spec.rate == 0) return copy_impl(b, x, y);
  if (!unit_rows(x, y)) return dropout_impl(static_cast<const reference&>(b), x, y, spec);
  if (x.contiguous() && y.contiguous()) {
    parallel_rows(b, y.size(), 8192, [&](index_t first, index_t last) {
      dropout_run(spec, first, last - first, x.data() + first, y.data() + first);
    });
    return;
  }
  const index_t length = row_length(y);
  parallel_rows(b, row_count(y), rows_per_task(length), [&](index_t first, index_t last) {
    for (index_t r = first; r < last; ++r) {
      dropout_run(spec, r * length, length, row_at(x, r).data(), row_at(y, r).data());
    }
  });
}

}  // namespace deepseek
