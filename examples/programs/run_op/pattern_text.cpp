// SPDX-License-Identifier: Apache-2.0
// run_op: patterns from text. A name and its sizes choose one of the types compiled here.
#include "run_op/pattern_text.hpp"

#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/bigbird.hpp"
#include "deepseek/pattern/block.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/compressed.hpp"
#include "deepseek/pattern/dilated.hpp"
#include "deepseek/pattern/fixed.hpp"
#include "deepseek/pattern/global_tokens.hpp"
#include "deepseek/pattern/random_blocks.hpp"
#include "deepseek/pattern/streaming.hpp"

#include <cctype>
#include <utility>
#include <vector>

namespace run_op {
namespace {

using ds::any_pattern;
using ds::error_code;
using ds::index_t;

template <index_t N>
using size_constant = std::integral_constant<index_t, N>;
// Of patterns with one size, and with more.
using single_sizes = std::integer_sequence<index_t, 0, 1, 2, 3, 4, 8, 64>;
using built_sizes = std::integer_sequence<index_t, 1, 2, 3, 64>;

// f(size_constant<size>), if that is one of the sizes compiled.
template <class Sizes, class F>
bool with_size(index_t size, F f) {
  return [&]<index_t... N>(std::integer_sequence<index_t, N...>) {
    return ((size == N && (f(size_constant<N>{}), true)) || ...);
  }
  (Sizes{});
}

// What is known of a part: whether it looks back only.
struct part {
  any_pattern pattern;
  bool past = false;
};

template <class P>
part part_of(const ds::pattern_key& key) {
  return {any_pattern(ds::make_pattern<P>(key)), ds::reach_of<P> == ds::reach::past};
}

class reader {
 public:
  reader(const std::string& text, const ds::pattern_key& key, const made_of_tensors& tables)
      : text_(text), key_(key), tables_(tables) {}

  part whole() {
    const part p = pattern();
    blanks();
    check(at_ == text_.size(), "text after the pattern");
    return p;
  }

