// SPDX-License-Identifier: Apache-2.0
// Targets of tagging and classification, for cross_entropy.
// BIO: label 0 is O, 1 + 2 k begins an entity of kind k, 2 + 2 k is inside one.
//   bio_labels: entities (not overlapping, any order) -> one label a token.
//   bio_entities: labels -> entities, in order. An I that no B or I of its kind precedes begins an
//   entity (what a model predicts is not always well formed), or is an error in strict mode.
// last_row_targets: one class a sequence -> a target at its last row, `ignore` elsewhere (a head on
// every row then classifies sequences; rewards are read there, too).
// Errors: index_range (ends, kinds, labels), invalid_argument (entities that overlap; strict).
// Source: Ramshaw and Marcus 1995, section 4.
#pragma once

#include <algorithm>
#include <compare>

#include "deepseek/data/masking.hpp"

namespace deepseek {

struct entity {
  std::size_t first = 0, last = 0;  // tokens first .. last - 1, at least one
  std::int32_t kind = 0;            // >= 0
  auto operator<=>(const entity&) const = default;
};

constexpr std::int32_t bio_label_count(std::int32_t kinds) {
  return 1 + 2 * kinds;
}

inline std::vector<std::int32_t> bio_labels(std::span<const entity> entities, std::size_t tokens) {
  std::vector<std::int32_t> labels(tokens, 0);
  for (std::size_t i = 0; i < entities.size(); ++i) {
    const entity& e = entities[i];
    constexpr std::int32_t last_kind = (INT32_MAX - 2) / 2;
    require(e.first < e.last && e.last <= tokens && e.kind >= 0 && e.kind <= last_kind,
            error_code::index_range, "bio_labels: entity ", i, " is tokens ", e.first, " .. ",
            e.last, " of kind ", e.kind, " among ", tokens,
            " tokens; pass first < last <= tokens and a kind of 0 .. ", last_kind);
    for (std::size_t t = e.first; t < e.last; ++t) {
      require(labels[t] == 0, error_code::invalid_argument, "bio_labels: entity ", i,
              " meets another at token ", t, "; a token is of one entity");
      labels[t] = (t == e.first ? 1 : 2) + 2 * e.kind;
    }
  }
  return labels;
}

enum class bio_reading { lenient, strict };

inline std::vector<entity> bio_entities(token_span labels, bio_reading how = bio_reading::lenient) {
  std::vector<entity> out;
  bool open = false;
  for (std::size_t t = 0; t < labels.size(); ++t) {
    const std::int32_t label = labels[t];
    require(label >= 0, error_code::index_range, "bio_entities: label ", t, " is ", label,
            "; labels are >= 0");
    const std::int32_t kind = (label - 1) / 2;
    const bool inside = label > 0 && label % 2 == 0;
    const bool goes_on = inside && open && out.back().kind == kind;
    require(!inside || goes_on || how == bio_reading::lenient, error_code::invalid_argument,
            "bio_entities: label ", t, " is inside kind ", kind,
            " where no such entity is open; begin it with ", 1 + 2 * kind);
    if (goes_on) {
      out.back().last = t + 1;
    } else if (label > 0) {
      out.push_back({t, t + 1, kind});
    }
    open = label > 0;
  }
  return out;
}

// What counts in tagging: entities that match in ends and kind. All 0 without entities.
struct tagging_score {
  double precision = 0, recall = 0, f1 = 0;
};
inline tagging_score score_entities(std::vector<entity> predicted, std::vector<entity> wanted) {
  std::ranges::sort(predicted);
  std::ranges::sort(wanted);
  std::vector<entity> both;
  std::ranges::set_intersection(predicted, wanted, std::back_inserter(both));
  const auto share = [&](std::size_t n) {
    return n == 0 ? 0.0 : static_cast<double>(both.size()) / static_cast<double>(n);
  };
  const double p = share(predicted.size()), r = share(wanted.size());
  return {p, r, p + r > 0 ? 2 * p * r / (p + r) : 0.0};
}

inline std::vector<std::int32_t> last_row_targets(token_span classes, token_span offsets,
                                                  std::int32_t ignore = -100) {
  require(offsets.size() == classes.size() + 1, error_code::index_range,
          "last_row_targets: ", classes.size(), " classes for ", offsets.size(),
          " offsets; pass one offset more than classes");
  const auto rows = static_cast<std::size_t>(std::max(offsets.back(), 0));
  detail::require_offsets(offsets, rows);
  std::vector<std::int32_t> targets(rows, ignore);
  for (std::size_t s = 0; s < classes.size(); ++s) {
    require(offsets[s] < offsets[s + 1], error_code::index_range, "last_row_targets: sequence ", s,
            " is empty; leave it out");
    targets[static_cast<std::size_t>(offsets[s + 1]) - 1] = classes[s];
  }
  return targets;
}

}  // namespace deepseek
