// SPDX-License-Identifier: Apache-2.0
// permute and combine with their backwards on the device: a warp or a block for each row, 16 bytes
// at a time where all rows allow it; every row is read once for each time it is used, sums over the
// choices in order. See ops/permute.hpp, ops/combine.hpp. Unproven on hardware: the rates.
#pragma once

#include "deepseek/backend/cuda/packs.hpp"
#include "deepseek/backend/cuda/require_indices.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/backend/rows/row_sum.hpp"
#include "deepseek/ops/combine.hpp"
#include "deepseek/ops/permute.hpp"

namespace deepseek {

namespace cuda_expert_rows {

enum class reading { element, pack };

// to(i, f) for the elements of a row that this worker owns, f(d) in the order of d: f gives element
// d of the sum. Packs: size neighbours at once, so that their reads and writes join.
template <reading How, class Team, class Y, class F>
DEEPSEEK_HOST_DEVICE void write_row(const Team& team, const Y& y, const F& f) {
  using T = typename Y::value_type;
  if constexpr (How == reading::element) {
    for (index_t d = team.rank(); d < y.extent(0); d += team.size()) y(d) = f(d);
  } else {
    for (index_t p = team.rank(); p < y.extent(0) / pack<T>::size; p += team.size()) {
      store_pack(y, p, f(p));
    }
  }
}

template <reading How, class X, class Source, class Y>
struct permuted {
  X x;
  Source source;
  index_t choices;
  Y xs;
  fault_place faults;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t r) const {
    if (faults.found()) return;
    const auto from = slice(x, source(r) / choices);
    write_row<How>(team, slice(xs, r), [&](index_t i) {
      if constexpr (How == reading::element) {
        return convert_to<typename Y::value_type>(from(i));
      } else {
        return load_pack(from, i);
      }
    });
  }
};

struct no_weights {};

// y[t] = (adds: +) sum over k in order of weights[t, k] ys[slot[t, k]], or without weights.
template <reading How, class Ys, class W, class Slot, class Y>
struct combined {
  using T = typename Y::value_type;
  using A = accumulate_t<T>;
  Ys ys;
  W weights;
  Slot slot;
  Y y;
  bool adds;
  fault_place faults;

  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t t) const {
    if (faults.found()) return;
    write_row<How>(team, slice(y, t), [&](index_t i) {
      if constexpr (How == reading::element) {
        A sum = 0;
        for (index_t k = 0; k < slot.extent(1); ++k) {
          if (slot(t, k) >= 0) sum += term(t, k, ys(slot(t, k), i));
        }
        if (adds) sum += convert_to<A>(y(t, i));
        return convert_to<T>(sum);
      } else {
        return pack_of(t, i);
      }
    });
  }

 private:
  DEEPSEEK_HOST_DEVICE A term(index_t t, index_t k, typename Ys::value_type x) const {
    if constexpr (std::is_same_v<W, no_weights>) {
      return convert_to<A>(x);
    } else {
      return convert_to<A>(weights(t, k)) * convert_to<A>(x);
    }
  }
  DEEPSEEK_HOST_DEVICE pack<T> pack_of(index_t t, index_t i) const {
    A sums[pack<T>::size] = {};
    for (index_t k = 0; k < slot.extent(1); ++k) {
      const index_t row = slot(t, k);
      if (row < 0) continue;
      const pack<T> x = load_pack(slice(ys, row), i);
      for (int j = 0; j < pack<T>::size; ++j) sums[j] += term(t, k, x.at[j]);
    }
    pack<T> out{};
    if (adds) out = load_pack(slice(y, t), i);
    for (int j = 0; j < pack<T>::size; ++j) {
      out.at[j] = convert_to<T>(adds ? sums[j] + convert_to<A>(out.at[j]) : sums[j]);
    }
    return out;
  }
};

// Of assignment a = t K + k: dys[slot] = weight dy[t], dweights = <dy[t], ys[slot]>.
template <reading How, class In, class DY, class DYs, class DW>
struct combined_backward {
  using T = typename DYs::value_type;
  using A = accumulate_t<T>;
  In in;
  DY dy;
  DYs dys;
  DW dweights;
  fault_place faults;

  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t a) const {
    if (faults.found()) return;
    const index_t choices = in.slot.extent(1), t = a / choices, k = a % choices;
    const index_t row = in.slot(t, k);
    if constexpr (!std::is_same_v<DW, none>) weigh(team, t, k, row);
    if (row < 0) return;
    const A weight = convert_to<A>(in.weights(t, k));
    const auto from = slice(dy, t);
    write_row<How>(team, slice(dys, row), [&](index_t i) {
      if constexpr (How == reading::element) {
        return convert_to<T>(weight * convert_to<A>(from(i)));
      } else {
        pack<T> x = load_pack(from, i);
        for (T& e : x.at) e = convert_to<T>(weight * convert_to<A>(e));
        return x;
      }
    });
  }

 private:
  template <class Team>
  DEEPSEEK_HOST_DEVICE void weigh(const Team& team, index_t t, index_t k, index_t row) const {
    using W = typename DW::value_type;
    using S = accumulate_t<W>;
    S sum = 0;
    if (row >= 0) {
      sum = row_sum(team, dy.extent(1), [&](index_t d) {
        return convert_to<S>(dy(t, d)) * convert_to<S>(in.ys(row, d));
      });
    }
    if (team.rank() == 0) dweights(t, k) = convert_to<W>(sum);
  }
};

