// SPDX-License-Identifier: Apache-2.0
// clean: which texts of a collection are worth training on. Each is asked in turn: is it of the
// right length in words, whole (broken_share), in one script, and new (duplicate_filter)? The first
// no decides. Texts are looked at in order, so of equal ones the first is kept.
// Languages are told by their script only: simple statistics of characters cannot tell languages
// that share one. A classifier of one's own goes in as `accepts`.
// Errors: invalid_argument (limits that cross, shares outside [0, 1]).
#pragma once

#include <functional>
#include <span>

#include "deepseek/data/duplicates.hpp"

namespace deepseek {

struct cleaning_config {
  std::size_t fewest_words = 10, most_words = 512;
  double most_broken = 0.01;     // of a text's characters
  double one_script = 0.9;       // share of a text's letters in its largest script
  script wanted = script::none;  // none: whichever is largest
  duplicates_config duplicates = {};
  std::function<bool(std::string_view)> accepts = {};  // asked last but for duplicates
};

enum class cleaning_reason { kept, too_short, too_long, broken, mixed, refused, equal, near };
inline constexpr std::size_t cleaning_reason_count = 8;

struct cleaning_result {
  std::vector<std::size_t> kept;  // positions in the collection
  std::vector<cleaning_reason> reasons;
  std::array<std::size_t, cleaning_reason_count> counts{};
  std::size_t count(cleaning_reason r) const { return counts[static_cast<std::size_t>(r)]; }
};

namespace detail {

inline void check(const cleaning_config& c) {
  require(c.fewest_words <= c.most_words, error_code::invalid_argument, "clean: from ",
          c.fewest_words, " to ", c.most_words, " words; pass limits that do not cross");
  require(c.most_broken >= 0 && c.most_broken <= 1 && c.one_script >= 0 && c.one_script <= 1,
          error_code::invalid_argument, "clean: most_broken is ", c.most_broken, ", one_script ",
          c.one_script, "; pass shares in [0, 1]");
}

inline cleaning_reason judge_alone(std::string_view text, const cleaning_config& c) {
  const std::size_t words = word_count(text);
  if (words < c.fewest_words) return cleaning_reason::too_short;
  if (words > c.most_words) return cleaning_reason::too_long;
  if (broken_share(text) > c.most_broken) return cleaning_reason::broken;
  const script_shares scripts = scripts_of(text);
  const script wanted = c.wanted == script::none ? scripts.largest : c.wanted;
  if (scripts.letters > 0 && scripts.share(wanted) < c.one_script) return cleaning_reason::mixed;
  if (c.accepts && !c.accepts(text)) return cleaning_reason::refused;
  return cleaning_reason::kept;
}

}  // namespace detail

// Texts: any range of what converts to std::string_view.
template <class Texts>
cleaning_result clean(const Texts& texts, const cleaning_config& config = {}) {
  detail::check(config);
  cleaning_result out;
  duplicate_filter seen(config.duplicates);
  for (const std::string_view text : texts) {
    cleaning_reason reason = detail::judge_alone(text, config);
    if (reason == cleaning_reason::kept) {
      const auto verdict = seen.add(text);
      if (verdict == duplicate_filter::verdict::equal) reason = cleaning_reason::equal;
      if (verdict == duplicate_filter::verdict::near) reason = cleaning_reason::near;
    }
    if (reason == cleaning_reason::kept) out.kept.push_back(out.reasons.size());
    out.reasons.push_back(reason);
    ++out.counts[static_cast<std::size_t>(reason)];
  }
  return out;
}

}  // namespace deepseek
