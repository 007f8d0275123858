// SPDX-License-Identifier: Apache-2.0
// next_tokens: out[i] = ids[i + 1] where row i + 1 belongs to the sequence of row i; `last` at the
// end of a sequence. What a prediction one token further sees and is asked for: token ids with any
// id as `last`, targets with the ignored one.
// ids[tokens] and out[tokens] (int32, out may be ids); offsets[sequences + 1], from 0 to tokens,
// not falling; an empty view: one sequence. Errors: shape_mismatch, invalid_argument (null data),
// offsets (first not 0, falling, last not tokens; nothing is written then). Cost: one pass.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

struct next_tokens_op {
  static constexpr std::string_view name = "next_tokens";

  template <class B, class Ids, class Offsets, class Out>
  void operator()(const B& b, const Ids& ids_in, const Offsets& offsets_in, std::int32_t last,
                  Out&& out_in) const {
    const auto ids = as_const(as_view(ids_in));
    const auto offsets = as_const(as_view(offsets_in));
    const auto out = as_view(out_in);
    check_spaces(b, ids, offsets, out);
    static_assert(ids.rank == 1 && offsets.rank == 1 && out.rank == 1,
                  "deepseek::next_tokens: wrong ranks; pass ids[tokens], offsets[sequences + 1], "
                  "out[tokens]");
    static_assert(std::is_same_v<typename decltype(ids)::value_type, std::int32_t> &&
                      std::is_same_v<typename decltype(offsets)::value_type, std::int32_t> &&
                      std::is_same_v<typename decltype(out)::value_type, std::int32_t>,
                  "deepseek::next_tokens: not int32; pass std::int32_t ids and offsets");
    require_extent(out, 0, ids.extent(0), "next_tokens: out");
    require_data(ids, "next_tokens: ids");
    require_data(offsets, "next_tokens: offsets");
    require_data(out, "next_tokens: out");
    next_tokens_impl(b, ids, offsets, last, out);
  }
};
namespace ops {
inline constexpr next_tokens_op next_tokens{};
}

}  // namespace deepseek
