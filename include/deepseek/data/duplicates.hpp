// SPDX-License-Identifier: Apache-2.0
// Which texts were seen before. Exact: equal after lower-casing ASCII, and with each run of spaces
// made one. Near: their sets of 3-word shingles A, B have |A & B| / |A | B| >= threshold;
// candidates are found by minhash signatures in bands (rows^-th root of 1 / bands is where half are
// found), and every candidate is compared exactly, so no text is called near that is not. Hashes
// are our own 64-bit ones: the same answers on every machine. Cost: texts x hashes x words,
// comparisons with candidates only. Sources: Broder 1997 (minhash); Leskovec et al., Mining of
// Massive Datasets, 3.4 (bands).
#pragma once

#include <algorithm>
#include <limits>
#include <string>
#include <unordered_map>
#include <vector>

#include "deepseek/core/error.hpp"
#include "deepseek/data/characters.hpp"

namespace deepseek {

// Lower-case ASCII, single spaces, none at the ends.
inline std::string normalized_text(std::string_view text) {
  std::string out;
  bool gap = false;
  while (!text.empty()) {
    const character c = next_character(text);
    if (is_space(c.code)) {
      gap = !out.empty();
    } else {
      if (gap) out += ' ';
      gap = false;
      const bool capital = c.code >= 'A' && c.code <= 'Z';
      if (capital) out += static_cast<char>(c.code + ('a' - 'A'));
      if (!capital) out += text.substr(0, c.bytes);
    }
    text.remove_prefix(c.bytes);
  }
  return out;
}

// FNV-1a, and a finalizer that spreads it (Steele et al. 2014, the mix of SplitMix64).
constexpr std::uint64_t mix_hash(std::uint64_t h) {
  h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9U;
  h = (h ^ (h >> 27)) * 0x94d049bb133111ebU;
  return h ^ (h >> 31);
}
inline std::uint64_t hash_text(std::string_view text) {
  std::uint64_t h = 0xcbf29ce484222325U;
  for (const char ch : text) h = (h ^ static_cast<unsigned char>(ch)) * 0x100000001b3U;
  return mix_hash(h);
}

// Hashes of every `words` words in a row, sorted, without repeats; of all words where there are
// fewer.
inline std::vector<std::uint64_t> shingles(std::string_view normalized, std::size_t words = 3) {
  std::vector<std::uint64_t> each, out;
  while (!normalized.empty()) {
    const std::size_t end = std::min(normalized.find(' '), normalized.size());
    each.push_back(hash_text(normalized.substr(0, end)));
    normalized.remove_prefix(std::min(end + 1, normalized.size()));
  }
  const std::size_t n = std::min(words, each.size());
  for (std::size_t i = 0; n > 0 && i + n <= each.size(); ++i) {
    std::uint64_t h = 0;
    for (std::size_t j = 0; j < n; ++j) h = mix_hash(h * 31 + each[i + j]);
    out.push_back(h);
  }
  std::ranges::sort(out);
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

// |A & B| / |A | B| of sorted sets; two empty sets are equal.
inline double jaccard(const std::vector<std::uint64_t>& a, const std::vector<std::uint64_t>& b) {
  std::size_t both = 0;
  auto i = a.begin();
  for (auto j = b.begin(); i != a.end() && j != b.end();) {
    if (*i == *j)
      ++both, ++i, ++j;
    else if (*i < *j)
      ++i;
    else
      ++j;
  }
  const std::size_t any = a.size() + b.size() - both;
  return any == 0 ? 1.0 : static_cast<double>(both) / static_cast<double>(any);
}

struct duplicates_config {
  double near = 0.8;                 // Jaccard index from which a text is near another, in (0, 1]
  std::size_t bands = 20, rows = 5;  // of the signature: half of the pairs at 0.51 are found
};

// Texts come one by one; what is kept is compared with what comes.
class duplicate_filter {
 public:
  enum class verdict { fresh, equal, near };

  explicit duplicate_filter(const duplicates_config& config = {}) : config_(config) {
    require(config.near > 0 && config.near <= 1 && config.bands > 0 && config.rows > 0,
            error_code::invalid_argument, "duplicate_filter: near is ", config.near, ", bands ",
            config.bands, ", rows ", config.rows,
            "; pass a share in (0, 1] and numbers of bands and rows > 0");
  }

  // Says what the text is; a fresh one is remembered.
  verdict add(std::string_view text) {
    const std::string plain = normalized_text(text);
    auto& same = by_hash_[hash_text(plain)];
    for (const std::size_t i : same) {
      if (texts_[i] == plain) return verdict::equal;
    }
    auto set = shingles(plain);
    const auto keys = bands_of(set);
    for (const std::uint64_t key : keys) {
      const auto found = by_band_.find(key);
      if (found == by_band_.end()) continue;
      for (const std::size_t i : found->second) {
        if (jaccard(set, sets_[i]) >= config_.near) return verdict::near;
      }
    }
    for (const std::uint64_t key : keys) by_band_[key].push_back(texts_.size());
    same.push_back(texts_.size());
    texts_.push_back(plain);
    sets_.push_back(std::move(set));
    return verdict::fresh;
  }

 private:
  std::vector<std::uint64_t> bands_of(const std::vector<std::uint64_t>& set) const {
    std::vector<std::uint64_t> keys;
    if (set.empty()) return keys;
    for (std::size_t band = 0; band < config_.bands; ++band) {
      std::uint64_t key = band;
      for (std::size_t row = 0; row < config_.rows; ++row) {
        const std::uint64_t salt = mix_hash(band * config_.rows + row + 1);
        std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
        for (const std::uint64_t h : set) least = std::min(least, mix_hash(h ^ salt));
        key = mix_hash(key * 31 + least);
      }
      keys.push_back(key);
    }
    return keys;
  }

  duplicates_config config_;
  std::vector<std::string> texts_;
  std::vector<std::vector<std::uint64_t>> sets_;
  std::unordered_map<std::uint64_t, std::vector<std::size_t>> by_hash_, by_band_;
};

}  // namespace deepseek
