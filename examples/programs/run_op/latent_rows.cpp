// SPDX-License-Identifier: Apache-2.0
// run_op: latent attention in its absorbed form and what its gradient needs besides. Files hold
// [heads, queries, width], the op takes [queries, heads, width]: views with other strides.
#include "run_op/op_rows.hpp"

namespace run_op {
namespace {

struct mla {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    auto q_nope = in.read<T, 3>("q_nope"), q_pe = in.read<T, 3>("q_pe");
    auto w_uk = in.read<T, 3>("w_uk"), w_uv = in.read<T, 3>("w_uv");
    const auto kv = joined<T>(b, in.read<T, 2>("c_kv"), in.read<T, 2>("k_pe"));
    const auto mask = in.read_mask<2>("mask");
    const index_t heads = q_nope.extent(0), queries = q_nope.extent(1);
    array<T, 3> o({heads, queries, w_uv.extent(1)});
    array<ds::accumulate_t<T>, 2> lse({heads, queries});
    ds::ops::latent_attention(b, ds::latent_inputs{swapped(q_nope), swapped(q_pe), kv},
                              ds::latent_weights{w_uk, w_uv},
                              ds::attention_outputs{swapped(o), ds::transposed(lse.view())},
                              masked(in, mask, queries, kv.extent(0)));
    out.add("out", o);
    out.add("out_lse", lse);
  }

 private:
  // Rows of c, then of pe: what a latent cache keeps.
  template <class T>
  static array<T, 2> joined(const auto& b, const array<T, 2>& c, const array<T, 2>& pe) {
    const index_t keys = c.extent(0), rank = c.extent(1), rope = pe.extent(1);
    ds::require(pe.extent(0) == keys, error_code::shape_mismatch, "mla: k_pe",
                ds::shape_string(pe.view()), " does not match c_kv", ds::shape_string(c.view()),
                "; pass one row of both for every key");
    array<T, 2> kv({keys, rank + rope});
    using part = ds::view<T, ds::host, ds::dyn, ds::dyn>;
    ds::ops::copy(b, c, part(kv.data(), {keys, rank}, {rank + rope, 1}));
    ds::ops::copy(b, pe, part(kv.data() + rank, {keys, rope}, {rank + rope, 1}));
    return kv;
  }
};

struct sum_heads {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 3>("x");
    array<T, 2> y({x.extent(0), x.extent(2)});
    ds::ops::sum_heads(b, x, y);
    out.add("out", y);
  }
};

}  // namespace

std::span<const op_row> latent_rows() {
  static constexpr op_row rows[] = {row_of<mla>("mla"), row_of<sum_heads>("sum_heads")};
  return rows;
}

}  // namespace run_op
