// SPDX-License-Identifier: Apache-2.0
// One case of quant_gemm: data, what the oracle says, and the comparison. Integers are exact, so
// every element must equal the formula's one rounding, one product of scales and one fma.
#pragma once

#include "deepseek/ops/quant_gemm.hpp"

#include "deepseek/backend/reference/quant_gemm.hpp"

#include "deepseek/backend/cpu/quant_gemm.hpp"
#include "oracle/quantized.hpp"
#include "support/cases.hpp"
#include "support/compare.hpp"
#include "support/poison.hpp"
#include "support/report.hpp"
#include "support/seed.hpp"

namespace quant_test {

namespace ds = deepseek;

enum class layout { dense, padded, scattered };  // scattered: columns two apart
enum class biased { no, yes };

struct shape {
  ds::index_t m, n, k;
};
struct setting {
  shape s{};
  ds::activation_range range = ds::activation_range::per_call;
  layout x = layout::dense, y = layout::dense;
  biased bias = biased::no;
  support::values kind = support::values::normal;

  std::string text(const char* type) const {
    return support::text("type", type, "m", s.m, "n", s.n, "k", s.k, "range",
                         static_cast<int>(range), "x", static_cast<int>(x), "y",
                         static_cast<int>(y), "bias", bias == biased::yes, "values",
                         support::to_string(kind));
  }
};

inline std::size_t size(ds::index_t n) {
  return static_cast<std::size_t>(n);
}

// [rows, columns] inside guarded memory; what lies between is poison.
template <class T>
struct matrix {
  ds::index_t rows, columns, step, row;
  support::guarded<T> memory;

  matrix(ds::index_t m, ds::index_t n, layout how)
      : rows(m),
        columns(n),
        step(how == layout::scattered ? 2 : 1),
        row(n * step + (how == layout::dense ? 0 : 3)),
        memory(size(m * row + 1), support::poison<T>(), how == layout::dense ? 0 : 1) {}
  ds::view<T, ds::host, ds::dyn, ds::dyn> view() {
    return {memory.data(), {rows, columns}, {row, step}};
  }
  bool only_elements_changed() {
    const auto now = memory.values();
    for (std::size_t i = 0; i < now.size(); ++i) {
      const auto at = static_cast<ds::index_t>(i), column = at % std::max<ds::index_t>(row, 1);
      const bool element =
          at < rows * row && column % step == 0 && column / step < columns && row > 0;
      const T fill = support::poison<T>();
      if (!element && std::memcmp(&now[i], &fill, sizeof(T)) != 0) return false;
    }
    return memory.intact();
  }
};

// Weights of `experts` experts as the oracle quantizes them, placed by the layout.
struct weights {
  ds::int8_layout at;
  ds::index_t experts;
  std::vector<oracle::int8_weights<float>> of;
  std::vector<std::int8_t> q;
  std::vector<float> scale;
  std::vector<std::int32_t> sum;
  float x_scale = 0;
  std::int32_t x_zero = 0;

