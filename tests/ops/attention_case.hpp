// SPDX-License-Identifier: Apache-2.0
// One attention problem for the tests of attention: arrays with strides, canaries and NaN in every
// gap, and what the oracle says about it, head by head and sequence by sequence. Who sees whom is
// a rule written here a second time, not the pattern's own functions.
#pragma once

#include "deepseek/ops/attention.hpp"

#include "deepseek/backend/cpu/attention.hpp"
#include "deepseek/backend/reference/attention.hpp"
#include "oracle/attention.hpp"
#include "support/cases.hpp"
#include "support/compare.hpp"
#include "support/gradient.hpp"
#include "support/poison.hpp"
#include "support/report.hpp"
#include "support/seed.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>
#include <functional>
#include <string>
#include <vector>

namespace attention_test {

using namespace deepseek;

// Does query position q of head h see key position k, of `keys` keys?
using rule = std::function<bool(index_t h, index_t q, index_t k, index_t keys)>;

// s' and ds'/ds of the score s of query position q and key position k in head h.
using modifier = std::function<oracle::changed_score(index_t h, index_t q, index_t k, double s)>;

struct problem {
  index_t n = 0, m = 0, h = 1, hk = 1, d = 1, dv = 1;
  double scale = 0;
  index_t start = -1;
  std::vector<std::int32_t> query_offsets = {}, key_offsets = {};  // empty: one sequence
  support::values kind = support::values::normal;
  modifier change = {};
};

inline std::string case_name(const problem& p, const std::string& rest) {
  return support::text("n", p.n, "m", p.m, "h", p.h, "hk", p.hk, "d", p.d, "dv", p.dv, "start",
                       p.start, "sequences", p.query_offsets.size()) +
         " " + rest;
}

enum class layout { plain, padded, heads_first, every_second };
inline constexpr layout layouts[] = {layout::plain, layout::padded, layout::heads_first,
                                     layout::every_second};
inline const char* to_string(layout l) {
  constexpr const char* names[] = {"plain", "padded", "heads_first", "every_second"};
  return names[static_cast<int>(l)];
}

// A view [a, b, c] of guarded memory in some order; gaps hold NaN.
template <class T>
class array {
 public:
  array(index_t a, index_t b, index_t c, layout how = layout::plain)
      : array(a, b, c, how, strides_of(a, b, c, how)) {}
  array(const std::vector<double>& from, index_t a, index_t b, index_t c,
        layout how = layout::plain)
      : array(a, b, c, how) {
    set(from);
  }

  view<T, host, dyn, dyn, dyn> get() { return {memory_.data(), extents_, strides_}; }
  void set(const std::vector<double>& from) {
    const auto v = get();
    std::size_t at = 0;
    for (index_t i = 0; i < extents_[0]; ++i) {
      for (index_t j = 0; j < extents_[1]; ++j) {
        for (index_t l = 0; l < extents_[2]; ++l) v(i, j, l) = static_cast<T>(from[at++]);
      }
    }
    memory_.remember();
  }
  std::vector<T> values() {
    std::vector<T> out;
    const auto v = get();
    for (index_t i = 0; i < extents_[0]; ++i) {
      for (index_t j = 0; j < extents_[1]; ++j) {
        for (index_t l = 0; l < extents_[2]; ++l) out.push_back(v(i, j, l));
      }
    }
    return out;
  }
  bool intact() const { return memory_.intact(); }
  bool unchanged() const { return memory_.unchanged(); }

 private:
  struct three {
    index_t s[3], size;
  };
  static three strides_of(index_t a, index_t b, index_t c, layout how) {
    switch (how) {
      case layout::padded:
        return {{b * (c + 3) + 5, c + 3, 1}, a * (b * (c + 3) + 5)};
      case layout::heads_first:
        return {{c, a * c, 1}, a * b * c};
      case layout::every_second:
        return {{b * c * 2, c * 2, 2}, a * b * c * 2};
      case layout::plain:
        break;
    }
    return {{b * c, c, 1}, a * b * c};
  }
  array(index_t a, index_t b, index_t c, layout how, const three& t)
      : memory_(static_cast<std::size_t>(t.size), support::poison<T>(),
                how == layout::padded ? 1 : 0),
        extents_{a, b, c},
        strides_{t.s[0], t.s[1], t.s[2]} {}

