// SPDX-License-Identifier: Apache-2.0
#include "sampling.hpp"

#include "limits.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

namespace peers {
namespace {

using clock = std::chrono::steady_clock;

double since(clock::time_point begin) {
  return std::chrono::duration<double>(clock::now() - begin).count();
}

// Threads of the way before spin for a moment before they sleep; nobody shall meet them.
void let_others_sleep(int threads) {
  if (threads > 1) std::this_thread::sleep_for(std::chrono::milliseconds(3));
}

// Time of `calls` calls that begin with call `first`.
double time_of(const way& w, index_t first, index_t calls) {
  if (!w.before) {
    const auto begin = clock::now();
    for (index_t i = 0; i < calls; ++i) w.run(first + i);
    return since(begin);
  }
  double seconds = 0;
  for (index_t i = 0; i < calls; ++i) {
    w.before(first + i);
    const auto begin = clock::now();
    w.run(first + i);
    seconds += since(begin);
  }
  return seconds;
}

double ratio(double a, double b) {
  return std::max(a, b) > 0 ? std::min(a, b) / std::max(a, b) : 1;
}

sample timed(const way& w, const bench::work& cost, int threads, index_t first, index_t calls) {
  const bench::limits before = bench::measure_limits(cost, threads);
  const double seconds = time_of(w, first, calls) / static_cast<double>(calls);
  let_others_sleep(threads);
  const bench::limits after = bench::measure_limits(cost, threads);
  const double flops = (before.flops + after.flops) / 2, bytes = (before.bytes + after.bytes) / 2;
  const double least = std::max(flops > 0 ? cost.flops / flops : 0,  //
                                bytes > 0 ? cost.bytes / bytes : 0);
  const double steady = flops > 0 ? ratio(before.flops, after.flops)  //
                                  : ratio(before.bytes, after.bytes);
  return {seconds, least / seconds, steady};
}

}  // namespace

std::vector<std::vector<sample>> interleaved(const std::vector<way>& all, const bench::work& cost,
                                             int threads, const sampling& how) {
  const std::size_t count = all.size();
  std::vector<index_t> calls(count), next(count, 2);
  for (std::size_t i = 0; i < count; ++i) {
    const double once = time_of(all[i], 1, 1);
    calls[i] = std::max<index_t>(1, static_cast<index_t>(std::ceil(how.seconds / once)));
    let_others_sleep(threads);
  }
  std::vector<std::vector<sample>> samples(count);
  for (int s = 0; s < how.samples; ++s) {
    for (std::size_t step = 0; step < count; ++step) {
      const std::size_t i = (step + static_cast<std::size_t>(s)) % count;
      samples[i].push_back(timed(all[i], cost, threads, next[i], calls[i]));
      next[i] += calls[i];
    }
  }
  return samples;
}

}  // namespace peers
