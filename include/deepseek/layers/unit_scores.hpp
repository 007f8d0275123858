// SPDX-License-Identifier: Apache-2.0
// How much a unit counts, and which are kept.
//   by weights   score = sum of |w| over the unit's trained slices (L1)
//   by activity  score = mean over rows and columns of |input| where the unit's outputs are read
// In a stack of experts every expert is judged by itself. The `keep` largest are kept; of equal
// ones the first. Sums in double in the order of memory. Errors: nonfinite (a score),
// invalid_argument (nothing was observed). Sources: Li et al. 2017 (L1 of filters); Hu et al. 2016
// (activity).
#pragma once

#include "deepseek/layers/activity.hpp"
#include "deepseek/layers/units.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace deepseek {

// A tensor's memory as [sets, outer, units, size]: element i is of set i / (outer units size) and
// of unit i / size mod units. Sets are the experts of a stack.
struct unit_blocks {
  index_t sets = 1, outer = 1, units = 1, size = 1;
  index_t set_of(index_t i) const { return i / (outer * units * size); }
  index_t unit_of(index_t i) const { return i / size % units; }
};
template <class Tensor>
unit_blocks blocks_of(const unit_slice& s, const Tensor& t, index_t units) {
  static_assert(is_tensor<std::remove_cvref_t<Tensor>>,
                "deepseek::prune: this net's weights are codes; prune the plain net and quantize "
                "what is left");
  const auto v = t.view();
  const int axis = s.axis == leading_axis ? 0 : v.rank - 1 - s.axis;
  unit_blocks b;
  b.sets = is_stacked<std::remove_cvref_t<Tensor>> && axis > 0 ? v.extent(0) : 1;
  b.units = units;
  for (int i = 0; i < axis; ++i) b.outer *= v.extent(i);
  for (int i = axis + 1; i < v.rank; ++i) b.size *= v.extent(i);
  b.outer /= b.sets;
  b.size *= s.width;
  return b;
}

using score_list = std::vector<double>;  // [sets, units]

template <class Layer, class P>
score_list weight_scores(const P& p) {
  constexpr index_t units = units_of<Layer>::count;
  score_list scores;
  units_of<Layer>::slices(
      [&](const unit_slice& s, const auto& t) {
        if (s.role == field_role::state) return;
        const unit_blocks b = blocks_of(s, t, units);
        scores.resize(static_cast<std::size_t>(b.sets * units), 0.0);
        for (index_t i = 0; i < t.size(); ++i) {
          const double w = std::fabs(static_cast<double>(t.data()[i]));
          scores[static_cast<std::size_t>(b.set_of(i) * units + b.unit_of(i))] += w;
        }
      },
      p);
  return scores;
}

template <class Layer, class K>
score_list activity_scores(const K& k, const char* path) {
  constexpr index_t units = units_of<Layer>::count;
  const column_activity& seen = units_of<Layer>::inputs(k);
  constexpr index_t width = units_of<Layer>::input_width;
  require(!seen.rows.empty() && *std::ranges::max_element(seen.rows) > 0,
          error_code::invalid_argument, "prune: ", path,
          " has seen no rows; call observe_activity with typical inputs first");
  score_list scores(seen.rows.size() * static_cast<std::size_t>(units), 0.0);
  for (std::size_t j = 0; j < seen.absolute.size(); ++j) {
    const std::size_t set = j / static_cast<std::size_t>(units * width);
    const double rows = static_cast<double>(std::max<index_t>(seen.rows[set], 1));
    scores[j / static_cast<std::size_t>(width)] +=
        seen.absolute[j] / (rows * static_cast<double>(width));
  }
  return scores;
}

// The largest `keep` of scores [sets, units], positions rising within each set.
inline std::vector<std::vector<index_t>> best_units(const score_list& scores, index_t units,
                                                    index_t keep) {
  for (const double s : scores) {
    require(std::isfinite(s), error_code::nonfinite, "prune: a unit's score is ", s,
            "; the weights must be finite");
  }
  std::vector<std::vector<index_t>> kept;
  for (auto first = scores.begin(); first != scores.end(); first += units) {
    std::vector<index_t> order(static_cast<std::size_t>(units));
    std::iota(order.begin(), order.end(), index_t{0});
    std::ranges::stable_sort(order, [&](index_t i, index_t j) { return first[i] > first[j]; });
    order.resize(static_cast<std::size_t>(keep));
    std::ranges::sort(order);
    kept.push_back(std::move(order));
  }
  return kept;
}

// By activity where something was observed (K keeps it), else by weights. Experts, whose outputs no
// linear layer reads, are judged by their weights.
template <class Layer, class P, class K>
std::vector<std::vector<index_t>> chosen_units(const std::string& path, const P& p, const K& k,
                                               index_t keep) {
  constexpr index_t units = units_of<Layer>::count;
  if constexpr (keeps_activity<K> && HasInputs<Layer>) {
    return best_units(activity_scores<Layer>(k, path.c_str()), units, keep);
  } else {
    return best_units(weight_scores<Layer>(p), units, keep);
  }
}

}  // namespace deepseek
