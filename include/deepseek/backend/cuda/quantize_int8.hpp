// SPDX-License-Identifier: Apache-2.0
// Rows of activations as unsigned bytes on the device (formulas: quant/int8.hpp), a block for each
// row, four neighbours to a thread and one word written:
//   per_token  range and codes of a row by one kernel
//   per_call   limits of each row, of all rows, then codes
//   observed   codes with the given range
// Rows behind the experts' last are neither read nor written. What cannot become codes is told to
// the context: NaN and infinity, a range beyond float, an observed scale that is none.
#pragma once

#include "deepseek/backend/cuda/device_backend.hpp"
#include "deepseek/backend/cuda/packets.hpp"
#include "deepseek/core/view.hpp"
#include "deepseek/ops/quant_gemm.hpp"

namespace deepseek {

namespace cuda_int8 {

inline void raise_not_finite(const fault& f) {
  fail(error_code::nonfinite, "quant_gemm: x[", f.position / f.size, ", ", f.position % f.size,
       "] is ", f.number, "; int8 needs finite numbers, look for what made it in the layer before");
}
inline void raise_range(const fault& f) {
  fail_int8_range(f.number, f.other);
}
inline void raise_observed(const fault& f) {
  fail(error_code::invalid_argument, "quant_gemm: the input's scale is ", f.number,
       " and its zero point ", f.value,
       "; expected a scale > 0 and a zero point from 0 to 255: quantize or load the weights");
}

inline constexpr std::int32_t code_middle = 128;

// Codes - 128 [rows, pitch] and a range for each row (step 1) or for all (step 0).
struct byte_rows {
  std::uint8_t* codes = nullptr;
  index_t pitch = 0;  // a multiple of 16
  float* scale = nullptr;
  std::int32_t* zero = nullptr;
  index_t step = 0;

  DEEPSEEK_HOST_DEVICE int8_range range(index_t m) const {
    return {scale[m * step], zero[m * step]};
  }
};

template <class A>
DEEPSEEK_HOST_DEVICE bool is_finite(A x) {
  return x - x == A(0);
}

// A row by the threads of a block, four neighbours each.
template <class X, class Offsets>
struct row_source {
  using A = accumulate_t<typename X::value_type>;
  static constexpr int run = 4;
  X x;
  Offsets offsets;  // of the experts' rows; [0]: one has all
  fault_place faults;
  raiser not_finite, range_beyond;
  bool whole;  // four neighbours lie together, aligned

  DEEPSEEK_HOST_DEVICE bool has(index_t row) const {
    const index_t experts = offsets.extent(0) - 1;
    return row < (experts < 0 ? x.extent(0) : index_t{offsets(experts)});
  }
  // f(k, values, count) for the runs of this thread.
  template <class Block, class F>
  DEEPSEEK_HOST_DEVICE void each_run(const Block& block, index_t row, const F& f) const {
    const index_t depth = x.extent(1);
    for (index_t k = index_t{block.rank()} * run; k < depth; k += index_t{block.size()} * run) {
      const int count = depth - k < run ? static_cast<int>(depth - k) : run;
      A values[run] = {};
      if (whole && count == run) {
        load_elements<run>(&x(row, k), values);
      } else {
        for (int i = 0; i < count; ++i) values[i] = static_cast<A>(x(row, k + i));
      }
      f(k, values, count);
    }
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void tell_element(const Block& block, index_t row, index_t k, A v) const {
    fault f;
    f.position = row * x.extent(1) + k;
    f.size = x.extent(1);
    f.number = static_cast<double>(v);
    f.raise = not_finite;
    faults.tell(block, f);
  }
  struct limits {
    A low, high;
  };
  template <class Block>
  DEEPSEEK_HOST_DEVICE limits limits_of(const Block& block, index_t row) const {
    A low = 0, high = 0;
    each_run(block, row, [&](index_t k, const A(&values)[run], int count) {
      for (int i = 0; i < count; ++i) {
        if (!is_finite(values[i])) {
          tell_element(block, row, k + i, values[i]);
          continue;
        }
        low = values[i] < low ? values[i] : low;
        high = values[i] > high ? values[i] : high;
      }
    });
    return {-block.max(-low), block.max(high)};
  }
  // The same on all threads; told where float cannot hold it.
  template <class Block>
  DEEPSEEK_HOST_DEVICE int8_range range_of(const Block& block, const limits& l) const {
    const A step = int8_step_of(l.low, l.high);
    if (int8_step_fits(step)) return int8_range_with(step, l.low);
    if (block.rank() == 0) {
      fault f;
      f.number = static_cast<double>(l.low);
      f.other = static_cast<double>(l.high);
      f.raise = range_beyond;
      faults.tell(block, f);
    }
    return {};
  }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void write_codes(const Block& block, index_t row, const int8_range& r,
                                        const byte_rows& out) const {
    each_run(block, row, [&](index_t k, const A(&values)[run], int count) {
      std::uint32_t word = 0x80808080U;  // exchanges the sign bits: - 128
      for (int i = 0; i < count; ++i) {
        if (values[i] != values[i]) {
          tell_element(block, row, k + i, values[i]);
          continue;
        }
        word ^= std::uint32_t{int8_code(values[i], r)} << (8 * i);
      }
      __builtin_memcpy(__builtin_assume_aligned(out.codes + row * out.pitch + k, sizeof word),
                       &word, sizeof word);
    });
  }
};

template <class Source>
struct token_rows {
  static constexpr int threads = 256;
  Source from;
  byte_rows out;