  support::guarded<T> memory_;
  index_t extents_[3], strides_[3];
};

struct data {
  std::vector<double> q, k, v, g;  // g: gradient of o
};
struct answer {
  std::vector<double> o, lse, magnitude, dq, dk, dv;
  std::vector<double> dq_size, dk_size, dv_size;  // the same sums of absolute values
};

template <class T>
data draw(const problem& p, const std::string& stream) {
  support::numbers from(stream);
  const auto rounded = [&](index_t size) {
    std::vector<double> x = support::draw(p.kind, static_cast<std::size_t>(size), from);
    for (double& e : x) e = support::to_double(static_cast<T>(e));
    return x;
  };
  return {rounded(p.n * p.h * p.d), rounded(p.m * p.hk * p.d), rounded(p.m * p.hk * p.dv),
          rounded(p.n * p.h * p.dv)};
}

// Rows first .. first + count - 1 of one head of x[rows, heads, width], and back again.
inline std::vector<double> head_of(const std::vector<double>& x, index_t heads, index_t width,
                                   const index_t (&at)[3]) {
  std::vector<double> out;
  for (index_t i = at[0]; i < at[0] + at[1]; ++i) {
    for (index_t c = 0; c < width; ++c) {
      out.push_back(x[static_cast<std::size_t>((i * heads + at[2]) * width + c)]);
    }
  }
  return out;
}
inline void add_head(std::vector<double>& x, const std::vector<double>& part, index_t heads,
                     index_t width, const index_t (&at)[3]) {
  std::size_t next = 0;
  for (index_t i = at[0]; i < at[0] + at[1]; ++i) {
    for (index_t c = 0; c < width; ++c) {
      x[static_cast<std::size_t>((i * heads + at[2]) * width + c)] += part[next++];
    }
  }
}

// How large the terms of the gradients are: what cancels leaves errors of that size.
inline oracle::attention_gradient gradient_size(const oracle::attention_inputs& x,
                                                const std::vector<double>& g,
                                                const oracle::attention_shape& s,
                                                const std::vector<double>& lse,
                                                const oracle::visible_pair& sees) {
  oracle::attention_gradient out{std::vector<double>(x.q.size()), std::vector<double>(x.k.size()),
                                 std::vector<double>(x.v.size())};
  for (std::size_t i = 0; i < s.queries; ++i) {
    std::vector<double> p(s.keys), dp(s.keys), slope(s.keys);
    double mean = 0;
    for (std::size_t j = 0; j < s.keys; ++j) {
      if (!sees(i, j)) continue;
      double dot = 0;
      for (std::size_t c = 0; c < s.dim; ++c) dot += x.q[i * s.dim + c] * x.k[j * s.dim + c];
      const auto score = s.changed(s.scale * dot, i, j);
      slope[j] = score.slope;
      p[j] = std::exp(score.score - lse[i]);
      for (std::size_t c = 0; c < s.value_dim; ++c) {
        const double d_o = std::fabs(g[i * s.value_dim + c]);
        dp[j] += d_o * std::fabs(x.v[j * s.value_dim + c]);
        out.dv[j * s.value_dim + c] += p[j] * d_o;
      }
      mean += p[j] * dp[j];
    }
    for (std::size_t j = 0; j < s.keys; ++j) {
      const double ds = std::fabs(s.scale * slope[j]) * p[j] * (dp[j] + mean);
      for (std::size_t c = 0; c < s.dim; ++c) {
        out.dq[i * s.dim + c] += ds * std::fabs(x.k[j * s.dim + c]);
        out.dk[j * s.dim + c] += ds * std::fabs(x.q[i * s.dim + c]);
      }
    }
  }
  return out;
}

enum class wanted { forward, gradients };

inline answer oracle_answer(const problem& p, const data& x, const rule& sees,
                            wanted what = wanted::forward) {
  const auto zeros = [](index_t size) {
    return std::vector<double>(static_cast<std::size_t>(size));
  };
  answer r{zeros(p.n * p.h * p.dv), zeros(p.n * p.h),        zeros(p.n * p.h * p.dv),
           zeros(p.n * p.h * p.d),  zeros(p.m * p.hk * p.d), zeros(p.m * p.hk * p.dv),
           zeros(p.n * p.h * p.d),  zeros(p.m * p.hk * p.d), zeros(p.m * p.hk * p.dv)};
  const double scale = p.scale != 0 ? p.scale : 1 / std::sqrt(static_cast<double>(p.d));
  const std::size_t sequences = p.query_offsets.empty() ? 1 : p.query_offsets.size() - 1;
  for (std::size_t s = 0; s < sequences; ++s) {
    const bool one = p.query_offsets.empty();
    const index_t q0 = one ? 0 : p.query_offsets[s], n = one ? p.n : p.query_offsets[s + 1] - q0;
    const index_t k0 = one ? 0 : p.key_offsets[s], m = one ? p.m : p.key_offsets[s + 1] - k0;
    const index_t start = p.start >= 0 ? p.start : m - n;
    for (index_t h = 0; h < p.h; ++h) {
      const index_t kv = h / (p.h / p.hk);
      const index_t q_at[] = {q0, n, h}, k_at[] = {k0, m, kv};
      const oracle::attention_inputs in{head_of(x.q, p.h, p.d, q_at), head_of(x.k, p.hk, p.d, k_at),
                                        head_of(x.v, p.hk, p.dv, k_at)};
      oracle::attention_shape shape;
      shape.queries = static_cast<std::size_t>(n);
      shape.keys = static_cast<std::size_t>(m);
      shape.dim = static_cast<std::size_t>(p.d);
      shape.value_dim = static_cast<std::size_t>(p.dv);
      shape.scale = scale;
      if (p.change) {
        shape.change = [&p, h, start](double score, std::size_t i, std::size_t j) {
          return p.change(h, start + static_cast<index_t>(i), static_cast<index_t>(j), score);
        };
      }
      const auto pair = [&](std::size_t i, std::size_t j) {
        return sees(h, start + static_cast<index_t>(i), static_cast<index_t>(j), m);
      };
      const auto forward = oracle::attention(in, shape, pair);
      add_head(r.o, forward.out, p.h, p.dv, q_at);
      add_head(r.magnitude, forward.magnitude, p.h, p.dv, q_at);
      add_head(r.lse, forward.lse, p.h, 1, q_at);
      if (what == wanted::forward) continue;
      const auto back = oracle::attention_backward(in, shape, pair, head_of(x.g, p.h, p.dv, q_at));
      add_head(r.dq, back.dq, p.h, p.d, q_at);
      add_head(r.dk, back.dk, p.hk, p.d, k_at);
      add_head(r.dv, back.dv, p.hk, p.dv, k_at);
      const auto size = gradient_size(in, head_of(x.g, p.h, p.dv, q_at), shape, forward.lse, pair);
      add_head(r.dq_size, size.dq, p.h, p.d, q_at);
      add_head(r.dk_size, size.dk, p.hk, p.d, k_at);
      add_head(r.dv_size, size.dv, p.hk, p.dv, k_at);
    }
  }
  return r;
}

template <class P>
attention_spec<P> spec_of(const problem& p, const P& pattern) {
  const auto offsets = [](const std::vector<std::int32_t>& o) {
    return sequence_offsets<host>(o.data(), {static_cast<index_t>(o.size())});
  };
  return {pattern, p.scale, offsets(p.query_offsets), offsets(p.key_offsets), p.start};
}

// Everything the ops read and write for one problem.
template <class T>
struct arrays {
  using sum = accumulate_t<T>;
  array<T> q, k, v, o, g, dq, dk, dv;
  array<sum> lse;

