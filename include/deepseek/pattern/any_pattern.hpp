// SPDX-License-Identifier: Apache-2.0
// any_pattern: a pattern chosen at run time, from a file or an option: any_pattern(local<64>{}).
// Attention is compiled once for all that it may hold. It asks through a virtual call for each tile
// and row, and binding it to a head allocates: a model that knows its pattern names the type. Host
// only: the cuda backend refuses it when it is compiled; list_blocks (pattern/list_blocks.hpp)
// writes out what it shows, for every backend. Cost: that of what it holds.
#pragma once

#include "deepseek/pattern/pattern.hpp"

#include <memory>

namespace deepseek {

class any_pattern {
 public:
  any_pattern() = default;  // nobody sees anybody
  template <class P>
  requires(!std::same_as<P, any_pattern>) explicit any_pattern(const P& p)
      : held_(std::make_shared<holder<P>>(p)) {
    check_pattern<P>();
    static_assert(!modifies_scores<P>,
                  "deepseek::any_pattern: the pattern changes scores; hold the pattern inside and "
                  "write scored<any_pattern, modifier>");
  }

  bool visible(index_t q, index_t k) const { return held_ && held_->visible(q, k); }
  coverage cover(const tile& t) const { return held_ ? held_->cover(t) : coverage::none; }
  key_span next_keys(index_t q0, index_t q1, index_t from) const {
    return held_ ? held_->next_keys(q0, q1, from) : key_span{};
  }
  std::uint64_t row_bits(index_t q, index_t k0) const { return held_ ? held_->row_bits(q, k0) : 0; }
  bool alike(index_t a, index_t b) const { return held_ && held_->alike(a, b); }
  bool by_row() const { return held_ && held_->by_row(); }
  any_pattern bind(const pattern_scope& scope) const {
    return held_ ? held_->bind(scope) : any_pattern{};
  }
  void check(const pattern_scope& scope) const {
    if (held_) held_->check(scope);
  }

 private:
  struct face {
    virtual ~face() = default;
    virtual bool visible(index_t q, index_t k) const = 0;
    virtual coverage cover(const tile& t) const = 0;
    virtual key_span next_keys(index_t q0, index_t q1, index_t from) const = 0;
    virtual std::uint64_t row_bits(index_t q, index_t k0) const = 0;
    virtual bool alike(index_t a, index_t b) const = 0;
    virtual bool by_row() const = 0;
    virtual any_pattern bind(const pattern_scope& scope) const = 0;
    virtual void check(const pattern_scope& scope) const = 0;
  };
  template <class P>
  struct holder final : face {
    P p;
    explicit holder(const P& given) : p(given) {}
    bool visible(index_t q, index_t k) const override { return p.visible(q, k); }
    coverage cover(const tile& t) const override { return p.cover(t); }
    key_span next_keys(index_t q0, index_t q1, index_t from) const override {
      return deepseek::next_keys(p, q0, q1, from);
    }
    std::uint64_t row_bits(index_t q, index_t k0) const override {
      return deepseek::row_bits(p, q, k0);
    }
    bool alike(index_t a, index_t b) const override { return see_alike(p, a, b); }
    bool by_row() const override { return depends_on_row(p); }
    any_pattern bind(const pattern_scope& scope) const override {
      return any_pattern(bind_pattern(p, scope));
    }
    void check(const pattern_scope& scope) const override { require_pattern(p, scope); }
  };

  std::shared_ptr<const face> held_;
};

}  // namespace deepseek
