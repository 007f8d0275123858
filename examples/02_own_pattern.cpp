// SPDX-License-Identifier: Apache-2.0
// Who sees whom is two pure functions on positions. Your own pattern combines with the library's;
// attention skips the tiles that it excludes. Prints the mask and writes it as own_pattern.pgm.
#include <deepseek/deepseek.hpp>

#include <cstdio>
#include <fstream>

namespace ds = deepseek;

// Every Nth key, for all queries: landmarks that summarize what lies between them.
template <ds::index_t N>
struct landmarks {
  static_assert(N > 0, "landmarks: N is not positive; write landmarks<8>");

  static constexpr bool visible(ds::index_t, ds::index_t k) { return k % N == 0; }

  // none: no pair of the tile is visible; full: every pair is; partial is always a right answer.
  static constexpr ds::coverage cover(const ds::tile& t) {
    const ds::index_t first = (t.k0 + N - 1) / N * N;  // the first landmark at or after k0
    if (first >= t.k1) return ds::coverage::none;
    return N == 1 || t.k1 - t.k0 == 1 ? ds::coverage::full : ds::coverage::partial;
  }
};

// The last four tokens and all landmarks, never the future.
using seen = ds::both<ds::causal, ds::either<ds::sliding<4>, landmarks<8>>>;

int main() {
  constexpr ds::index_t n = 24;
  const seen pattern;
  std::ofstream picture("own_pattern.pgm");
  picture << "P2\n" << n << " " << n << "\n1\n";
  for (ds::index_t q = 0; q < n; ++q) {
    for (ds::index_t k = 0; k < n; ++k) {
      std::putchar(pattern.visible(q, k) ? '#' : '.');
      picture << pattern.visible(q, k) << (k + 1 < n ? " " : "\n");
    }
    std::putchar('\n');
  }

  // The same type in an attention layer: one query that sees one key returns that key's value.
  const ds::cpu cpu;
  ds::tensor<float, ds::host, ds::dyn, 1, 1> q({n, 1, 1}), k({n, 1, 1}), v({n, 1, 1}), o({n, 1, 1});
  for (ds::index_t i = 0; i < n; ++i) v.view()(i, 0, 0) = static_cast<float>(i);
  ds::ops::attention(cpu, ds::attention_inputs{q, k, v}, ds::attention_outputs{o},
                     ds::attention_spec<seen>{.pattern = pattern});
  std::printf("query 0 averages %.1f\n", static_cast<double>(o.view()(0, 0, 0)));
  std::printf("query 20 averages %.1f\n", static_cast<double>(o.view()(20, 0, 0)));
}
