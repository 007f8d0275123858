// SPDX-License-Identifier: Apache-2.0
// contrastive on the device: a warp or a block for each row and each column, then the mean, or the
// gradient element by element; see ops/contrastive.hpp. Columns are read across rows: n is a batch.
#pragma once

#include "deepseek/backend/cuda/elementwise.hpp"
#include "deepseek/backend/cuda/number_sum.hpp"
#include "deepseek/backend/rows/convert.hpp"
#include "deepseek/core/math.hpp"
#include "deepseek/ops/contrastive.hpp"

#include <cmath>

namespace deepseek {

namespace cuda_contrastive {

// Line 2 i: row i, 2 i + 1: column i.
template <class S>
DEEPSEEK_HOST_DEVICE auto line_of(const S& scores, index_t line) {
  using Row = view<typename S::element_type, typename S::space, dyn>;
  const index_t i = line / 2;
  if (line % 2 == 0)
    return Row(scores.data() + i * scores.stride(0), {scores.extent(1)}, {scores.stride(1)});
  return Row(scores.data() + i * scores.stride(1), {scores.extent(0)}, {scores.stride(0)});
}

// The greatest number of each line, and the sum of e^(x - greatest).
template <class S, class Lines>
struct exponentials {
  using A = typename Lines::value_type;
  S scores;
  Lines lines;  // [2 n, 2]
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t line) const {
    const auto x = line_of(scores, line);
    A most = -math::infinity<A>;
    for (index_t i = team.rank(); i < x.extent(0); i += team.size()) {
      const A value = convert_to<A>(x(i));
      if (value > most || value != value) most = value;
    }
    most = team.max(most);
    const A sum =
        row_sum(team, x.extent(0), [&](index_t i) { return std::exp(convert_to<A>(x(i)) - most); });
    if (team.rank() == 0) {
      lines(line, 0) = most;
      lines(line, 1) = sum;
    }
  }
};
template <class S, class Lines>
struct loss_term {
  using A = typename Lines::value_type;
  S scores;
  Lines lines;
  DEEPSEEK_HOST_DEVICE double operator()(index_t line) const {
    const A own = convert_to<A>(scores(line / 2, line / 2));
    return static_cast<double>(std::log(lines(line, 1)) - (own - lines(line, 0)));
  }
};
template <class S, class DS, class Lines>
struct gradient {
  using A = typename Lines::value_type;
  S scores;
  DS dscores;
  Lines lines;
  A factor;
  DEEPSEEK_HOST_DEVICE void operator()(index_t at) const {
    const index_t i = at / scores.extent(1), j = at % scores.extent(1);
    const A x = convert_to<A>(scores(i, j)), hit = i == j ? A(1) : A(0);
    const A by_row = std::exp(x - lines(2 * i, 0)) / lines(2 * i, 1);
    const A by_column = std::exp(x - lines(2 * j + 1, 0)) / lines(2 * j + 1, 1);
    dscores(i, j) =
        convert_to<typename DS::value_type>(factor * ((by_row - hit) + (by_column - hit)));
  }
};

template <class A, DeviceBackend B, class S>
auto find_exponentials(const B& b, const S& scores) {
  using Lines = view<A, typename B::space, dyn, dyn>;
  const index_t n = scores.extent(0);
  const Lines lines = b.workspace().template make<A, dyn, dyn>(2 * n, index_t{2});
  run_each_row(b, 2 * n, n, exponentials<S, Lines>{scores, lines});
  return lines;
}

}  // namespace cuda_contrastive

template <DeviceBackend B, class S>
double contrastive_impl(const B& b, const S& scores) {
  using A = accumulate_t<typename S::value_type>;
  const scope freed(b.workspace());
  const index_t n = scores.extent(0);
  const auto lines = cuda_contrastive::find_exponentials<A>(b, scores);
  using Lines = std::remove_const_t<decltype(lines)>;
  return read_sum(b, 2 * n, cuda_contrastive::loss_term<S, Lines>{scores, lines}) /
         (2 * static_cast<double>(n));
}

template <DeviceBackend B, class S, class DS>
void contrastive_gradient_impl(const B& b, const S& scores, const DS& dscores, double scale) {
  using A = accumulate_t<typename DS::value_type>;
  const scope freed(b.workspace());
  const auto lines = cuda_contrastive::find_exponentials<A>(b, scores);
  using Lines = std::remove_const_t<decltype(lines)>;
  const A factor = static_cast<A>(scale / (2 * static_cast<double>(scores.extent(0))));
  run_each_element(b, scores.size(),
                   cuda_contrastive::gradient<S, DS, Lines>{scores, dscores, lines, factor});
}

}  // namespace deepseek