 private:
  void check(bool right, const std::string& problem) const {
    ds::require(right, error_code::config, "pattern ", ds::escaped(text_), ": ", problem,
                " at place ", at_, "; write it as in C++, for instance both<causal, local<2>>");
  }
  void blanks() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  bool take(char wanted) {
    blanks();
    if (at_ >= text_.size() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }
  template <class Belongs>
  std::string run_of(Belongs belongs) {
    blanks();
    const std::size_t first = at_;
    while (at_ < text_.size() && belongs(static_cast<unsigned char>(text_[at_]))) ++at_;
    return text_.substr(first, at_ - first);
  }

  part pattern() {
    const std::string name = run_of([](int c) { return std::isalpha(c) != 0 || c == '_'; });
    check(!name.empty(), "no name of a pattern");
    check(++depth_ <= 16, "patterns inside one another, more than 16 deep,");
    part p;
    if (name == "both" || name == "either") {
      p = combination(name == "both");
    } else if (const auto table = tables_(name)) {
      p.pattern = table();
    } else {
      p = sized(name, sizes());
    }
    --depth_;
    return p;
  }

  // Parts one by one. A both<> of which one part looks back tells the others so: it holds causal.
  part combination(bool both) {
    check(take('<'), "no '<'");
    part all = pattern();
    while (take(',')) {
      const part next = pattern();
      const bool past = both ? all.past || next.past : all.past && next.past;
      if (!both) {
        all.pattern = any_pattern(ds::either<any_pattern, any_pattern>(all.pattern, next.pattern));
      } else if (past) {
        all.pattern = any_pattern(ds::both<ds::causal, any_pattern, any_pattern>(
            ds::causal{}, all.pattern, next.pattern));
      } else {
        all.pattern = any_pattern(ds::both<any_pattern, any_pattern>(all.pattern, next.pattern));
      }
      all.past = past;
    }
    check(take('>'), "no '>'");
    return all;
  }

  std::vector<index_t> sizes() {
    std::vector<index_t> all;
    if (!take('<')) return all;
    do {
      const std::string digits = run_of([](int c) { return std::isdigit(c) != 0; });
      check(!digits.empty() && digits.size() < 10, "no number");
      all.push_back(std::stoll(digits));
    } while (take(','));
    check(take('>'), "no '>'");
    return all;
  }

  part sized(const std::string& name, const std::vector<index_t>& n) {
    part p;
    const bool found = n.empty()       ? without_size(name, p)
                       : n.size() == 1 ? with_one(name, n[0], p)
                       : n.size() == 2 ? with_two(name, n[0], n[1], p)
                                       : n.size() == 3 && name == "fixed" && fixed(n, p);
    ds::require(
        found, error_code::unsupported, "pattern ", ds::escaped(text_), ": ", name, " with ",
        n.size(),
        " such sizes is not built; patterns: causal everyone local sliding windowed block "
        "strided dilated fixed global_tokens streaming random_blocks bigbird "
        "bigbird_published compressed both either; one size: 0 1 2 3 4 8 64; more: 1 2 3 64 each");
    return p;
  }

  template <class P>
  void make(part& p) const {
    p = part_of<P>(key_);
  }
  bool without_size(const std::string& name, part& p) const {
    if (name == "causal") return make<ds::causal>(p), true;
    if (name == "everyone") return make<ds::everyone>(p), true;
    return false;
  }
  bool with_one(const std::string& name, index_t size, part& p) const {
    bool known = false;
    with_size<single_sizes>(size, [&](auto n) {
      constexpr index_t N = decltype(n)::value;
      known = true;
      if (name == "local") return make<ds::local<N>>(p);
      if (name == "global_tokens") return make<ds::global_tokens<N>>(p);
      if constexpr (N >= 1) {
        if (name == "sliding") return make<ds::sliding<N>>(p);
        if (name == "windowed") return make<ds::windowed<N>>(p);
        if (name == "block") return make<ds::block<N>>(p);
        if (name == "strided") return make<ds::strided<N>>(p);
        if (name == "fixed") return make<ds::fixed<N>>(p);
        if (name == "compressed") return make<ds::compressed<N>>(p);
      }
      known = false;
    });
    return known;
  }
  bool with_two(const std::string& name, index_t first, index_t second, part& p) const {
    bool known = false;
    with_size<built_sizes>(first, [&](auto a) {
      with_size<built_sizes>(
          second, [&](auto b) { known = two<decltype(a)::value, decltype(b)::value>(name, p); });
    });
    return known;
  }
  template <index_t A, index_t B>
  bool two(const std::string& name, part& p) const {
    if (name == "dilated") return make<ds::dilated<A, B>>(p), true;
    if (name == "streaming") return make<ds::streaming<A, B>>(p), true;
    if constexpr (B <= 3) {
      if (name == "block") return make<ds::block<A, B>>(p), true;
      if (name == "random_blocks") return make<ds::random_blocks<A, B>>(p), true;
      if (name == "bigbird") return make<ds::bigbird<A, B>>(p), true;
      if (name == "bigbird_published") {
        return make<ds::bigbird<A, B, ds::bigbird_draws::published>>(p), true;
      }
    }
    if constexpr (B <= A) {
      if (name == "fixed") return make<ds::fixed<A, B>>(p), true;
    }
    return false;
  }
  // fixed<L, C, V> with V = 2.
  bool fixed(const std::vector<index_t>& n, part& p) const {
    bool known = false;
    with_size<built_sizes>(n[0], [&](auto l) {
      with_size<built_sizes>(n[1], [&](auto c) {
        constexpr index_t L = decltype(l)::value, C = decltype(c)::value;
        if constexpr (2 * C <= L) {
          if (n[2] == 2) known = (make<ds::fixed<L, C, 2>>(p), true);
        }
      });
    });
    return known;
  }

  const std::string& text_;
  const ds::pattern_key& key_;
  const made_of_tensors& tables_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

ds::any_pattern pattern_of_text(const std::string& text, const ds::pattern_key& key,
                                const made_of_tensors& tables) {
  return reader(text, key, tables).whole().pattern;
}

}  // namespace run_op