  weights(ds::index_t n, ds::index_t k, support::numbers& from, ds::index_t count = 1)
      : at{n, k}, experts(count), q(size(count * at.size())) {
    for (ds::index_t e = 0; e < count; ++e) {
      const auto w = support::as<float>(support::draw(support::values::normal, size(n * k), from));
      of.push_back(k == 0 ? oracle::int8_weights<float>{{}, std::vector<float>(size(n), 1.0F)}
                          : oracle::quantize_weights(w, size(k)));
      for (ds::index_t j = 0; j < n; ++j) {
        std::int32_t total = 0;
        for (ds::index_t i = 0; i < k; ++i) {
          const std::int8_t code = of.back().codes[size(j * k + i)];
          q[size(e * at.size() + at.at(j, i))] = code;
          total += code;
        }
        sum.push_back(total);
        scale.push_back(of.back().scales[size(j)]);
      }
    }
  }
  ds::int8_operand<ds::host> operand(ds::activation_range range) const {
    return {{q.data(), {experts, at.size()}},
            {scale.data(), {experts, at.n}},
            {sum.data(), {experts, at.n}},
            at.k,
            range,
            {&x_scale, {1}},
            {&x_zero, {1}}};
  }
};

// The oracle's range of values of type A, with the scale as it is stored: float.
template <class A>
oracle::uint8_range<A> stored_range(const std::vector<A>& x) {
  auto r = oracle::range_of(x);
  r.scale = static_cast<A>(static_cast<float>(r.scale));
  A low = 0, high = 0;
  for (A e : x) low = std::min(low, e), high = std::max(high, e);
  if (low == high) return {};
  r.zero = static_cast<int>(std::clamp(std::nearbyint(-low / r.scale), A(0), A(255)));
  return r;
}

// y[m, n] in T from one row's codes.
template <class T>
T expected_element(const std::vector<std::uint8_t>& codes, const oracle::int8_weights<float>& w,
                   const oracle::uint8_range<ds::accumulate_t<T>>& range, std::size_t n,
                   const T* bias, bool fused) {
  using A = ds::accumulate_t<T>;
  std::int64_t sum = 0;
  for (std::size_t k = 0; k < codes.size(); ++k) {
    sum += (std::int64_t{codes[k]} - range.zero) * w.codes[n * codes.size() + k];
  }
  const A scale = range.scale * static_cast<A>(w.scales[n]);
  const A add = bias == nullptr ? A(0) : static_cast<A>(*bias);
  if (fused) return static_cast<T>(std::fma(static_cast<A>(sum), scale, add));
  volatile A product = static_cast<A>(sum) * scale;
  return static_cast<T>(product + add);
}

// The reference always has one rounding; the cpu's registers may lack the instruction.
template <class B, class T>
inline constexpr bool fuses =
    !std::is_same_v<B, ds::cpu> || !std::is_same_v<T, float> || ds::simd::has_fma;

// Runs the case and says what is wrong; offsets empty: one weight for all rows.
template <class T, class B>
std::string problem_of(const B& b, const setting& c, const std::string& name,
                       const std::vector<std::int32_t>& offsets = {}) {
  using A = ds::accumulate_t<T>;
  support::numbers from(name);
  const auto [m_end, n_end, k_end] = c.s;
  matrix<T> x(m_end, k_end, c.x), y(m_end, n_end, c.y);
  support::guarded<T> bias(size(n_end));
  std::vector<A> values;
  for (double v : support::draw(c.kind, size(m_end * k_end), from)) {
    values.push_back(static_cast<A>(static_cast<T>(v)));
  }
  for (ds::index_t i = 0; i < m_end * k_end; ++i) {
    x.view()(i / k_end, i % k_end) = static_cast<T>(values[size(i)]);
  }
  for (ds::index_t n = 0; n < n_end; ++n) bias[size(n)] = static_cast<T>(from.normal());
  x.memory.remember();
  const ds::index_t experts = offsets.empty() ? 1 : static_cast<ds::index_t>(offsets.size()) - 1;
  weights w(n_end, k_end, from, experts);
  if (c.range == ds::activation_range::observed) {  // narrower than the data: some saturate
    w.x_scale = 0.013F, w.x_zero = 101;
  }
  const ds::view<const T, ds::host, ds::dyn> bias_view(bias.data(), {n_end});
  if (!offsets.empty()) {
    const ds::view<const std::int32_t, ds::host, ds::dyn> o(offsets.data(), {experts + 1});
    ds::ops::grouped_quant_gemm(b, x.view(), w.operand(c.range), o, y.view());
  } else if (c.bias == biased::yes) {
    ds::ops::quant_gemm(b, x.view(), w.operand(c.range), y.view(), bias_view);
  } else {
    ds::ops::quant_gemm(b, x.view(), w.operand(c.range), y.view());
  }
  if (!x.memory.unchanged() || !x.memory.intact()) return "x was written";
  if (!y.only_elements_changed()) return "something outside y was written";
  const bool fused = fuses<B, T> || c.y == layout::scattered;  // the plain loops
  std::size_t e = 0;
  for (ds::index_t m = 0; m < m_end; ++m) {
    while (!offsets.empty() && m >= offsets[e + 1]) ++e;
    const std::vector<A> row(values.begin() + m * k_end, values.begin() + (m + 1) * k_end);
    const auto range = c.range == ds::activation_range::observed
                           ? oracle::uint8_range<A>{static_cast<A>(w.x_scale), w.x_zero}
                           : stored_range(c.range == ds::activation_range::per_call ? values : row);
    const auto codes = oracle::quantize_activations(row, range);
    for (ds::index_t n = 0; n < n_end; ++n) {
      const T* add = c.bias == biased::yes && offsets.empty() ? &bias[size(n)] : nullptr;
      const T want = expected_element<T>(codes, w.of[e], range, size(n), add,
                                         fused || c.y == layout::scattered);
      const T got = y.view()(m, n);
      if (std::memcmp(&got, &want, sizeof(T)) != 0 &&
          !(static_cast<A>(got) == static_cast<A>(want))) {
        return support::text("at m", m, "n", n, "got", support::to_double(got), "expected",
                             support::to_double(want));
      }
    }
  }
  return {};
}

// Rows of choices over sizes, ranges, layouts, bias and values, any two of which meet.
inline std::vector<setting> settings(std::size_t at_most) {
  const ds::index_t ms[] = {0, 1, 2, 3, 5, 8, 12, 13, 33};
  const ds::index_t ns[] = {0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 100};
  const ds::index_t ks[] = {0, 1, 3, 4, 5, 16, 31, 64, 129, 257};
  std::vector<setting> all;
  for (const auto& i : support::pairwise({9, 15, 10, 3, 3, 3, 2, 10}, at_most)) {
    all.push_back({{ms[i[0]], ns[i[1]], ks[i[2]]},
                   static_cast<ds::activation_range>(i[3]),
                   static_cast<layout>(i[4]),
                   static_cast<layout>(i[5]),
                   static_cast<biased>(i[6]),
                   support::every_class[i[7]]});
  }
  return all;
}

}  // namespace quant_test
