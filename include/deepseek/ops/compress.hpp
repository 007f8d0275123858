// SPDX-License-Identifier: Apache-2.0
// compress: each complete window of m tokens becomes one entry, a softmax over tokens per channel:
//   y_g = sum_j softmax_j(gate_j + ape_(j mod m)) kv_j, j over the tokens m g .. m g + m - 1.
// overlap::present: kv, gate and ape are twice as wide as y, and j runs over 2 m tokens: those of
// the window before with the first half of the channels, the window's own with the second half; the
// first window of a sequence has none before it. kv, gate [tokens, W], ape [m, W], y [entries, D].
// Backward: dkv and dgate are written (0 where no entry reads), dape is added to. The softmax is
// computed again. compressed_offsets: offsets of the entries of packed sequences, and their number.
// Arithmetic in accumulate_t of y (dkv), rounded once; fixed order. Errors: shape_mismatch,
// invalid_argument, offsets. Source: DeepSeek-V4's published inference code as ported by others.
#pragma once

#include "deepseek/core/call.hpp"  // sequence_offsets
#include "deepseek/ops/argument.hpp"

namespace deepseek {

enum class overlap { absent, present };

template <class Space = host>
struct compress_spec {
  index_t ratio = 0;  // m >= 1, tokens of a window
  overlap windows = overlap::absent;
  sequence_offsets<Space> sequences = {};  // of the tokens; empty: one sequence
  index_t first = 0;  // windows of the (one) sequence that are read but not written
  // [1]: a token whose window is the first that is written, read when the op runs, instead of
  // `first`. y has as many entries as are wanted; those whose window is not whole are not written.
  view<const std::int32_t, Space, dyn> first_at = {};

  bool moves() const { return first_at.extent(0) > 0; }
};

template <class KV, class Gate, class Ape>
struct compress_views {
  KV kv;      // [tokens, W]
  Gate gate;  // [tokens, W]
  Ape ape;    // [m, W]
};
template <class KV, class Gate, class Ape>
compress_views(KV&&, Gate&&, Ape&&)
    -> compress_views<argument_t<KV>, argument_t<Gate>, argument_t<Ape>>;

namespace compress_checks {

template <class In, class Y, class S>
void require_views(const In& in, const Y& y, const compress_spec<S>& spec) {
  static_assert(decltype(in.kv)::rank == 2 && decltype(in.gate)::rank == 2 &&
                    decltype(in.ape)::rank == 2 && Y::rank == 2,
                "deepseek::compress: wrong ranks; pass kv, gate [tokens, width], ape[ratio, "
                "width], y[entries, dim]");
  require(spec.ratio >= 1, error_code::invalid_argument, "compress: ratio is ", spec.ratio,
          "; pass the tokens of a window, >= 1");
  const index_t width = (spec.windows == overlap::present ? 2 : 1) * y.extent(1);
  require_same_shape(in.gate, in.kv, "compress: gate");
  require_extent(in.kv, 1, width, "compress: kv");
  require_extent(in.ape, 0, spec.ratio, "compress: ape");
  require_extent(in.ape, 1, width, "compress: ape");
  require_data(in.kv, "compress: kv");
  require_data(in.gate, "compress: gate");
  require_data(in.ape, "compress: ape");
  require_data(y, "compress: y");
}
template <class S>
void require_first_at(const compress_spec<S>& spec, index_t tokens) {
  require(spec.first_at.extent(0) == 1 && spec.sequences.extent(0) == 0 && spec.first == 0,
          error_code::invalid_argument, "compress: first_at[", spec.first_at.extent(0),
          "] with first ", spec.first, " and sequences[", spec.sequences.extent(0),
          "]; pass one number, for one sequence, and no first");
  require_data(spec.first_at, "compress: first_at");
  if constexpr (std::is_same_v<S, host>) {
    require(spec.first_at(0) >= 0 && spec.first_at(0) < tokens, error_code::index_range,
            "compress: first_at[0] is ", spec.first_at(0), ", outside 0 .. ", tokens - 1,
            "; pass a token that exists");
  }
}
template <class S>
void require_entries(const compress_spec<S>& spec, index_t tokens, index_t entries) {
  const bool one = spec.sequences.extent(0) == 0;
  require(spec.first >= 0 && (one || spec.first == 0), error_code::invalid_argument,
          "compress: first is ", spec.first,
          "; pass a number of windows >= 0, and 0 where there are several sequences");
  if (spec.moves()) return require_first_at(spec, tokens);
  index_t expected = tokens / spec.ratio - spec.first;
  if constexpr (std::is_same_v<S, host>) {
    if (!one) {
      require_offsets(spec.sequences, tokens, "compress: sequences");
      expected = 0;
      for (index_t s = 0; s + 1 < spec.sequences.extent(0); ++s) {
        expected += (spec.sequences(s + 1) - spec.sequences(s)) / spec.ratio;
      }
    }
    require(entries == expected, error_code::shape_mismatch, "compress: y has ", entries,
            " entries, expected ", expected, " of ", tokens, " tokens; pass one for each window");
  }
}

}  // namespace compress_checks

struct compress_op {
  static constexpr std::string_view name = "compress";