  arrays(const problem& p, const data& x, layout how = layout::plain)
      : q(x.q, p.n, p.h, p.d, how),
        k(x.k, p.m, p.hk, p.d, how),
        v(x.v, p.m, p.hk, p.dv, how),
        o(p.n, p.h, p.dv, how),
        g(x.g, p.n, p.h, p.dv, how),
        dq(p.n, p.h, p.d, how),
        dk(p.m, p.hk, p.d, how),
        dv(p.m, p.hk, p.dv, how),
        lse(p.n, p.h, 1) {}

  view<sum, host, dyn, dyn> lse_view() {
    const auto all = lse.get();
    return {all.data(), {all.extent(0), all.extent(1)}};
  }
  template <class B, class Spec>
  void forward(const B& b, const Spec& spec) {
    ops::attention(b, attention_inputs{q.get(), k.get(), v.get()},
                   attention_outputs{o.get(), lse_view()}, spec);
  }
  template <class B, class Spec>
  void backward(const B& b, const Spec& spec) {
    ops::attention_backward(b, attention_inputs{q.get(), k.get(), v.get()},
                            attention_outputs{o.get(), lse_view()},
                            attention_gradients{g.get(), dq.get(), dk.get(), dv.get()}, spec);
  }
  bool clean() const {
    return q.unchanged() && k.unchanged() && v.unchanged() && g.unchanged() && o.intact() &&
           lse.intact() && dq.intact() && dk.intact() && dv.intact();
  }
};

// All bits of what forward (and backward) wrote, to be compared with those of another run.
template <class T>
std::vector<std::vector<T>> results(arrays<T>& a, wanted what) {
  std::vector<std::vector<T>> out{a.o.values()};
  const auto lse = a.lse.values();
  out.emplace_back(lse.begin(), lse.end());
  if (what == wanted::gradients) {
    for (auto* x : {&a.dq, &a.dk, &a.dv}) out.push_back(x->values());
  }
  return out;
}
template <class T>
bool same(const std::vector<std::vector<T>>& a, const std::vector<std::vector<T>>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!support::same_bits(a[i], b[i])) return false;
  }
  return a.size() == b.size();
}

