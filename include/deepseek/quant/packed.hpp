// SPDX-License-Identifier: Apache-2.0
// packed<B>: weights of the model's own element type in the order in which backend B multiplies by
// them: panels [out / columns][in / together][columns][together], the last filled up with zeros. No
// number changes and results have the same bits as with plain weights; a product with few rows runs
// close to the speed of memory. The panel's width, and how many inputs lie together (2 of bf16),
// are B's (packing<B>) and follow the instruction set of the build: pack a model after loading it.
// Both stand in the tensor's name, so that a file of another build is refused instead of misread.
//   auto fast = ds::quantize<ds::packed<ds::cpu>>(cpu, m);
// Source: Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008.
#pragma once

#include "deepseek/quant/make_weight.hpp"

#include <algorithm>

namespace deepseek {

// columns<T>: how many outputs stand side by side in B's panels; together<T>: inputs of each.
template <class B>
struct packing {
  template <class>
  static constexpr index_t columns = 1;
  template <class>
  static constexpr index_t together = 1;
};

struct packed_layout {
  index_t n, k, columns, together = 1;

  constexpr index_t panels() const { return (n + columns - 1) / columns; }
  constexpr index_t deep() const { return (k + together - 1) / together; }
  constexpr index_t size() const { return panels() * columns * deep() * together; }
  constexpr index_t at(index_t row, index_t step) const {
    const index_t group = row / columns * deep() + step / together;
    return (group * columns + row % columns) * together + step % together;
  }
};

// The weights of one expert, seen as numbers.
template <class T, class Space>
struct packed_matrix {
  using value_type = T;
  packed_layout layout;
  const T* panels;

  index_t extent(int i) const { return i == 0 ? layout.n : layout.k; }
  T operator()(index_t n, index_t k) const { return panels[layout.at(n, k)]; }
};

// The weights of one or several experts for ops.
template <class T, class Space>
struct packed_operand {
  using space = Space;
  view<const T, Space, dyn, dyn> q;  // [experts, layout.size()]
  packed_layout layout;

  index_t experts() const { return q.extent(0); }
  index_t out() const { return layout.n; }
  index_t in() const { return layout.k; }
  packed_matrix<T, Space> expert(index_t e) const { return {layout, q.data() + e * q.stride(0)}; }
  void check(const char* op) const {
    require(layout.n >= 0 && layout.k >= 0 && layout.columns > 0 && layout.together > 0,
            error_code::invalid_argument, op, ": panels of ", layout.columns, " columns, ",
            layout.together, " inputs together, for [", layout.n, ", ", layout.k,
            "]; pass what make_weight wrote");
    require_extent(q, 1, layout.size(), op);
    require_data(q, op);
    require(q.contiguous(), error_code::invalid_argument, op,
            ": the weights are not contiguous; pass what make_weight wrote");
  }
};

// "panels_of_48", "panels_of_48_by_2".
template <index_t Columns, index_t Together = 1>
struct panels_name {
  static constexpr auto text = [] {
    std::array<char, 64> out{};
    std::size_t n = 0;
    const auto put = [&](const char* word, index_t number) {
      for (; *word != 0; ++word) out[n++] = *word;
      index_t power = 1;
      while (power * 10 <= number) power *= 10;
      for (; power > 0; power /= 10) out[n++] = static_cast<char>('0' + number / power % 10);
    };
    put("panels_of_", Columns);
    if (Together > 1) put("_by_", Together);
    return out;
  }();
};

template <class T, class S, index_t O, index_t I, index_t Columns, index_t Together>
struct packed_weight {
  static constexpr packed_layout layout{O, I, Columns, Together};
  static constexpr index_t experts = stack_of<S>::count;
  using space = typename stack_of<S>::space;
  static constexpr bool is_stack = !std::is_same_v<space, S>;
  tensor<T, S, layout.size()> panels;

  packed_operand<T, space> operand() const {
    return {{panels.data(), {experts, layout.size()}}, layout};
  }
  static constexpr auto fields() {
    return std::tuple{named(panels_name<Columns, Together>::text.data(), &packed_weight::panels)};
  }
};

template <class B>
struct packed {
  static constexpr const char* name = "packed";
  static constexpr bool stores_elements = true;  // NaN and infinity stay what they are
  template <class T, class S, index_t O, index_t I>
  using weight =
      packed_weight<T, S, O, I, packing<B>::template columns<T>, packing<B>::template together<T>>;
};

template <class B, class M, class T, class S, index_t O, index_t I, index_t C, index_t G>
void make_expert_weight(const packed<B>&, const M& from, const observed_range&,
                        packed_weight<T, S, O, I, C, G>& out, index_t expert) {
  static_assert(std::is_same_v<typename stack_of<S>::space, host>,
                "deepseek::make_weight: weights are made on the host; make them there and copy");
  constexpr packed_layout at = packed_weight<T, S, O, I, C, G>::layout;
  require_weight_shape(packed<B>::name, from, {stack_of<S>::count, O, I}, expert);
  T* const to = out.panels.data() + expert * at.size();
  for (index_t n = 0; n < at.panels() * C; ++n) {
    for (index_t k = 0; k < at.deep() * G; ++k) {
      to[at.at(n, k)] = n < O && k < I ? static_cast<T>(from(n, k)) : T(0);
    }
  }
}

}  // namespace deepseek
