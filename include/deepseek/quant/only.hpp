// SPDX-License-Identifier: Apache-2.0
// only<F, Layers...>: the format F for these layer types and what is inside them, plain for all
// others: quantize<only<int4_groups<32>, ffn>>(b, m) leaves attention and head as they are. Listed
// are types as the net has them, composites or linear layers: swiglu<64, 128>, linear<64, 64>.
#pragma once

#include "deepseek/quant/format.hpp"

namespace deepseek {

template <class F, class... Layers>
struct only {
  static_assert(sizeof...(Layers) > 0,
                "deepseek::only: no layers are listed; write only<format, layer, ...>, or the "
                "format alone for all");
  static constexpr const char* name = F::name;
  template <class L>
  static constexpr bool lists = (std::is_same_v<L, Layers> || ...);
};

template <class F, class... Layers, class L>
struct format_choice<only<F, Layers...>, L> {
  using type = std::conditional_t<only<F, Layers...>::template lists<L>, F, plain>;
};
template <class L, class F, class... Layers>
requires(only<F, Layers...>::template lists<L>) struct reformat<L, only<F, Layers...>> {
  using type = reformatted<L, F>;
};
template <class F, class... Layers>
inline constexpr bool needs_calibration<only<F, Layers...>> = needs_calibration<F>;
template <class F, class... Layers>
inline constexpr bool keeps_rows_apart<only<F, Layers...>> = keeps_rows_apart<F>;

}  // namespace deepseek
