// SPDX-License-Identifier: Apache-2.0
// Grouped products of mixtures of experts in bf16, uniform and skewed loads.
#include "timing.cuh"

#include <cmath>

namespace bench {

namespace {

struct size {
  index_t experts, rows, n, k;
};

// As bench/gpu_peers.py loads them: rows of expert i in proportion to (i + 1)^-0.8, or equal.
std::vector<std::int32_t> loads(const size& s, bool skewed) {
  std::vector<double> share;
  double sum = 0;
  for (index_t i = 0; i < s.experts; ++i) {
    share.push_back(skewed ? std::pow(static_cast<double>(i + 1), -0.8) : 1.0);
    sum += share.back();
  }
  const index_t step = s.rows >= 64 * s.experts ? 16 : 1;
  std::vector<std::int32_t> offsets{0};
  std::vector<index_t> counts;
  index_t left = s.rows;
  for (double p : share) {
    counts.push_back(static_cast<index_t>(p / sum * static_cast<double>(s.rows / step)) * step);
    left -= counts.back();
  }
  counts[0] += left;
  for (index_t c : counts) offsets.push_back(offsets.back() + static_cast<std::int32_t>(c));
  return offsets;
}

}  // namespace

void expert_rows(const ds::cuda& b, timer& t) {
  for (const size& s :
       {size{32, 32768, 4096, 7168}, size{32, 32768, 7168, 2048}, size{256, 16384, 4096, 7168},
        size{256, 1024, 4096, 7168}, size{8, 32768, 4096, 7168}}) {
    const auto w = normal<cube<bf16>>(b, {s.experts, s.n, s.k}, 1, 0.05);
    const auto x = normal<matrix<bf16>>(b, {s.rows, s.k}, 2);
    matrix<bf16> y({s.rows, s.n});
    for (const bool skewed : {false, true}) {
      const std::vector<std::int32_t> at = loads(s, skewed);
      const ds::view<const std::int32_t, ds::host, ds::dyn> list(at.data(), {s.experts + 1});
      const auto offsets = ds::in_memory<ds::device>(list);
      const double rows = static_cast<double>(s.rows), n = static_cast<double>(s.n);
      const double k = static_cast<double>(s.k), experts = static_cast<double>(s.experts);
      t.row("grouped_gemm",
            "E" + std::to_string(s.experts) + " rows" + std::to_string(s.rows) + " N" +
                std::to_string(s.n) + " K" + std::to_string(s.k) +
                (skewed ? " skewed" : " uniform"),
            {2 * rows * n * k, 2 * (experts * n * k + rows * (n + k))},
            [&] { ds::ops::grouped_gemm(b, x, transposed(w.view()), offsets, y); });
    }
  }
}

}  // namespace bench
