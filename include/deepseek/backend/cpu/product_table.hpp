// SPDX-License-Identifier: Apache-2.0
// Which kernel a product takes by the weights and the rows of x, from the functions that choose it:
//   std::cout << ds::product_table();
//   for (const ds::product_kernel& k : ds::product_kernels()) ...
// tiles: the heights of the register tiles that the rows are cut into, in order ("8 x 4, 2" is
// four of 8 and one of 2); columns: how many of the output a tile has. Rows of a tile that are not
// there are computed and dropped. What is chosen follows from the instruction set of the
// build alone (simd::instruction_set()), never from a clock. Weights of unusual strides, other
// types and outputs without contiguous columns take other ways (the ops say which).
#pragma once

#include "deepseek/backend/cpu/int4_int8_gemm.hpp"
#include "deepseek/backend/cpu/narrow_gemm.hpp"
#include "deepseek/backend/cpu/quant_gemm.hpp"
#include "deepseek/backend/cpu/weight_gemm.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace deepseek {

struct product_kernel {
  std::string_view weights;
  index_t rows;
  std::string_view way;
  std::vector<int> tiles;
  index_t columns;
};

namespace product_choice {

inline constexpr index_t shown_rows[] = {1, 2, 4, 8, 16, 32, 48, 128};
inline constexpr std::string_view turning = "weights turn in registers", panels = "panels",
                                  written = "panels written first",
                                  words = "words, unpacked in registers",
                                  decoded = "panels decoded first";

// next(left): the height of the next tile where so many rows are left.
template <class Next>
std::vector<int> cut(index_t rows, const Next& next) {
  std::vector<int> tiles;
  for (index_t left = rows; left > 0; left -= tiles.back()) tiles.push_back(next(left));
  return tiles;
}
template <class Form>
std::vector<int> dot_tiles(index_t rows) {
  return cut(rows, [](index_t left) { return kernels::dot_rows<Form>(left); });
}
inline std::vector<int> float_tiles(index_t rows) {
  const kernels::row_strips<float> strips(rows);
  std::vector<int> tiles;
  for (index_t s = 0; s < strips.count; ++s) {
    tiles.push_back(kernels::padded_panel_rows<float>(strips.rows(s)));
  }
  return tiles;
}
inline constexpr index_t register_columns = simd::pack<float>::width;

inline product_kernel packed_float(index_t rows) {
  return {"float, packed", rows, panels, float_tiles(rows), kernels::panel_size<float>::columns};
}
inline product_kernel plain_float(index_t rows) {
  using tile = kernels::tile_size<float>;
  if (kernels::rows_turn<float>(rows)) {
    return {
        "float, a layer's plain", rows, turning, {kernels::turned_height(rows)}, register_columns};
  }
  if (rows <= tile::rows) {
    return {"float, a layer's plain", rows, written, {static_cast<int>(rows)}, tile::columns};
  }
  return {"float, a layer's plain", rows, written, float_tiles(rows),
          kernels::panel_size<float>::columns};
}
template <class Form>
product_kernel packed_narrow(std::string_view name, index_t rows) {
  return {name, rows, panels, dot_tiles<Form>(rows), kernels::dot_size<Form>::columns};
}
template <class Form>
product_kernel plain_narrow(std::string_view name, index_t rows) {
  if (!kernels::TiledForm<Form> && rows <= kernels::most_turned_rows) {
    return {name, rows, turning, {kernels::turned_height(rows)}, register_columns};
  }
  return {name, rows, written, dot_tiles<Form>(rows), kernels::dot_size<Form>::columns};
}
inline product_kernel int4_by_int8(index_t rows) {
  using few = kernels::int4_few;
  if (rows <= few::most) {
    return {"int4 by int8 inputs", rows, words, cut(rows, few::tile), kernels::word_block::lanes};
  }
  return {"int4 by int8 inputs", rows, decoded, cut(rows, kernels::int4_rows),
          kernels::int4_tile::columns};
}

}  // namespace product_choice

inline std::vector<product_kernel> product_kernels() {
  namespace choice = product_choice;
  std::vector<product_kernel> all;
  const auto add = [&](const auto& of) {
    for (const index_t rows : choice::shown_rows) all.push_back(of(rows));
  };
  using of_bf16 = narrow_form<bf16>;
  using of_f16 = narrow_form<f16>;
  add(choice::packed_float);
  add(choice::plain_float);
  add([](index_t m) { return choice::packed_narrow<of_bf16>("bf16, packed", m); });
  add([](index_t m) { return choice::plain_narrow<of_bf16>("bf16, a layer's plain", m); });
  add([](index_t m) { return choice::packed_narrow<of_f16>("f16, packed", m); });
  add([](index_t m) { return choice::plain_narrow<of_f16>("f16, a layer's plain", m); });
  add([](index_t m) { return choice::packed_narrow<kernels::int8_form>("int8", m); });
  add(choice::int4_by_int8);
  return all;
}

// "8 x 4, 2": runs of equal tiles.
inline std::string tiles_text(const std::vector<int>& tiles) {
  std::string text;
  for (std::size_t i = 0, run; i < tiles.size(); i += run) {
    for (run = 1; i + run < tiles.size() && tiles[i + run] == tiles[i];) ++run;
    text += (i > 0 ? ", " : "") + std::to_string(tiles[i]);
    if (run > 1) text += " x " + std::to_string(run);
  }
  return text;
}

// A line for each kind of weights and way: "int8: panels, tiles of 32 columns; rows 1: 1; 2: 2;
// ...".
inline std::string product_table() {
  std::string text = "products for " + std::string(simd::instruction_set());
  const product_kernel* before = nullptr;
  const auto all = product_kernels();
  for (const product_kernel& kernel : all) {
    const bool same = before != nullptr && before->weights == kernel.weights &&
                      before->way == kernel.way && before->columns == kernel.columns;
    text += same ? "; "
                 : "\n" + std::string(kernel.weights) + ": " + std::string(kernel.way) +
                       ", tiles of " + std::to_string(kernel.columns) + " columns; rows ";
    text += std::to_string(kernel.rows) + ": " + tiles_text(kernel.tiles);
    before = &kernel;
  }
  return text + "\n";
}

}  // namespace deepseek
