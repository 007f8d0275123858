// SPDX-License-Identifier: Apache-2.0
#include "limits.hpp"

#include "deepseek/backend/cpu/simd_narrow.hpp"
#include "deepseek/backend/cpu/simd_tiles.hpp"
#include "deepseek/core/tensor.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

namespace bench {
namespace {

namespace simd = deepseek::simd;
using clock = std::chrono::steady_clock;
using floats = simd::pack<float>;
using words = simd::vector<std::int32_t>;

constexpr double least_seconds = 0.5e-3;
// Independent, more than latency times units of any processor of today, and all in registers.
constexpr int chains = simd::register_count == 32 ? 16 : 12;

template <class V>
void keep(V& value) {
  asm volatile("" : : "m"(value) : "memory");
}

// Repeats `round`, which returns how much it did, for at least half a millisecond.
template <class Round>
double rate_of(const Round& round) {
  double done = 0, seconds = 0;
  const auto begin = clock::now();
  do {
    done += round();
    seconds = std::chrono::duration<double>(clock::now() - begin).count();
  } while (seconds < least_seconds);
  return done / seconds;
}

double multiply_adds() {
  constexpr int steps = 1000;
  floats sum[chains];
  for (int i = 0; i < chains; ++i) sum[i] = floats::broadcast(static_cast<float>(i));
  floats factor = floats::broadcast(0.999F), term = floats::broadcast(0.001F);
  for (int step = 0; step < steps; ++step) {
    simd::unrolled<chains>([&](auto i) { sum[i] = simd::fma(sum[i], factor, term); });
  }
  keep(sum);
  return 2.0 * steps * chains * floats::width;
}

// Whole tiles, four sums at once: of bf16, or of bytes.
template <bool Bytes>
double tile_products() {
  constexpr int steps = 1000;
  const simd::tile_scope given_back;
  simd::shape_tiles(1, [] {
    simd::tile_shapes shapes;
    for (int t = 0; t < 8; ++t) shapes.set(t, simd::tile_rows, simd::tile_words);
    return shapes;
  });
  for (int step = 0; step < steps; ++step) {
    simd::unrolled<4>([&](auto i) {
      if constexpr (Bytes) {
        simd::dot_byte_tiles<i, 4 + i / 2, 6 + i % 2>();
      } else {
        simd::dot_pair_tiles<i, 4 + i / 2, 6 + i % 2>();
      }
    });
  }
  constexpr double products = Bytes ? 4 : 2;  // of a word
  return 2.0 * products * steps * 4 * simd::tile_rows * simd::tile_words * simd::tile_words;
}

double pair_dot_products() {
  if constexpr (simd::has_tiles) return tile_products<false>();
  if constexpr (!simd::has_dot_pairs) return multiply_adds();  // bf16 is multiplied as floats
  constexpr int steps = 1000;
  floats sum[chains] = {};
  words a = words{} + 0x3f803f80, b = words{} + 0x3f003f00;
  keep(a), keep(b);
  for (int step = 0; step < steps; ++step) {
    simd::unrolled<chains>([&](auto i) { sum[i].v = simd::dot_pairs(sum[i].v, a, b); });
  }
  keep(sum);
  return 4.0 * steps * chains * floats::width;
}

// Four bytes at once, or two words where that is the fastest exact form.
double byte_dot_products() {
  if constexpr (simd::has_tiles) return tile_products<true>();
  constexpr int steps = 1000;
  words sum[chains] = {};
  words u = words{} + 0x01020304, s = words{} + 0x02010201;
  keep(u), keep(s);
  for (int step = 0; step < steps; ++step) {
    simd::unrolled<chains>([&](auto i) {
      if constexpr (simd::prefers_dot_words) {
        sum[i] = simd::dot_words(sum[i], u, s);
      } else {
        sum[i] = simd::dot_bytes(sum[i], u, s);
      }
    });
  }
  keep(sum);
  constexpr double products = simd::prefers_dot_words ? 0.5 : 1;  // of bytes, by each byte
  return 2.0 * products * steps * chains * simd::register_bytes;
}

// Two places at once: one core then keeps more of memory busy than with one, and no fewer bytes of
// a cache.
constexpr std::size_t vectors = 4, step = vectors * floats::width;

double read(const float* data, std::size_t count) {
  const float* const half[2] = {data, data + count / 2};
  floats sum[2 * vectors] = {};
  for (std::size_t at = 0; at + step <= count / 2; at += step) {
    simd::unrolled<2 * vectors>([&](auto i) {
      const float* const p = half[i % 2] + at + std::size_t{i / 2} * floats::width;
      sum[i] = sum[i] + floats::load(p);
    });
  }
  keep(sum);
  return static_cast<double>(count) * sizeof(float);
}

double update(float* data, std::size_t count) {
  float* const half[2] = {data, data + count / 2};
  floats factor = floats::broadcast(1);
  keep(factor);  // not known to be one
  for (std::size_t at = 0; at + step <= count / 2; at += step) {
    simd::unrolled<2 * vectors>([&](auto i) {
      float* const p = half[i % 2] + at + std::size_t{i / 2} * floats::width;
      (floats::load(p) * factor).store(p);
    });
  }
  return 2 * static_cast<double>(count) * sizeof(float);
}

// The sum of what the threads reach when they begin together.
template <class Rate>
double together(int threads, const Rate& rate) {
  std::vector<double> rates(static_cast<std::size_t>(threads));
  std::barrier start(threads);
  const auto work_of = [&](int i) {
    start.arrive_and_wait();
    rates[static_cast<std::size_t>(i)] = rate(i);
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(work_of, i);
  work_of(0);
  for (auto& t : others) t.join();
  double sum = 0;
  for (const double r : rates) sum += r;
  return sum;
}

// What lies beyond every cache: a piece a time from `next` on, for all of it takes a tenth of a
// second where the last cache is that of a large machine.
double cold_rate(float* all, std::size_t count, traffic moves, std::size_t& next) {
  constexpr std::size_t most = std::size_t{16} << 20;
  const std::size_t here = std::min(count, most);
  if (next + here > count) next = 0;
  float* const from = all + std::exchange(next, next + here);
  return moves == traffic::reads ? rate_of([&] { return read(from, here); })
                                 : rate_of([&] { return update(from, here); });
}

double sweep_rate(const work& cost, int threads) {
  using floats_of_memory = deepseek::tensor<float, deepseek::host, deepseek::dyn>;
  static floats_of_memory memory({static_cast<std::int64_t>(cold_bytes()) / 4});  // touched: zeros
  // Of a last cache that many share no more than this is counted on.
  const double touched = std::max(cost.touched, cost.bytes),
               last_cache = std::min(cold_bytes() / 4, double{1 << 27});
  const double wanted = touched > last_cache ? cold_bytes() : std::max(touched, 32768.0 * threads);
  const std::size_t share = static_cast<std::size_t>(wanted) / sizeof(float) /
                            static_cast<std::size_t>(threads) / 1024 * 1024;
  if (touched > last_cache) {
    static std::vector<std::size_t> next;
    next.resize(std::max(next.size(), static_cast<std::size_t>(threads)));
    return together(threads, [&](int i) {
      const auto at = static_cast<std::size_t>(i);
      return cold_rate(memory.data() + at * share, share, cost.moves, next[at]);
    });
  }
  return together(threads, [&](int i) {
    float* const mine = memory.data() + static_cast<std::size_t>(i) * share;
    read(mine, share);  // brings it into the cache it fits
    return cost.moves == traffic::reads ? rate_of([&] { return read(mine, share); })
                                        : rate_of([&] { return update(mine, share); });
  });
}

}  // namespace

double cold_bytes() {
  static const double bytes = [] {
    double last = 32 << 20;
    for (const auto& cache : benchmark::CPUInfo::Get().caches) {
      last = std::max(last, static_cast<double>(cache.size));
    }
    return 4 * last;
  }();
  return bytes;
}

limits measure_limits(const work& cost, int threads) {
  limits now;
  if (cost.kind == arithmetic::f32 && cost.flops > 0) {
    now.flops = together(threads, [](int) { return rate_of(multiply_adds); });
  }
  if (cost.kind == arithmetic::bf16) {
    now.flops = together(threads, [](int) { return rate_of(pair_dot_products); });
  }
  if (cost.kind == arithmetic::int8) {
    now.flops = together(threads, [](int) { return rate_of(byte_dot_products); });
  }
  if (cost.bytes > 0) now.bytes = sweep_rate(cost, threads);
  return now;
}

}  // namespace bench
