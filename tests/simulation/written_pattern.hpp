// SPDX-License-Identifier: Apache-2.0
// any_pattern for programs compiled as CUDA. A kernel can ask no virtual function of the host, so
// who sees whom is written out, head by head, when an op checks its pattern, into memory that host
// and GPU both see (managed/memory.cpp); whoever asks reads bits. Never freed, and sized for the
// short sequences of tests and of run_op.
#pragma once

#include "deepseek/pattern/pattern.hpp"

#include <algorithm>
#include <cstdlib>

namespace simulation {

namespace ds = deepseek;

class written_pattern {
 public:
  written_pattern() = default;  // nobody sees anybody
  template <class P>
  requires(!std::same_as<P, written_pattern>) explicit written_pattern(const P& p)
      : held_(new holder<P>(p)) {
    ds::check_pattern<P>();
    static_assert(!ds::modifies_scores<P>, "written_pattern: write scored<any_pattern, modifier>");
  }

  DEEPSEEK_HOST_DEVICE bool visible(ds::index_t q, ds::index_t k) const {
    return (row_bits(q, k) & 1U) != 0;
  }
  DEEPSEEK_HOST_DEVICE ds::coverage cover(const ds::tile& t) const {
    bool some = false, all = true;
    for (ds::index_t q = t.q0; q < t.q1; ++q) {
      for (ds::index_t k0 = t.k0; k0 < t.k1; k0 += 64) {
        const std::uint64_t wanted = ds::span_bits(k0, t.k1, k0), bits = row_bits(q, k0) & wanted;
        some = some || bits != 0;
        all = all && bits == wanted;
      }
    }
    return all ? ds::coverage::full : some ? ds::coverage::partial : ds::coverage::none;
  }
  DEEPSEEK_HOST_DEVICE std::uint64_t row_bits(ds::index_t q, ds::index_t k0) const {
    if (held_ == nullptr) return 0;
    if (bound_ == nullptr || q < bound_->first || q >= bound_->end || k0 < 0) stop();
    const std::uint64_t* const row =
        bound_->bits +
        ((head_ * (bound_->end - bound_->first)) + q - bound_->first) * bound_->words;
    const ds::index_t word = k0 / 64, shift = k0 % 64;
    if (word >= bound_->words) return 0;
    const std::uint64_t low = row[word] >> shift;
    if (shift == 0 || word + 1 == bound_->words) return low;
    return low | row[word + 1] << (64 - shift);
  }
  DEEPSEEK_HOST_DEVICE written_pattern bind(const ds::pattern_scope& scope) const {
    written_pattern bound = *this;
    if (held_ == nullptr) return bound;
    bound.bound_ = held_->written;
    while (bound.bound_ != nullptr && !bound.bound_->serves(scope))
      bound.bound_ = bound.bound_->next;
    if (bound.bound_ == nullptr) stop();
    bound.head_ = scope.head;
    return bound;
  }
  // Also writes out what the heads see: no kernel runs then.
  void check(const ds::pattern_scope& scope) const {
    if (held_ == nullptr) return;
    held_->check(scope);
    for (const sheet* s = held_->written; s != nullptr; s = s->next) {
      if (s->serves(scope)) return;
    }
    held_->written = new sheet(scope, *held_);
  }

 private:
  static constexpr ds::index_t beyond = 512;  // queries behind the last key that may be asked for

  struct face;
  // What heads 0 .. scope.head of one sequence see: a bit for a key, rows of whole words.
  struct sheet {
    ds::pattern_scope scope;
    ds::index_t first, end, words;
    std::uint64_t* bits;
    const sheet* next;

    sheet(const ds::pattern_scope& of, const face& held)
        : scope(of),
          first(std::min<ds::index_t>(0, of.start)),
          end(std::max(of.keys, of.start) + beyond),
          words((of.keys + 63) / 64),
          bits(new std::uint64_t[static_cast<std::size_t>((of.head + 1) * (end - first) * words)]),
          next(held.written) {
      for (ds::index_t h = 0; h <= of.head; ++h) held.write(h, *this);
    }
    std::uint64_t* row(ds::index_t head, ds::index_t q) const {
      return bits + (head * (end - first) + q - first) * words;
    }
    DEEPSEEK_HOST_DEVICE bool serves(const ds::pattern_scope& s) const {
      return s.head <= scope.head && s.keys == scope.keys && s.seen == scope.seen &&
             s.row == scope.row && s.start == scope.start;
    }
  };
  struct face {
    const sheet* written = nullptr;
    virtual ~face() = default;
    virtual void check(const ds::pattern_scope& scope) const = 0;
    virtual void write(ds::index_t head, const sheet& on) const = 0;
  };
  template <class P>
  struct holder final : face {
    P p;
    explicit holder(const P& given) : p(given) {}
    void check(const ds::pattern_scope& scope) const override { ds::require_pattern(p, scope); }
    void write(ds::index_t head, const sheet& on) const override {
      ds::pattern_scope scope = on.scope;
      scope.head = head;
      const P bound = ds::bind_pattern(p, scope);
      for (ds::index_t q = on.first; q < on.end; ++q) {
        std::uint64_t* const row = on.row(head, q);
        for (ds::index_t w = 0; w < on.words; ++w) {
          row[w] = ds::row_bits(bound, q, 64 * w) & ds::span_bits(0, scope.keys, 64 * w);
        }
      }
    }
  };

  // What was never written out was asked for.
  DEEPSEEK_HOST_DEVICE static void stop() {
#if defined(__CUDA_ARCH__)
    __trap();
#else
    std::abort();
#endif
  }

  face* held_ = nullptr;
  const sheet* bound_ = nullptr;
  ds::index_t head_ = 0;
};

}  // namespace simulation