// Problems with masked rows or of one element are judged, too.
inline support::limits trusting(support::limits l) {
  l.zeros = 1;
  l.trust_equal = true;
  return l;
}

template <class T>
bool log_sums_agree(const std::vector<T>& y, const std::vector<double>& r) {
  const double unit = std::is_same_v<T, double> ? 1e-13 : 1e-5;
  for (std::size_t i = 0; i < r.size(); ++i) {
    const double found = static_cast<double>(y[i]);
    if (std::isinf(r[i]) ? found != r[i]
                         : !(std::fabs(found - r[i]) <= unit * (1 + std::fabs(r[i])))) {
      return false;
    }
  }
  return true;
}

// Where pairs of bf16 are multiplied a weight is rounded first: each term may err by that share.
template <class T, class B>
constexpr double weight_rounding() {
  constexpr bool in_pairs = simd::has_dot_pairs || cpu_attention::multiplies_tiles;
  const bool pairs = std::is_same_v<T, bf16> && std::is_same_v<B, cpu> && in_pairs;
  return pairs ? unit_roundoff<bf16> : 0;
}

template <class T>
void expect_forward(const problem& p, arrays<T>& a, const answer& r, const std::string& name,
                    double weights = 0) {
  auto limits = trusting(support::attention_limits(dtype_of<T>, static_cast<std::size_t>(p.m)));
  if (weights > 0) limits.relative += weights, limits.depth = 1;
  support::expect(
      "attention", name,
      support::compare(limits, a.o.values(), r.o, static_cast<std::size_t>(p.dv), r.magnitude));
  CHECK_MESSAGE(log_sums_agree(a.lse.values(), r.lse), name << ": lse");
  CHECK_MESSAGE(a.clean(), name << ": an input or memory outside the outputs was changed");
}

template <class T>
void expect_backward(const problem& p, arrays<T>& a, const answer& r, const std::string& name,
                     double weights = 0) {
  auto limits = trusting(support::doubled(
      support::attention_limits(dtype_of<T>, static_cast<std::size_t>(std::max(p.m, p.n)))));
  // sum(do o) is formed from the rounded o: each term errs by that share, whatever they sum to.
  if (sizeof(T) == 2) limits.relative += unit_roundoff<T> + weights, limits.depth = 1;
  const auto check = [&](array<T>& y, const std::vector<double>& want,
                         const std::vector<double>& size, index_t row, const char* what) {
    support::expect(
        "attention_backward", name + " " + what,
        support::compare(limits, y.values(), want, static_cast<std::size_t>(row), size));
  };
  check(a.dq, r.dq, r.dq_size, p.d, "dq");
  check(a.dk, r.dk, r.dk_size, p.d, "dk");
  check(a.dv, r.dv, r.dv_size, p.dv, "dv");
  CHECK_MESSAGE(a.clean(), name << ": an input or memory outside the outputs was changed");
}

// One problem on one backend: forward, and backward where asked.
template <class T, class B, class P>
void run(const B& b, const problem& p, const P& pattern, const rule& sees, const std::string& name,
         wanted what = wanted::forward, layout how = layout::plain) {
  if (!support::selected(name)) return;
  const data x = draw<T>(p, name);
  const answer r = oracle_answer(p, x, sees, what);
  arrays<T> a(p, x, how);
  a.forward(b, spec_of(p, pattern));
  expect_forward(p, a, r, name, weight_rounding<T, B>());
  if (what == wanted::forward) return;
  a.backward(b, spec_of(p, pattern));
  expect_backward(p, a, r, name, weight_rounding<T, B>());
}

inline rule all_rule() {
  return [](index_t, index_t, index_t, index_t) { return true; };
}
inline rule causal_rule() {
  return [](index_t, index_t q, index_t k, index_t) { return k <= q; };
}

}  // namespace attention_test