// A row is read by the same number of threads in every batch.
template <reading How, class B, class Ys, class W, class Slot, class Y>
void run_combined(const B& b, const Ys& ys, const W& weights, const Slot& slot, const Y& y,
                  bool adds) {
  constexpr index_t each = How == reading::pack ? pack<typename Y::value_type>::size : 1;
  run_each_row(b, y.extent(0), y.extent(1) / each,
               combined<How, Ys, W, Slot, Y>{ys, weights, slot, y, adds, b.faults()});
}
template <class B, class Ys, class W, class Slot, class Y>
void choose_combined(const B& b, const Ys& ys, const W& weights, const Slot& slot, const Y& y,
                     bool adds) {
  if constexpr (std::is_same_v<typename Ys::value_type, typename Y::value_type>) {
    if (packs_suit(ys, y)) return run_combined<reading::pack>(b, ys, weights, slot, y, adds);
  }
  run_combined<reading::element>(b, ys, weights, slot, y, adds);
}

template <reading How, class B, class In, class DY, class DYs, class DW>
void run_backward(const B& b, const In& in, const DY& dy, const combine_gradients<DYs, DW>& out) {
  run_each_row(b, in.slot.size(), dy.extent(1),
               combined_backward<How, In, DY, DYs, DW>{in, dy, out.dys, out.dweights, b.faults()});
}
template <class B, class In, class DY, class DYs, class DW>
void choose_backward(const B& b, const In& in, const DY& dy,
                     const combine_gradients<DYs, DW>& out) {
  if constexpr (std::is_same_v<typename DY::value_type, typename DYs::value_type>) {
    if (packs_suit(dy, out.dys)) return run_backward<reading::pack>(b, in, dy, out);
  }
  run_backward<reading::element>(b, in, dy, out);
}

template <reading How, class B, class X, class Source, class Y>
void run_permuted(const B& b, const X& x, const Source& source, index_t choices, const Y& xs) {
  constexpr index_t each = How == reading::pack ? pack<typename Y::value_type>::size : 1;
  run_each_row(b, xs.extent(0), xs.extent(1) / each,
               permuted<How, X, Source, Y>{x, source, choices, xs, b.faults()});
}
template <class B, class X, class Source, class Y>
void choose_permuted(const B& b, const X& x, const Source& source, index_t choices, const Y& xs) {
  if constexpr (std::is_same_v<typename X::value_type, typename Y::value_type>) {
    if (packs_suit(x, xs)) return run_permuted<reading::pack>(b, x, source, choices, xs);
  }
  run_permuted<reading::element>(b, x, source, choices, xs);
}

}  // namespace cuda_expert_rows

template <DeviceBackend B, class X, class Source, class Y>
void permute_impl(const B& b, const X& x, const Source& source, index_t choices, const Y& xs) {
  require_indices(b, source, x.extent(0) * choices, "permute: source");
  cuda_expert_rows::choose_permuted(b, x, source, choices, xs);
}

template <DeviceBackend B, class DY, class Slot, class DX>
void permute_backward_impl(const B& b, const DY& dxs, const Slot& slot, const DX& dx) {
  require_indices(b, slot, dxs.extent(0), "permute_backward: slot", -1);
  cuda_expert_rows::choose_combined(b, dxs, cuda_expert_rows::no_weights{}, slot, dx, false);
}

template <DeviceBackend B, class Ys, class By, class Y>
void combine_impl(const B& b, const Ys& ys, const By& by, const Y& y) {
  require_indices(b, by.slot, ys.extent(0), "combine: slot", -1);
  cuda_expert_rows::choose_combined(b, ys, by.weights, by.slot, y, by.how == update::add);
}

template <DeviceBackend B, class In, class DY, class DYs, class DW>
void combine_backward_impl(const B& b, const In& in, const DY& dy,
                           const combine_gradients<DYs, DW>& out) {
  require_indices(b, in.slot, in.ys.extent(0), "combine_backward: slot", -1);
  cuda_expert_rows::choose_backward(b, in, dy, out);
}

}  // namespace deepseek
