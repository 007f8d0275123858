// SPDX-License-Identifier: Apache-2.0
// The tests of this op on the device: as_cpu.hpp. Then what runs on tensor cores: that it does,
// over heads and keys around every tile edge and more queries than a block has; packed sequences,
// rows alone, hidden NaN.
#include "ops/lightning_indexer.cpp"

namespace {

// Scores in float by the kernel of these tests, not another.
template <class T, class Spec>
std::vector<float> tensor_scores(arrays<T>& a, const Spec& spec, ds::index_t first,
                                 std::size_t rows) {
  sheet<float> scores(rows, a.p.m, layout::contiguous);
  const auto in = ds::indexer_checks::views_of(a.inputs());
  CHECK(ds::cuda_indexer::run_score_tiles(ds::cpu(), in, scores.matrix(), spec, first));
  CHECK(scores.clean());
  return scores.values();
}
template <class T>
void check_tensor(const problem& p) {
  const auto x = draw<T>(p);
  arrays<T> a(p, x);
  const auto got = tensor_scores(a, spec_of<ds::causal>(p), 0, p.n);
  const auto want = oracle::indexer_scores(x, shape_of(p), oracle::causal(p.n, p.m));
  expect_scores("tensor " + p.text(), support::gemm_limits(type_of<float>, p.heads * p.d), want,
                support::to_double(got), p.m);
}

}  // namespace

TEST_CASE("lightning_indexer tensor cores: against the oracle") {
  const std::vector<std::size_t> ns = {1, 16, 18, 35}, ms = {1, 31, 32, 33, 128, 129, 200};
  const std::vector<std::size_t> heads = {1, 15, 16, 17, 64}, widths = {64, 128};
  for (const auto& pick :
       support::pairwise({ns.size(), ms.size(), heads.size(), widths.size()}, 20)) {
    check_tensor<ds::bf16>({ns[pick[0]], ms[pick[1]], heads[pick[2]], widths[pick[3]]});
  }
  check_tensor<ds::f16>({5, 70, 20, 128});
}

TEST_CASE("lightning_indexer tensor cores: rows alone, packed sequences, hidden NaN") {
  const problem p{40, 150, 20, 64};
  auto x = draw<ds::bf16>(p);
  arrays<ds::bf16> a(p, x);
  const auto spec = spec_of<ds::causal>(p);
  const auto all = tensor_scores(a, spec, 0, p.n);
  for (const std::size_t i : {0, 15, 16, 39}) {
    const auto alone = tensor_scores(a, spec, static_cast<ds::index_t>(i), 1);
    const auto at = all.begin() + static_cast<std::ptrdiff_t>(i * p.m);
    CHECK(support::same_bits(alone, {at, at + static_cast<std::ptrdiff_t>(p.m)}));
  }
  // The same as the last of two sequences: keys 10 .. 149 and queries 3 .. 39 of the batch.
  const std::int32_t queries[] = {0, 3, 40}, keys[] = {0, 10, 150};
  auto packed_spec = spec;
  packed_spec.query_offsets = {queries, {3}}, packed_spec.key_offsets = {keys, {3}};
  const auto packed = tensor_scores(a, packed_spec, 0, p.n);
  bool right = true;
  for (std::size_t i = 3; i < p.n; ++i) {
    for (std::size_t j = 0; j < p.m; ++j) {
      const float want = j < 140 ? all[i * p.m + j + 10] : -std::numeric_limits<float>::infinity();
      right = right && packed[i * p.m + j] == want;
    }
  }
  CHECK(right);
  x.k[120 * p.d] = std::nan("");  // query i is at position i + 110
  arrays<ds::bf16> dirty(p, x);
  const auto with = tensor_scores(dirty, spec, 0, p.n);
  for (std::size_t i = 0; i < with.size(); ++i) {
    const bool reached = i % p.m == 120 && i / p.m >= 10;
    right = right && (reached ? std::isnan(with[i]) : with[i] == all[i]);
  }
  CHECK(right);
}
