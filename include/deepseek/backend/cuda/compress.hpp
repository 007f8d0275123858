// SPDX-License-Identifier: Apache-2.0
// compress on the device: a thread for each channel of each entry, neighbours on neighbouring
// channels; dape in two passes of fixed order. See ops/compress.hpp. Where the offsets of sequences
// stand in device memory, they are checked there; that y has an entry for each window, or first_at
// a token, is not: an entry without a window is left as it is.
#pragma once

#include "deepseek/backend/cuda/column_sums.hpp"
#include "deepseek/backend/cuda/elements.hpp"
#include "deepseek/backend/cuda/offset_checks.hpp"
#include "deepseek/backend/cuda/unless_fault.hpp"
#include "deepseek/backend/rows/compress.hpp"

namespace deepseek {

namespace cuda_compress {

// Writes the window of each entry; ratio 0: there is none.
template <class Spec, class Windows>
struct locate {
  Spec spec;
  index_t tokens, dim;
  Windows windows;
  DEEPSEEK_HOST_DEVICE void operator()(index_t entry) const {
    const index_t m = spec.ratio, count = spec.sequences.extent(0);
    const bool overlapped = spec.windows == overlap::present;
    index_t g = entry + spec.first, begin = 0, end = tokens;
    if (spec.first_at.extent(0) > 0) g = entry + spec.first_at(0) / m;
    for (index_t s = 0; s + 1 < count; ++s) {
      begin = spec.sequences(s);
      end = spec.sequences(s + 1);
      if (g < (end - begin) / m) break;
      if (s + 2 < count) g -= (end - begin) / m;
    }
    const bool exists = g >= 0 && begin + (g + 1) * m <= end;
    windows(entry) = {begin + g * m, exists ? m : 0, dim, overlapped && g > 0 ? m : 0, overlapped};
  }
};

template <class In, class Windows, class Y>
struct forward {
  In in;
  Windows windows;
  Y y;
  DEEPSEEK_HOST_DEVICE void operator()(const lone_worker& worker, index_t entry) const {
    const compress_window w = windows(entry);
    if (w.ratio > 0) compress_row(worker, in, w, slice(y, entry));
  }
};

template <class In, class Windows, class DY, class Out>
struct backward {
  In in;
  Windows windows;
  DY dy;
  Out out;
  DEEPSEEK_HOST_DEVICE void operator()(const lone_worker& worker, index_t entry) const {
    const compress_window w = windows(entry);
    if (w.ratio > 0) compress_backward_row(worker, in, w, slice(dy, entry), out);
  }
};

// Of an entry, for dape(phase, c) at j = phase * width + c.
template <class Windows, class DZ>
struct ape_term {
  Windows windows;
  DZ dz;
  DEEPSEEK_HOST_DEVICE typename DZ::value_type operator()(index_t entry, index_t j) const {
    const index_t width = dz.extent(1);
    const compress_window w = windows(entry);
    return w.ratio > 0 ? dz(w.token + j / width, j % width) : 0;
  }
};

// The elements of a view in row-major order as one row.
template <class V>
struct flattened {
  using value_type = typename V::value_type;
  V v;
  DEEPSEEK_HOST_DEVICE index_t extent(int) const { return v.size(); }
};
template <class V, class Sum>
DEEPSEEK_HOST_DEVICE void add_to_column(const flattened<V>& out, index_t j, const Sum& sum) {
  auto& to = element_at(out.v, j);
  to = static_cast<typename V::value_type>(static_cast<Sum>(to) + sum);
}

template <DeviceBackend B, class Spec>
auto find_windows(const B& b, const Spec& spec, index_t tokens, const index_t (&entries)[2]) {
  using Windows = view<compress_window, typename B::space, dyn>;
  const Windows windows = b.workspace().template make<compress_window, dyn>(entries[0]);
  if (spec.sequences.extent(0) > 0) {
    check_offsets(b, spec.sequences, tokens, "compress: sequences");
  }
  run_each_element(b, entries[0],
                   unless_fault(b, locate<Spec, Windows>{spec, tokens, entries[1], windows}));
  return windows;
}

template <class Offsets, class Out>
struct count_windows {
  Offsets offsets;
  index_t ratio;
  Out out;
  DEEPSEEK_HOST_DEVICE void operator()(index_t) const {
    index_t sum = 0;
    for (index_t s = 0; s < offsets.extent(0); ++s) {
      if (s > 0) sum += (offsets(s) - offsets(s - 1)) / ratio;
      out(s) = static_cast<std::int32_t>(sum);
    }
  }
};

}  // namespace cuda_compress

template <DeviceBackend B, class In, class Y, class Spec>
void compress_impl(const B& b, const In& in, const Y& y, const Spec& spec) {
  const scope freed(b.workspace());
  const auto windows =
      cuda_compress::find_windows(b, spec, in.kv.extent(0), {y.extent(0), y.extent(1)});
  using Windows = std::remove_const_t<decltype(windows)>;
  run_each_row_element(b, y.extent(0), y.extent(1),
                       unless_fault(b, cuda_compress::forward<In, Windows, Y>{in, windows, y}));
}

template <DeviceBackend B, class In, class DY, class Out, class Spec>
void compress_backward_impl(const B& b, const In& in, const DY& dy, const Out& out,
                            const Spec& spec) {
  using DKV = std::remove_cvref_t<decltype(out.kv)>;
  using DApe = std::remove_cvref_t<decltype(out.ape)>;
  using A = accumulate_t<typename DKV::value_type>;
  using DZ = view<A, typename B::space, dyn, dyn>;
  using To = compress_views<DKV, DZ, none>;
  const index_t tokens = in.kv.extent(0), width = in.kv.extent(1);
  const scope freed(b.workspace());
  const auto windows = cuda_compress::find_windows(b, spec, tokens, {dy.extent(0), dy.extent(1)});
  using Windows = std::remove_const_t<decltype(windows)>;
  const DZ dz = b.workspace().template make<A, dyn, dyn>(tokens, width);
  fill_impl(b, 0, dz);
  fill_impl(b, 0, out.kv);
  run_each_row_element(b, dy.extent(0), dy.extent(1),
                       unless_fault(b, cuda_compress::backward<In, Windows, DY, To>{
                                           in, windows, dy, {out.kv, dz, none{}}}));
  add_term_columns(b, dy.extent(0), cuda_compress::ape_term<Windows, DZ>{windows, dz},
                   cuda_compress::flattened<DApe>{out.ape});
  copy_impl(b, dz, out.gate);
}

template <DeviceBackend B, class Offsets, class Out>
index_t compressed_offsets_impl(const B& b, const Offsets& offsets, index_t ratio, const Out& out) {
  run_each_element(b, 1, cuda_compress::count_windows<Offsets, Out>{offsets, ratio, out});
  return b.read(out.data() + (out.extent(0) - 1) * out.stride(0));
}

}  // namespace deepseek
