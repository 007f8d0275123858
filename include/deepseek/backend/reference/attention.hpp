// SPDX-License-Identifier: Apache-2.0
// attention on the reference backend: plain loops over the visible keys of each query, any types,
// any strides; see ops/attention.hpp. Scores are computed again where they are needed: one row of
// sums is all the memory forward takes, one sequence of one key-value head what backward takes.
#pragma once

#include "deepseek/backend/reference/context.hpp"
#include "deepseek/ops/attention.hpp"
#include "deepseek/pattern/score.hpp"

namespace deepseek {

// f(j) for the keys below `keys` that the query at position q sees, ascending.
template <class P, class F>
void for_visible_keys(const P& pattern, index_t q, index_t keys, F f) {
  for (index_t from = 0; from < keys;) {
    const key_span span = next_keys(pattern, q, q + 1, from);
    for (index_t j = span.first; j < span.last && j < keys; ++j) {
      if (pattern.visible(q, j)) f(j);
    }
    from = span.last;
  }
}

namespace reference_attention {

// One query head of one sequence: its rows, the pattern bound to it, the score as modified.
template <class A, class In, class P>
struct head {
  const In& in;
  P pattern;
  attention_range range;
  index_t h, kv;
  A scale;

  modified_score<A> score(index_t i, index_t j) const {
    A sum = 0;
    const index_t row = range.key_row(j);
    for (index_t d = 0; d < in.q.extent(2); ++d) {
      sum += static_cast<A>(in.q(range.query + i, h, d)) * static_cast<A>(in.k(row, kv, d));
    }
    return modify_score(pattern, sum * scale, range.start + i, j);
  }
  // f(j) for the keys that query i sees, ascending.
  template <class F>
  void for_visible(index_t i, F f) const {
    for_visible_keys(pattern, range.start + i, range.keys, f);
  }
};

template <class A, class In, class Spec>
auto make_head(const In& in, const Spec& spec, const attention_range& range, index_t h) {
  const auto pattern = bind_pattern(spec.pattern, scope_of(range, h));
  const index_t kv = h / (in.q.extent(1) / in.k.extent(1));
  return head<A, In, std::remove_const_t<decltype(pattern)>>{
      in, pattern, range, h, kv, static_cast<A>(spec.scale)};
}

// One query: o and lse of its row; `sum` has dv elements.
template <class A, class Head, class Out>
void forward_row(const Head& at, index_t i, A* sum, const Out& out) {
  const index_t dv = out.o.extent(2), row = at.range.query + i;
  A top = -std::numeric_limits<A>::infinity(), total = 0;
  at.for_visible(i, [&](index_t j) { top = std::max(top, at.score(i, j).score); });
  const A shift = top == -std::numeric_limits<A>::infinity() ? A(0) : top;
  for (index_t d = 0; d < dv; ++d) sum[d] = 0;
  at.for_visible(i, [&](index_t j) {
    const A p = std::exp(at.score(i, j).score - shift);
    const index_t key = at.range.key_row(j);
    total += p;
    for (index_t d = 0; d < dv; ++d) sum[d] += p * static_cast<A>(at.in.v(key, at.kv, d));
  });
  const bool empty = total == A(0);
  for (index_t d = 0; d < dv; ++d) {
    out.o(row, at.h, d) =
        static_cast<typename decltype(out.o)::value_type>(empty ? A(0) : sum[d] / total);
  }
  if constexpr (is_view<std::remove_cvref_t<decltype(out.lse)>>) {
    out.lse(row, at.h) = static_cast<typename decltype(out.lse)::value_type>(
        empty ? -std::numeric_limits<A>::infinity() : shift + std::log(total));
  }
}

// Sums over queries of one key-value head of one sequence, and of one query.
template <class A>
struct sums {
  view<A, host, dyn, dyn> dk, dv;  // [keys, d], [keys, dv]
  view<A, host, dyn> dq;           // [d]

