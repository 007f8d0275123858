// SPDX-License-Identifier: Apache-2.0
// Pairwise combination: each row starts from a pair not met yet and is filled greedily with the
// level that meets most of the open pairs.
#include "support/cases.hpp"

#include <set>
#include <utility>

namespace support {
namespace {

using choice = std::pair<std::size_t, std::size_t>;  // factor, level
using open_pairs = std::set<std::pair<choice, choice>>;
constexpr std::size_t unset = static_cast<std::size_t>(-1);

std::pair<choice, choice> ordered(choice a, choice b) {
  return a.first < b.first ? std::pair{a, b} : std::pair{b, a};
}

open_pairs all_pairs(const std::vector<std::size_t>& levels) {
  open_pairs pairs;
  for (std::size_t f = 0; f < levels.size(); ++f) {
    for (std::size_t g = f + 1; g < levels.size(); ++g) {
      for (std::size_t a = 0; a < levels[f]; ++a) {
        for (std::size_t b = 0; b < levels[g]; ++b) pairs.insert({{f, a}, {g, b}});
      }
    }
  }
  return pairs;
}

std::size_t newly_met(const open_pairs& open, const std::vector<std::size_t>& row, choice next) {
  std::size_t met = 0;
  for (std::size_t f = 0; f < row.size(); ++f) {
    if (f != next.first && row[f] != unset) met += open.count(ordered({f, row[f]}, next));
  }
  return met;
}

std::size_t best_level(const open_pairs& open, const std::vector<std::size_t>& row,
                       std::size_t factor, std::size_t levels) {
  // Starting elsewhere in each row spreads the choices where nothing is left to meet.
  std::size_t turn = factor;
  for (std::size_t level : row) turn += level == unset ? 0 : level;
  std::size_t best = turn % levels, most = 0;
  for (std::size_t k = 0; k < levels; ++k) {
    const std::size_t level = (turn + k) % levels;
    const std::size_t met = newly_met(open, row, {factor, level});
    if (met > most) {
      most = met;
      best = level;
    }
  }
  return best;
}

}  // namespace

std::vector<std::size_t> sizes_between(std::size_t low, std::size_t high) {
  std::vector<std::size_t> out;
  for (std::size_t size : sizes) {
    if (low <= size && size <= high) out.push_back(size);
  }
  return out;
}

std::vector<std::vector<std::size_t>> pairwise(const std::vector<std::size_t>& levels,
                                               std::size_t at_most) {
  std::vector<std::vector<std::size_t>> rows;
  for (std::size_t count : levels) {
    if (count == 0) return rows;
  }
  if (levels.size() == 1) {
    for (std::size_t level = 0; level < levels[0]; ++level) rows.push_back({level});
  }
  open_pairs open = all_pairs(levels);
  while (!open.empty()) {
    std::vector<std::size_t> row(levels.size(), unset);
    const auto start = *open.begin();
    row[start.first.first] = start.first.second;
    row[start.second.first] = start.second.second;
    for (std::size_t f = 0; f < levels.size(); ++f) {
      if (row[f] == unset) row[f] = best_level(open, row, f, levels[f]);
    }
    for (std::size_t f = 0; f < row.size(); ++f) {
      for (std::size_t g = f + 1; g < row.size(); ++g) open.erase({{f, row[f]}, {g, row[g]}});
    }
    rows.push_back(row);
  }
  if (at_most != 0 && rows.size() > at_most) {
    // Taken evenly, so that a cut list still meets every part of the table.
    std::vector<std::vector<std::size_t>> few;
    for (std::size_t i = 0; i < at_most; ++i) few.push_back(rows[i * rows.size() / at_most]);
    rows = few;
  }
  return rows;
}

}  // namespace support
