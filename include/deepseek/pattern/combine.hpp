// SPDX-License-Identifier: Apache-2.0
// both<P...>: a pair is visible where every part shows it; either<P...>: where some part does.
// Any patterns, also of each other: both<causal, either<local<128>, random_blocks<64, 3>>>.
// A both<> of which one part looks back only tells its other parts so (pattern_scope::seen).
#pragma once

#include "deepseek/pattern/pattern.hpp"

namespace deepseek {

namespace combined {

// The parts as nested members, not a std::tuple: device code reads them.
template <class A, class... Rest>
struct parts {
  A first;
  parts<Rest...> rest;

  constexpr parts() = default;
  DEEPSEEK_HOST_DEVICE constexpr explicit parts(const A& a, const Rest&... r)
      : first(a), rest(r...) {}
  DEEPSEEK_HOST_DEVICE constexpr parts(const A& a, const parts<Rest...>& r) : first(a), rest(r) {}

  static constexpr parts make(const pattern_key& key) {
    return {make_pattern<A>(key), parts<Rest...>::make(key)};
  }
  DEEPSEEK_HOST_DEVICE constexpr parts bind(const pattern_scope& scope) const {
    return {bind_pattern(first, scope), rest.bind(scope)};
  }
  void check(const pattern_scope& scope) const {
    require_pattern(first, scope);
    rest.check(scope);
  }
  constexpr bool by_row() const { return depends_on_row(first) || rest.by_row(); }
  DEEPSEEK_HOST_DEVICE constexpr bool heads_alike() const {
    return deepseek::heads_alike(first) && rest.heads_alike();
  }
};

template <class A>
struct parts<A> {
  A first;

  constexpr parts() = default;
  DEEPSEEK_HOST_DEVICE constexpr explicit parts(const A& a) : first(a) {}
  static constexpr parts make(const pattern_key& key) { return parts{make_pattern<A>(key)}; }
  DEEPSEEK_HOST_DEVICE constexpr parts bind(const pattern_scope& scope) const {
    return parts{bind_pattern(first, scope)};
  }
  void check(const pattern_scope& scope) const { require_pattern(first, scope); }
  constexpr bool by_row() const { return depends_on_row(first); }
  DEEPSEEK_HOST_DEVICE constexpr bool heads_alike() const { return deepseek::heads_alike(first); }
};

// What both kinds do to two answers; the loops over parts are in `fold`.
struct all_of {
  DEEPSEEK_HOST_DEVICE static constexpr bool visible(bool a, bool b) { return a && b; }
  DEEPSEEK_HOST_DEVICE static constexpr coverage cover(coverage a, coverage b) {
    return a < b ? a : b;
  }
  DEEPSEEK_HOST_DEVICE static constexpr std::uint64_t bits(std::uint64_t a, std::uint64_t b) {
    return a & b;
  }
  template <class A, class B>
  DEEPSEEK_HOST_DEVICE static constexpr key_span keys(const A& a, const B& b, index_t from) {
    for (;;) {
      const key_span s = a(from);
      if (s.first == no_key) return {};
      const key_span t = b(s.first);
      if (t.first == no_key) return {};
      if (t.first < s.last) return {t.first, s.last < t.last ? s.last : t.last};
      from = t.first;
    }
  }
};

struct any_of {
  DEEPSEEK_HOST_DEVICE static constexpr bool visible(bool a, bool b) { return a || b; }
  DEEPSEEK_HOST_DEVICE static constexpr coverage cover(coverage a, coverage b) {
    return a > b ? a : b;
  }
  DEEPSEEK_HOST_DEVICE static constexpr std::uint64_t bits(std::uint64_t a, std::uint64_t b) {
    return a | b;
  }
  template <class A, class B>
  DEEPSEEK_HOST_DEVICE static constexpr key_span keys(const A& a, const B& b, index_t from) {
    const key_span s = a(from), t = b(from);
    const key_span early = s.first <= t.first ? s : t, late = s.first <= t.first ? t : s;
    if (late.first <= early.last && late.first != no_key && late.last > early.last) {
      return {early.first, late.last};
    }
    return early;
  }
};

// One pattern from two or more under a rule.
template <class Rule, class A, class... Rest>
struct fold {
  DEEPSEEK_HOST_DEVICE static constexpr bool visible(const parts<A, Rest...>& p, index_t q,
                                                     index_t k) {
    if constexpr (sizeof...(Rest) == 0) {
      return p.first.visible(q, k);
    } else {
      return Rule::visible(p.first.visible(q, k), fold<Rule, Rest...>::visible(p.rest, q, k));
    }
  }
  DEEPSEEK_HOST_DEVICE static constexpr coverage cover(const parts<A, Rest...>& p, const tile& t) {
    if constexpr (sizeof...(Rest) == 0) {
      return p.first.cover(t);
    } else {
      return Rule::cover(p.first.cover(t), fold<Rule, Rest...>::cover(p.rest, t));
    }
  }
  DEEPSEEK_HOST_DEVICE static constexpr std::uint64_t row_bits(const parts<A, Rest...>& p,
                                                               index_t q, index_t k0) {
    if constexpr (sizeof...(Rest) == 0) {
      return deepseek::row_bits(p.first, q, k0);
    } else {
      return Rule::bits(deepseek::row_bits(p.first, q, k0),
                        fold<Rule, Rest...>::row_bits(p.rest, q, k0));
    }
  }
  DEEPSEEK_HOST_DEVICE static constexpr bool alike(const parts<A, Rest...>& p, index_t a,
                                                   index_t b) {
    if constexpr (sizeof...(Rest) == 0) {
      return see_alike(p.first, a, b);
    } else {
      return see_alike(p.first, a, b) && fold<Rule, Rest...>::alike(p.rest, a, b);
    }
  }
  // Some rows at a time, so that what the rest sees needs little memory.
  DEEPSEEK_HOST_DEVICE static constexpr void rows_bits(const parts<A, Rest...>& p, const tile& t,
                                                       std::uint64_t* out) {
    deepseek::rows_bits(p.first, t, out);
    if constexpr (sizeof...(Rest) > 0) {
      constexpr index_t most = 48;
      std::uint64_t other[most] = {};
      for (index_t q = t.q0; q < t.q1; q += most) {
        const index_t end = q + most < t.q1 ? q + most : t.q1;
        fold<Rule, Rest...>::rows_bits(p.rest, {q, end, t.k0, t.k1}, other);
        for (index_t i = q; i < end; ++i) {
          out[i - t.q0] = Rule::bits(out[i - t.q0], other[i - q]);
        }
      }
    }
  }
  DEEPSEEK_HOST_DEVICE static constexpr key_span next_keys(const parts<A, Rest...>& p, index_t q0,
                                                           index_t q1, index_t from) {
    if constexpr (sizeof...(Rest) == 0) {
      return deepseek::next_keys(p.first, q0, q1, from);
    } else {
      return Rule::keys(
          [&](index_t at) { return deepseek::next_keys(p.first, q0, q1, at); },
          [&](index_t at) { return fold<Rule, Rest...>::next_keys(p.rest, q0, q1, at); }, from);
    }
  }
};

template <class Rule, class... P>
struct pattern {
  static constexpr bool alike_in_group = (deepseek::alike_in_group<P> && ...);
  static constexpr bool checked_by_sizes = (deepseek::checked_by_sizes<P> && ...);
  parts<P...> of;