  void zero() const {
    for (index_t i = 0; i < dk.size(); ++i) dk.data()[i] = 0;
    for (index_t i = 0; i < dv.size(); ++i) dv.data()[i] = 0;
  }
};

// One query: writes dq of its row, adds to the sums of the keys that it sees.
template <class A, class Head, class Out, class G>
void backward_row(const Head& at, index_t i, const Out& out, const G& g, const sums<A>& s) {
  const index_t d_count = at.in.q.extent(2), dv_count = out.o.extent(2), row = at.range.query + i;
  const A lse = static_cast<A>(out.lse(row, at.h));
  A delta = 0;
  for (index_t d = 0; d < dv_count; ++d) {
    delta += static_cast<A>(g.d_o(row, at.h, d)) * static_cast<A>(out.o(row, at.h, d));
  }
  for (index_t d = 0; d < d_count; ++d) s.dq(d) = 0;
  at.for_visible(i, [&](index_t j) {
    if (lse == -std::numeric_limits<A>::infinity()) return;  // every visible score is -inf
    const index_t key = at.range.key + j;
    const modified_score<A> s_ij = at.score(i, j);
    const A p = std::exp(s_ij.score - lse);
    A dp = 0;
    for (index_t d = 0; d < dv_count; ++d) {
      const A d_o = static_cast<A>(g.d_o(row, at.h, d));
      dp += d_o * static_cast<A>(at.in.v(key, at.kv, d));
      s.dv(j, d) += p * d_o;
    }
    const A ds = p * (dp - delta) * at.scale * s_ij.slope;
    for (index_t d = 0; d < d_count; ++d) {
      s.dq(d) += ds * static_cast<A>(at.in.k(key, at.kv, d));
      s.dk(j, d) += ds * static_cast<A>(at.in.q(row, at.h, d));
    }
  });
  for (index_t d = 0; d < d_count; ++d) {
    g.dq(row, at.h, d) = static_cast<typename decltype(g.dq)::value_type>(s.dq(d));
  }
}

template <class A, class To>
void write_sums(const view<A, host, dyn, dyn>& from, const To& to, index_t first, index_t kv) {
  for (index_t j = 0; j < from.extent(0); ++j) {
    for (index_t d = 0; d < from.extent(1); ++d) {
      to(first + j, kv, d) = static_cast<typename To::value_type>(from(j, d));
    }
  }
}

}  // namespace reference_attention

template <class In, class Out, class Spec>
void attention_impl(const reference& b, const In& in, const Out& out, const Spec& spec) {
  using A = accumulate_t<typename decltype(out.o)::value_type>;
  const scope freed(b.workspace());
  const auto sum = b.workspace().template make<A, dyn>(out.o.extent(2));
  for (index_t s = 0; s < sequence_count(spec); ++s) {
    const auto range = sequence_range(spec, s, in.q.extent(0), in.k.extent(0));
    for (index_t h = 0; h < in.q.extent(1); ++h) {
      const auto at = reference_attention::make_head<A>(in, spec, range, h);
      for (index_t i = 0; i < range.queries; ++i) {
        reference_attention::forward_row<A>(at, i, sum.data(), out);
      }
    }
  }
}

template <class In, class Out, class G, class Spec>
void attention_backward_impl(const reference& b, const In& in, const Out& out, const G& g,
                             const Spec& spec) {
  using A = accumulate_t<typename decltype(g.dq)::value_type>;
  for (index_t s = 0; s < sequence_count(spec); ++s) {
    const auto range = sequence_range(spec, s, in.q.extent(0), in.k.extent(0));
    const scope freed(b.workspace());
    auto& memory = b.workspace();
    const reference_attention::sums<A> sums{
        memory.template make<A, dyn, dyn>(range.keys, in.k.extent(2)),
        memory.template make<A, dyn, dyn>(range.keys, in.v.extent(2)),
        memory.template make<A, dyn>(in.q.extent(2))};
    const index_t kv_heads = in.k.extent(1);
    for (index_t kv = 0; kv < kv_heads; ++kv) {
      const index_t group = in.q.extent(1) / kv_heads;
      sums.zero();
      for (index_t h = kv * group; h < (kv + 1) * group; ++h) {
        const auto at = reference_attention::make_head<A>(in, spec, range, h);
        for (index_t i = 0; i < range.queries; ++i) {
          reference_attention::backward_row<A>(at, i, out, g, sums);
        }
      }
      reference_attention::write_sums(sums.dk, g.dk, range.key, kv);
      reference_attention::write_sums(sums.dv, g.dv, range.key, kv);
    }
  }
}

}  // namespace deepseek