  index_t blocks() const { return from.x.extent(0); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t row = block.index();
    if (!from.has(row)) return;
    const int8_range r = from.range_of(block, from.limits_of(block, row));
    if (block.rank() == 0) {
      out.scale[row] = r.scale;
      out.zero[row] = r.zero;
    }
    from.write_codes(block, row, r, out);
  }
};

template <class Source>
struct row_limits {
  static constexpr int threads = 256;
  Source from;
  typename Source::limits* limits;

  index_t blocks() const { return from.x.extent(0); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t row = block.index();
    if (!from.has(row)) return;
    const auto found = from.limits_of(block, row);
    if (block.rank() == 0) limits[row] = found;
  }
};

template <class Source>
struct range_of_call {
  static constexpr int threads = 256;
  Source from;
  const typename Source::limits* limits;
  byte_rows out;

  static index_t blocks() { return 1; }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    typename Source::limits all{0, 0};
    for (index_t row = block.rank(); from.has(row); row += block.size()) {
      all.low = limits[row].low < all.low ? limits[row].low : all.low;
      all.high = limits[row].high > all.high ? limits[row].high : all.high;
    }
    all = {-block.max(-all.low), block.max(all.high)};
    const int8_range r = from.range_of(block, all);
    if (block.rank() != 0) return;
    out.scale[0] = r.scale;
    out.zero[0] = r.zero;
  }
};

// Copies the observed range, or one that harms nobody, and tells.
struct observed_range_of {
  static constexpr int threads = 32;
  const float* scale;
  const std::int32_t* zero;
  byte_rows out;
  fault_place faults;
  raiser observed;

  static index_t blocks() { return 1; }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    if (block.rank() != 0) return;
    int8_range r{scale[0], zero[0]};
    if (!(r.scale > 0 && is_finite(r.scale) && r.zero >= 0 && r.zero <= 255)) {
      fault f;
      f.number = static_cast<double>(r.scale);
      f.value = r.zero;
      f.raise = observed;
      faults.tell(block, f);
      r = {};
    }
    out.scale[0] = r.scale;
    out.zero[0] = r.zero;
  }
};

template <class Source>
struct coded_rows {
  static constexpr int threads = 256;
  Source from;
  byte_rows out;

  index_t blocks() const { return from.x.extent(0); }
  template <class Block>
  DEEPSEEK_HOST_DEVICE void operator()(const Block& block) const {
    const index_t row = block.index();
    if (from.has(row)) from.write_codes(block, row, out.range(0), out);
  }
};

template <class X>
bool runs_are_whole(const X& x) {
  constexpr auto bytes = static_cast<index_t>(sizeof(typename X::value_type));
  return x.stride(1) == 1 && begins_at_packet(x.data()) && x.stride(0) * bytes % packet_bytes == 0;
}

template <class B>
byte_rows make_byte_rows(const B& b, index_t m, index_t depth, activation_range range) {
  const index_t step = range == activation_range::per_token ? 1 : 0;
  const index_t pitch = blocks_of(depth, packet_bytes) * packet_bytes;
  auto& memory = b.workspace();
  return {memory.template make<std::uint8_t, dyn, dyn>(m, pitch).data(), pitch,
          memory.template make<float, dyn>(step == 1 ? m : 1).data(),
          memory.template make<std::int32_t, dyn>(step == 1 ? m : 1).data(), step};
}

template <class B>
using offsets_view = view<const std::int32_t, typename B::space, dyn>;

// In memory of the backend's workspace.
template <class B, class X>
byte_rows quantized_rows(const B& b, const X& x_in, const int8_operand<typename B::space>& w,
                         const offsets_view<B>& offsets) {
  using x_view = view<const typename X::value_type, typename B::space, dyn, dyn>;
  using source = row_source<x_view, offsets_view<B>>;
  const source from{x_in, offsets, b.faults(), raise_not_finite, raise_range, runs_are_whole(x_in)};
  const byte_rows out = make_byte_rows(b, x_in.extent(0), w.depth, w.range);
  switch (w.range) {
    case activation_range::per_token:
      b.launch(token_rows<source>{from, out});
      return out;
    case activation_range::per_call: {
      const auto limits =
          b.workspace().template make<typename source::limits, dyn>(x_in.extent(0)).data();
      b.launch(row_limits<source>{from, limits});
      b.launch(range_of_call<source>{from, limits, out});
      break;
    }
    case activation_range::observed:
      b.launch(
          observed_range_of{w.x_scale.data(), w.x_zero.data(), out, b.faults(), raise_observed});
      break;
  }
  b.launch(coded_rows<source>{from, out});
  return out;
}

}  // namespace cuda_int8

}  // namespace deepseek