  constexpr pattern() = default;
  DEEPSEEK_HOST_DEVICE constexpr explicit pattern(const parts<P...>& given) : of(given) {}

  DEEPSEEK_HOST_DEVICE constexpr bool visible(index_t q, index_t k) const {
    return fold<Rule, P...>::visible(of, q, k);
  }
  DEEPSEEK_HOST_DEVICE constexpr coverage cover(const tile& t) const {
    return fold<Rule, P...>::cover(of, t);
  }
  DEEPSEEK_HOST_DEVICE constexpr std::uint64_t row_bits(index_t q, index_t k0) const {
    return fold<Rule, P...>::row_bits(of, q, k0);
  }
  DEEPSEEK_HOST_DEVICE constexpr void rows_bits(const tile& t, std::uint64_t* out) const {
    fold<Rule, P...>::rows_bits(of, t, out);
  }
  DEEPSEEK_HOST_DEVICE constexpr key_span next_keys(index_t q0, index_t q1, index_t from) const {
    return fold<Rule, P...>::next_keys(of, q0, q1, from);
  }
  constexpr bool by_row() const { return of.by_row(); }
  DEEPSEEK_HOST_DEVICE constexpr bool heads_alike() const { return of.heads_alike(); }
  // Queries that see alike in every part.
  DEEPSEEK_HOST_DEVICE constexpr bool alike(index_t a, index_t b) const {
    return fold<Rule, P...>::alike(of, a, b);
  }
};

}  // namespace combined

template <class... P>
struct both : combined::pattern<combined::all_of, P...> {
  static_assert(sizeof...(P) > 0, "deepseek::both: no pattern is given; write both<causal, ...>");
  static_assert(!(modifies_scores<P> || ...),
                "deepseek::both: a part changes scores (a modifier belongs to the whole pattern); "
                "write scored<both<...>, modifier>");
  static constexpr reach sees =
      ((reach_of<P> == reach::past) || ...) ? reach::past : reach::everywhere;
  static constexpr bool listed = (lists_blocks<P> || ...);

  constexpr both() = default;
  constexpr explicit both(const P&... each) requires(sizeof...(P) > 0)
      : both(combined::parts<P...>(each...)) {}

  static constexpr both make(const pattern_key& key) {
    return both(combined::parts<P...>::make(key));
  }
  DEEPSEEK_HOST_DEVICE constexpr both bind(pattern_scope scope) const {
    if (sees == reach::past) scope.seen = reach::past;
    return both(this->of.bind(scope));
  }
  void check(pattern_scope scope) const {
    if (sees == reach::past) scope.seen = reach::past;
    this->of.check(scope);
  }

 private:
  DEEPSEEK_HOST_DEVICE constexpr explicit both(const combined::parts<P...>& given)
      : combined::pattern<combined::all_of, P...>(given) {}
};

template <class... P>
struct either : combined::pattern<combined::any_of, P...> {
  static_assert(sizeof...(P) > 0,
                "deepseek::either: no pattern is given; write either<local<64>, ...>");
  static_assert(
      !(modifies_scores<P> || ...),
      "deepseek::either: a part changes scores (a modifier belongs to the whole pattern); "
      "write scored<either<...>, modifier>");
  static constexpr reach sees =
      ((reach_of<P> == reach::past) && ...) ? reach::past : reach::everywhere;
  static constexpr bool listed = (lists_blocks<P> && ...);

  constexpr either() = default;
  constexpr explicit either(const P&... each) requires(sizeof...(P) > 0)
      : either(combined::parts<P...>(each...)) {}

  static constexpr either make(const pattern_key& key) {
    return either(combined::parts<P...>::make(key));
  }
  DEEPSEEK_HOST_DEVICE constexpr either bind(const pattern_scope& scope) const {
    return either(this->of.bind(scope));
  }
  void check(const pattern_scope& scope) const { this->of.check(scope); }

 private:
  DEEPSEEK_HOST_DEVICE constexpr explicit either(const combined::parts<P...>& given)
      : combined::pattern<combined::any_of, P...>(given) {}
};

}  // namespace deepseek
