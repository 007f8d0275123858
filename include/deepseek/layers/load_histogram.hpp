// SPDX-License-Identifier: Apache-2.0
// load_histogram(parameters): what each expert of each router got in training, as text: the running
// share of the assignments (the buffer `load`, layers/gate.hpp), a line and a bar for each expert;
// a bar reaches the middle mark at an equal share and is full at twice that ('>': more). Where
// there are more than `lines` experts, a line is the mean of several neighbours. Host memory.
// Errors: invalid_argument (width, lines), nonfinite (a load that is negative or not finite).
#pragma once

#include "deepseek/core/parameters.hpp"

#include <algorithm>
#include <cstdio>
#include <string>

namespace deepseek {

struct histogram_style {
  int width = 40;      // characters of a full bar, >= 2
  index_t lines = 64;  // at most, for each router, >= 1
};

// "########|###" of `width` characters; ratio 1 is the middle.
inline std::string load_bar(double ratio, int width) {
  const int half = width / 2, full = 2 * half;
  const int length = std::clamp(static_cast<int>(ratio * half + 0.5), 0, full);
  std::string bar(static_cast<std::size_t>(full), ' ');
  std::fill_n(bar.begin(), length, '#');
  if (ratio > 2) bar.back() = '>';
  return bar.substr(0, static_cast<std::size_t>(half)) + "|" +
         bar.substr(static_cast<std::size_t>(half));
}

// One router: shares of the experts, which need not sum to one.
template <class V>
std::string load_histogram_of(const std::string& name, const V& load, histogram_style how = {}) {
  require(how.width >= 2 && how.width <= 1000 && how.lines >= 1, error_code::invalid_argument,
          "load_histogram: width is ", how.width, ", lines ", how.lines,
          "; pass a width of 2 .. 1000 and at least one line");
  const index_t experts = load.extent(0);
  const index_t in_line = experts / how.lines + (experts % how.lines > 0 ? 1 : 0);
  double sum = 0, most = 0, least = 0;
  for (index_t e = 0; e < experts; ++e) {
    const double share = static_cast<double>(load(e));
    require(share >= 0 && share <= 1e300, error_code::nonfinite, "load_histogram: ", name,
            ": the load of expert ", e, " is ", share, "; loads are finite and >= 0");
    sum += share;
  }
  char text[160];
  std::snprintf(text, sizeof text, "%s: %lld experts", name.c_str(),
                static_cast<long long>(experts));
  if (!(sum > 0)) return std::string(text) + ", nothing counted yet\n";
  std::string lines;
  for (index_t e = 0; e < experts; e += in_line) {
    const index_t end = std::min(e + in_line, experts);
    double part = 0;
    for (index_t i = e; i < end; ++i) {
      const double ratio = static_cast<double>(load(i)) / sum * static_cast<double>(experts);
      part += ratio / static_cast<double>(end - e);
      most = std::max(most, ratio);
      least = i == 0 ? ratio : std::min(least, ratio);
    }
    char line[48];
    std::snprintf(line, sizeof line, "%5lld ", static_cast<long long>(e));
    lines += line + load_bar(part, how.width);
    std::snprintf(line, sizeof line, " %5.1f %%\n", 100 * part / static_cast<double>(experts));
    lines += line;
  }
  std::string head(text);
  std::snprintf(text, sizeof text, ", an equal share is %.1f %%, least %.2f and most %.2f of it\n",
                100.0 / static_cast<double>(experts), least, most);
  return head + text + lines;
}

// Every router of a model's parameters.
template <class P>
std::string load_histogram(const P& parameters, histogram_style how = {}) {
  std::string all;
  visit(
      [&](const tensor_name& at, const auto& t) {
        const std::size_t size = at.path.size();
        if (size < 9 || at.path.compare(size - 9, 9, "gate.load") != 0) return;
        if constexpr (std::remove_cvref_t<decltype(t)>::rank == 1) {
          all += load_histogram_of(at.path.substr(0, size - 5), t.view(), how);
        }
      },
      parameters);
  return all;
}

}  // namespace deepseek
