// SPDX-License-Identifier: Apache-2.0
// compress on the reference backend, entry by entry; see ops/compress.hpp.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/backend/reference/fill.hpp"
#include "deepseek/backend/rows/compress.hpp"
#include "deepseek/backend/rows/row_sum.hpp"

namespace deepseek {

// The windows of all entries, in order; fewer than entries where they begin at a token.
template <class Spec>
view<compress_window, host, dyn> compress_windows(arena<host>& memory, const Spec& spec,
                                                  index_t tokens, const index_t (&entries)[2]) {
  const index_t dim = entries[1], m = spec.ratio;
  const bool overlapped = spec.windows == overlap::present;
  const auto list = memory.make<compress_window, dyn>(entries[0]);
  const index_t first = spec.moves() ? spec.first_at(0) / m : spec.first;
  const index_t sequences = spec.sequences.extent(0) > 0 ? spec.sequences.extent(0) - 1 : 1;
  index_t next = 0;
  for (index_t s = 0; s < sequences; ++s) {
    const bool one = spec.sequences.extent(0) == 0;
    const index_t begin = one ? 0 : spec.sequences(s);
    const index_t end = one ? tokens : spec.sequences(s + 1);
    for (index_t g = first; begin + (g + 1) * m <= end && next < entries[0]; ++g) {
      list(next++) = {begin + g * m, m, dim, overlapped && g > 0 ? m : 0, overlapped};
    }
  }
  return rows(list, 0, next);
}

// each(n, f) runs f(0), ..., f(n - 1), in any order: none of them writes what another reads.
template <class B, class In, class Y, class Spec, class Each>
void compress_entries(const B& b, const In& in, const Y& y, const Spec& spec, const Each& each) {
  const scope freed(b.workspace());
  const auto windows =
      compress_windows(b.workspace(), spec, in.kv.extent(0), {y.extent(0), y.extent(1)});
  each(windows.extent(0),
       [&](index_t e) { compress_row(serial_team{}, in, windows(e), slice(y, e)); });
}

// What all entries together give: dape from dz, and dgate, which is dz rounded.
template <class A, class Windows, class DZ, class Out>
void compress_add_ape(const Windows& windows, const DZ& dz, const Out& out, index_t phase) {
  using T = typename decltype(out.ape)::value_type;
  for (index_t c = 0; c < out.ape.extent(1); ++c) {
    const A sum = row_sum(serial_team{}, windows.extent(0),
                          [&](index_t e) { return dz(windows(e).token + phase, c); });
    out.ape(phase, c) = static_cast<T>(static_cast<A>(out.ape(phase, c)) + sum);
  }
}

template <class B, class In, class DY, class Out, class Spec, class Each>
void compress_entries_backward(const B& b, const In& in, const DY& dy, const Out& out,
                               const Spec& spec, const Each& each) {
  using A = accumulate_t<typename decltype(out.kv)::value_type>;
  const index_t tokens = in.kv.extent(0), width = in.kv.extent(1);
  const scope freed(b.workspace());
  const auto windows = compress_windows(b.workspace(), spec, tokens, {dy.extent(0), dy.extent(1)});
  const auto dz = b.workspace().template make<A, dyn, dyn>(tokens, width);
  fill_impl(b, 0, dz);
  fill_impl(b, 0, out.kv);
  const compress_views<std::remove_cvref_t<decltype(out.kv)>, view<A, host, dyn, dyn>, none> to{
      out.kv, dz, {}};
  each(dy.extent(0),
       [&](index_t e) { compress_backward_row(serial_team{}, in, windows(e), slice(dy, e), to); });
  each(spec.ratio, [&](index_t phase) { compress_add_ape<A>(windows, dz, out, phase); });
  each(tokens, [&](index_t i) {
    for (index_t c = 0; c < width; ++c) {
      out.gate(i, c) = static_cast<typename decltype(out.gate)::value_type>(dz(i, c));
    }
  });
}

inline constexpr auto each_in_turn = [](index_t n, const auto& f) {
  for (index_t i = 0; i < n; ++i) f(i);
};

template <class In, class Y, class Spec>
void compress_impl(const reference& b, const In& in, const Y& y, const Spec& spec) {
  compress_entries(b, in, y, spec, each_in_turn);
}
template <class In, class DY, class Out, class Spec>
void compress_backward_impl(const reference& b, const In& in, const DY& dy, const Out& out,
                            const Spec& spec) {
  compress_entries_backward(b, in, dy, out, spec, each_in_turn);
}

template <class Offsets, class Out>
index_t compressed_offsets_impl(const reference&, const Offsets& offsets, index_t ratio,
                                const Out& out) {
  index_t sum = 0;
  for (index_t s = 0; s < offsets.extent(0); ++s) {
    if (s > 0) sum += (offsets(s) - offsets(s - 1)) / ratio;
    out(s) = static_cast<std::int32_t>(sum);
  }
  return sum;
}

}  // namespace deepseek
