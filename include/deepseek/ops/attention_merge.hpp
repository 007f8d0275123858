// SPDX-License-Identifier: Apache-2.0
// attention_merge: two attentions over disjoint keys become one softmax over all of them:
//   lse = log(e^lse_1 + e^lse_2), o = e^(lse_1 - lse) o_1 + e^(lse_2 - lse) o_2
// into{o, lse} is part 1 and gets the result; from{o, lse} is part 2. o[queries, heads, dv],
// lse[queries, heads]. A part without keys (o = 0, lse = -inf) changes nothing, bit for bit.
// Backward needs no op: with the merged o and lse, p_ij = e^(s_ij - lse_i) is the probability among
// all keys, and ds_ij = p_ij (do_i . v_j - do_i . o_i) holds in each part; so attention_backward of
// each part takes the merged o and lse, and dq is the sum of what the two give.
// In accumulate_t of o, rounded once. Errors: shape_mismatch, invalid_argument. Bits do not depend
// on threads. Cost: 3 flops an element. Source: Milakov and Gimelshein 2018; Dao et al. 2022.
#pragma once

#include "deepseek/ops/attention.hpp"

namespace deepseek {

struct attention_merge_op {
  static constexpr std::string_view name = "attention_merge";

  template <class B, class From, class Into>
  void operator()(const B& b, const From& from_in, const Into& into_in) const {
    const attention_outputs from{as_const(as_view(from_in.o)), as_const(as_view(from_in.lse))};
    const attention_outputs into{as_view(into_in.o), as_view(into_in.lse)};
    check_spaces(b, from.o, from.lse, into.o, into.lse);
    static_assert(decltype(into.o)::rank == 3 && decltype(into.lse)::rank == 2,
                  "deepseek::attention_merge: wrong ranks; pass o[queries, heads, dv], "
                  "lse[queries, heads]");
    require_extent(into.lse, 0, into.o.extent(0), "attention_merge: lse");
    require_extent(into.lse, 1, into.o.extent(1), "attention_merge: lse");
    require_same_shape(from.o, into.o, "attention_merge: from o");
    require_same_shape(from.lse, into.lse, "attention_merge: from lse");
    require_data(into.o, "attention_merge: o");
    require_data(into.lse, "attention_merge: lse");
    require_data(from.o, "attention_merge: from o");
    require_data(from.lse, "attention_merge: from lse");
    if (!into.lse.empty()) attention_merge_impl(b, from, into);
  }
};
namespace ops {
inline constexpr attention_merge_op attention_merge{};
}

}  // namespace deepseek