  template <class B, class In, class Y, class S>
  void operator()(const B& b, const In& given, Y&& y_in, const compress_spec<S>& spec) const {
    const compress_views in{as_const(as_view(given.kv)), as_const(as_view(given.gate)),
                            as_const(as_view(given.ape))};
    const auto y = as_view(y_in);
    check_spaces(b, in.kv, in.gate, in.ape, y, spec.sequences);
    compress_checks::require_views(in, y, spec);
    compress_checks::require_entries(spec, in.kv.extent(0), y.extent(0));
    if (!y.empty()) compress_impl(b, in, y, spec);
  }
};

struct compress_backward_op {
  static constexpr std::string_view name = "compress_backward";

  // out: compress_views{dkv, dgate, dape}.
  template <class B, class In, class DY, class Out, class S>
  void operator()(const B& b, const In& given, const DY& dy_in, const Out& out,
                  const compress_spec<S>& spec) const {
    const compress_views in{as_const(as_view(given.kv)), as_const(as_view(given.gate)),
                            as_const(as_view(given.ape))};
    const auto dy = as_const(as_view(dy_in));
    const compress_views to{as_view(out.kv), as_view(out.gate), as_view(out.ape)};
    check_spaces(b, in.kv, in.gate, in.ape, dy, spec.sequences);
    check_spaces(b, to.kv, to.gate, to.ape);
    compress_checks::require_views(in, dy, spec);
    require(!spec.moves(), error_code::unsupported,
            "compress_backward: first_at; pass the number of windows as first");
    compress_checks::require_entries(spec, in.kv.extent(0), dy.extent(0));
    require_same_shape(to.kv, in.kv, "compress_backward: dkv");
    require_same_shape(to.gate, in.gate, "compress_backward: dgate");
    require_same_shape(to.ape, in.ape, "compress_backward: dape");
    require_data(to.kv, "compress_backward: dkv");
    require_data(to.gate, "compress_backward: dgate");
    require_data(to.ape, "compress_backward: dape");
    if (!in.kv.empty()) compress_backward_impl(b, in, dy, to, spec);
  }
};

// out[s + 1] - out[s] = (offsets[s + 1] - offsets[s]) / ratio, out[0] = 0. Returns the last.
struct compressed_offsets_op {
  static constexpr std::string_view name = "compressed_offsets";

  template <class B, class Offsets, class Out>
  index_t operator()(const B& b, const Offsets& offsets_in, index_t ratio, Out&& out_in) const {
    const auto offsets = as_const(as_view(offsets_in));
    const auto out = as_view(out_in);
    check_spaces(b, offsets, out);
    static_assert(offsets.rank == 1 && out.rank == 1,
                  "deepseek::compressed_offsets: pass offsets[sequences + 1], out[sequences + 1]");
    require_same_shape(out, offsets, "compressed_offsets: out");
    require_data(offsets, "compressed_offsets: offsets");
    require_data(out, "compressed_offsets: out");
    require(ratio >= 1, error_code::invalid_argument, "compressed_offsets: ratio is ", ratio,
            "; pass the tokens of a window, >= 1");
    return offsets.empty() ? 0 : compressed_offsets_impl(b, offsets, ratio, out);
  }
};

namespace ops {
inline constexpr compress_op compress{};
inline constexpr compress_backward_op compress_backward{};
inline constexpr compressed_offsets_op compressed_offsets{};
}  // namespace ops

}  // namespace deepseek
