// SPDX-License-Identifier: Apache-2.0
// Attention problems whose values are the beginnings of their keys, for the tests of both kernels.
#pragma once

#include "deepseek/pattern/band.hpp"
#include "ops/attention_case.hpp"

namespace attention_test {

inline problem latent_problem(index_t n, index_t m, index_t h, index_t d = 576) {
  return {.n = n, .m = m, .h = h, .hk = 1, .d = d, .dv = 512, .scale = 0.05};
}
// For scored<scored<causal, alibi<4>>, soft_cap<2>>.
inline problem capped_latent(index_t n, index_t m, index_t heads) {
  problem p = latent_problem(n, m, heads);
  p.change = [](index_t h, index_t q, index_t k, double s) {
    const double biased =
        s - std::exp2(-2.0 * static_cast<double>(h + 1)) * static_cast<double>(q - k);
    return oracle::changed_score{2 * std::tanh(biased / 2), 1};
  };
  return p;
}
template <class T>
data draw_latent(const problem& p, const std::string& stream) {
  data x = draw<T>(p, stream);
  for (index_t j = 0; j < p.m; ++j) {
    std::copy_n(x.k.begin() + j * p.d, p.dv, x.v.begin() + j * p.dv);
  }
  return x;
}
// Of queries first .. first + n - 1.
template <class T>
auto latent_inputs_of(arrays<T>& a, index_t first, index_t n) {
  const auto k = a.k.get();
  const view<T, host, dyn, dyn, dyn> v(k.data(), {k.extent(0), 1, a.o.get().extent(2)},
                                       {k.stride(0), k.stride(1), 1});
  return attention_inputs{as_const(rows(a.q.get(), first, n)), as_const(k), as_const(v)};
}
// The keys of x in pages of 64 of `stored`: key t in row pages[t / 64] 64 + t mod 64; every other
// row holds NaN.
inline data paged_keys(const problem& p, const data& x, const problem& stored,
                       const std::vector<std::int32_t>& pages) {
  data far;
  far.q = x.q;
  far.k.assign(static_cast<std::size_t>(stored.m * p.d), std::nan(""));
  far.v.assign(static_cast<std::size_t>(stored.m * p.dv), 0);
  far.g = x.g;
  for (index_t t = 0; t < p.m; ++t) {
    const index_t row = pages[static_cast<std::size_t>(t / 64)] * 64 + t % 64;
    std::copy_n(x.k.begin() + t * p.d, p.d, far.k.begin() + row * p.d);
  }
  return far;
}
// run(arrays, spec) with the keys in pages gives the bits of `whole`; p.m is at most 18 pages.
template <class P, class Run>
void expect_pages_alike(const problem& p, const data& x, arrays<bf16>& whole, const P& pattern,
                        const Run& run) {
  problem stored = p;
  stored.m = 19 * 64;
  std::vector<std::int32_t> pages;
  for (int i = 0; i < 18; ++i) pages.push_back((i * 7 + 3) % 19);
  arrays<bf16> paged(stored, paged_keys(p, x, stored, pages));
  auto of = spec_of(stored, pattern);
  of.pages = {{pages.data(), {18}}, 64};
  of.keys = p.m;
  run(paged, of);
  CHECK(same(results(whole, wanted::forward), results(paged, wanted::forward)));
}

}  // namespace attention_test
