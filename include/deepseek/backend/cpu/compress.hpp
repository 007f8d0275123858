// SPDX-License-Identifier: Apache-2.0
// compress on the cpu: the reference's bodies, entries, phases and rows on all threads; see
// ops/compress.hpp. No number is written by two entries.
#pragma once

#include "deepseek/backend/cpu/fill.hpp"
#include "deepseek/backend/cpu/rows.hpp"
#include "deepseek/backend/reference/compress.hpp"

namespace deepseek {

template <class In, class Y, class Spec>
void compress_impl(const cpu& b, const In& in, const Y& y, const Spec& spec) {
  const scope freed(b.workspace());
  const auto windows =
      compress_windows(b.workspace(), spec, in.kv.extent(0), {y.extent(0), y.extent(1)});
  b.parallel(y.extent(0),
             [&](index_t e) { compress_row(serial_team{}, in, windows(e), slice(y, e)); });
}

template <class In, class DY, class Out, class Spec>
void compress_backward_impl(const cpu& b, const In& in, const DY& dy, const Out& out,
                            const Spec& spec) {
  using A = accumulate_t<typename decltype(out.kv)::value_type>;
  const index_t tokens = in.kv.extent(0), width = in.kv.extent(1);
  const scope freed(b.workspace());
  const auto windows = compress_windows(b.workspace(), spec, tokens, {dy.extent(0), dy.extent(1)});
  const auto dz = b.workspace().template make<A, dyn, dyn>(tokens, width);
  fill_impl(b, 0, dz);
  fill_impl(b, 0, out.kv);
  const compress_views<std::remove_cvref_t<decltype(out.kv)>, view<A, host, dyn, dyn>, none> to{
      out.kv, dz, {}};
  b.parallel(dy.extent(0), [&](index_t e) {
    compress_backward_row(serial_team{}, in, windows(e), slice(dy, e), to);
  });
  b.parallel(spec.ratio, [&](index_t phase) { compress_add_ape<A>(windows, dz, out, phase); });
  parallel_rows(b, tokens, 8, [&](index_t first, index_t last) {
    for (index_t i = first; i < last; ++i) {
      for (index_t c = 0; c < width; ++c) {
        out.gate(i, c) = static_cast<typename decltype(out.gate)::value_type>(dz(i, c));
      }
    }
  });
}

}  // namespace deepseek
