// SPDX-License-Identifier: Apache-2.0
// Attention in bf16: full, causal, patterns; rates count kept pairs only.
#include "timing.cuh"

namespace bench {

namespace {

struct size {
  index_t batch, heads, length, dim;
  std::string text() const {
    return "B" + std::to_string(batch) + " H" + std::to_string(heads) + " S" +
           std::to_string(length) + " D" + std::to_string(dim);
  }
};

// kept: the share of all pairs that the pattern keeps.
template <class P>
void one(const ds::cuda& b, timer& t, const size& s, const char* name, double kept) {
  const index_t rows = s.batch * s.length;
  const auto q = normal<cube<bf16>>(b, {rows, s.heads, s.dim}, 1);
  const auto k = normal<cube<bf16>>(b, {rows, s.heads, s.dim}, 2);
  const auto v = normal<cube<bf16>>(b, {rows, s.heads, s.dim}, 3);
  cube<bf16> o({rows, s.heads, s.dim});
  ds::tensor<std::int32_t, ds::host, ds::dyn> offsets({s.batch + 1});
  for (index_t i = 0; i <= s.batch; ++i) {
    offsets.data()[i] = static_cast<std::int32_t>(i * s.length);
  }
  const auto there = ds::in_memory<ds::device>(offsets);
  const ds::attention_spec<P, ds::device> spec{.query_offsets = there.view(),
                                               .key_offsets = there.view()};
  const double pairs =
      static_cast<double>(s.batch * s.heads * s.length) * static_cast<double>(s.length);
  const double flops = 4 * static_cast<double>(s.dim) * pairs * kept;
  t.row("attn", s.text() + " " + name, {flops, 0}, [&] {
    ds::ops::attention(b, ds::attention_inputs{q, k, v}, ds::attention_outputs{o}, spec);
  });
}

}  // namespace

void attention_rows(const ds::cuda& b, timer& t) {
  for (const size& s : {size{4, 16, 8192, 128}, size{1, 64, 8192, 128}, size{4, 16, 8192, 64}}) {
    const double n = static_cast<double>(s.length), half = (n + 1) / (2 * n), window = 1024;
    one<ds::everyone>(b, t, s, "full", 1);
    one<ds::causal>(b, t, s, "causal", half);
    one<ds::both<ds::causal, ds::local<1024>>>(b, t, s, "window1024",
                                               (window * n - window * (window - 1) / 2) / (n * n));
  }
}

}  // namespace bench
