// SPDX-License-Identifier: Apache-2.0
// latent_attention (absorbed) against its definition with keys and values formed: sizes, strides,
// types, masks with poison, packed sequences, no keys, threads; the sizes of DeepSeek-V3; errors.
#include "deepseek/ops/latent_attention.hpp"

#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/given_mask.hpp"

#include "deepseek/backend/cpu/attention.hpp"
#include "deepseek/backend/cpu/copy.hpp"
#include "deepseek/backend/cpu/gemm.hpp"
#include "deepseek/backend/reference/latent_attention.hpp"

#include "ops/attention_case.hpp"
#include "oracle/latent_attention.hpp"

namespace ds = deepseek;
using attention_test::array;
using attention_test::layout;
using ds::index_t;

namespace {

struct latent_case {
  index_t n, m, h, rank, nope, rope, dv;
  layout how = layout::plain;
  std::string text() const {
    return support::text("n", n, "m", m, "h", h, "rank", rank, "nope", nope, "rope", rope, "dv", dv,
                         attention_test::to_string(how), "");
  }
  double scale() const { return 1 / std::sqrt(static_cast<double>(nope + rope)); }
};

std::vector<latent_case> all_cases() {
  const std::vector<index_t> n = {1, 2, 5, 33}, m = {1, 3, 17, 64, 65, 130}, h = {1, 2, 3, 16};
  const std::vector<index_t> rank = {1, 4, 16, 31}, nope = {1, 3, 8}, rope = {0, 2, 6},
                             dv = {1, 5, 8};
  std::vector<latent_case> out;
  for (const auto& p : support::pairwise({4, 6, 4, 4, 3, 3, 3, 4})) {
    out.push_back({n[p[0]], m[p[1]], h[p[2]], rank[p[3]], nope[p[4]], rope[p[5]], dv[p[6]],
                   attention_test::layouts[p[7]]});
  }
  return out;
}

// Numbers of a case rounded to T; the products with the weights have unit size.
template <class T>
oracle::latent_inputs draw(const latent_case& c) {
  support::numbers from(c.text());
  const auto some = [&](index_t size, double factor) {
    auto x = support::draw(support::values::normal, static_cast<std::size_t>(size), from);
    for (double& e : x) e *= factor;
    return support::rounded_to<T>(x);
  };
  const double root = 1 / std::sqrt(static_cast<double>(c.rank));
  return {some(c.n * c.h * c.nope, 1),
          some(c.n * c.h * c.rope, 1),
          some(c.m * c.rank, 1),
          some(c.m * c.rope, 1),
          some(c.h * c.nope * c.rank, root),
          some(c.h * c.dv * c.rank, root)};
}

oracle::latent_shape shape_of(const latent_case& c) {
  const auto u = [](index_t i) { return static_cast<std::size_t>(i); };
  return {u(c.n), u(c.m), u(c.h), u(c.rank), u(c.nope), u(c.rope), u(c.dv), c.scale()};
}

// The op on guarded memory: o, lse; checks canaries, gaps and inputs.
template <class T>
struct run {
  array<T> qn, qp, kv, uk, uv, o;
  array<ds::accumulate_t<T>> lse;

  run(const latent_case& c, const oracle::latent_inputs& x)
      : qn(x.q_nope, c.n, c.h, c.nope, c.how),
        qp(x.q_pe, c.n, c.h, c.rope, c.how),
        kv(rows_of(c, x), c.m, 1, c.rank + c.rope, c.how),
        uk(x.w_uk, c.h, c.nope, c.rank, c.how),
        uv(x.w_uv, c.h, c.dv, c.rank, c.how),
        o(c.n, c.h, c.dv, c.how),
        lse(c.n, c.h, 1, c.how) {}

  static std::vector<double> rows_of(const latent_case& c, const oracle::latent_inputs& x) {
    std::vector<double> rows;
    for (index_t j = 0; j < c.m; ++j) {
      const auto latent = x.c.begin() + j * c.rank, shared = x.k_pe.begin() + j * c.rope;
      rows.insert(rows.end(), latent, latent + c.rank);
      rows.insert(rows.end(), shared, shared + c.rope);
    }
    return rows;
  }
  template <class U>
  static auto matrix(array<U>& a, int column) {
    const auto v = a.get();
    return ds::view<U, ds::host, ds::dyn, ds::dyn>(v.data(), {v.extent(0), v.extent(column)},
                                                   {v.stride(0), v.stride(column)});
  }
  template <class B, class Spec>
  void operator()(const B& b, const Spec& spec) {
    ds::ops::latent_attention(b, ds::latent_inputs{qn.get(), qp.get(), matrix(kv, 2)},
                              ds::latent_weights{uk.get(), uv.get()},
                              ds::attention_outputs{o.get(), matrix(lse, 1)}, spec);
  }
  bool clean() const {
    return qn.unchanged() && qp.unchanged() && kv.unchanged() && uk.unchanged() && uv.unchanged() &&
           qn.intact() && qp.intact() && kv.intact() && o.intact() && lse.intact();
  }
};

// Attention's limits, and those of the products before and after, whose error in a score of unit
// size is an error in its exponential; S has no place for them, so the norms decide.
template <class T>
support::limits allowed(const latent_case& c) {
  support::limits l = support::attention_limits(ds::dtype_of<T>, static_cast<std::size_t>(c.m));
  const double depth = std::sqrt(static_cast<double>(c.nope + c.rank + c.rope));
  l.relative += 4 * (2 + depth) * ds::unit_roundoff<ds::accumulate_t<T>>;
  l.zeros = 1;
  return l;
}

template <class T, class B>
void check(const B& b, const latent_case& c) {
  const auto x = draw<T>(c);
  const auto seen = oracle::causal(static_cast<std::size_t>(c.n), static_cast<std::size_t>(c.m));
  const auto r = oracle::latent_attention(x, shape_of(c), seen);
  run<T> op(c, x);
  op(b, ds::attention_spec<ds::causal>{});
  const std::string where =
      std::string(b.name()) + " " + std::string(ds::to_string(ds::dtype_of<T>)) + " " + c.text();
  support::expect("latent_attention", where,
                  support::compare(allowed<T>(c), op.o.values(), r.out,
                                   static_cast<std::size_t>(c.dv), r.magnitude));
  const auto lse = op.lse.values();
  double near = 1e-5 * (ds::unit_roundoff<ds::accumulate_t<T>> / 0x1p-24) * 4;
  // Where tensor cores take latents of 512, absorbed queries are rounded to T.
  if (c.rank == 512 && sizeof(T) == 2) near += 4 * ds::unit_roundoff<T>;
  bool close = true;
  for (std::size_t i = 0; i < lse.size(); ++i) {
    close =
        close && (std::isinf(r.lse[i]) ? lse[i] == r.lse[i] : std::fabs(lse[i] - r.lse[i]) < near);
  }
  support::expect_true("latent_attention", where, close, "lse is too far");
  support::expect_true("latent_attention", where, op.clean(), "memory that is not its own changed");
}

}  // namespace

TEST_CASE_TEMPLATE("latent_attention: reference", T, double, float, ds::bf16, ds::f16) {
  const ds::reference b;
  for (const latent_case& c : all_cases()) check<T>(b, c);
  support::facet("latent_attention", "forward");
  support::facet("latent_attention", "strides");
}
TEST_CASE_TEMPLATE("latent_attention: cpu", T, double, float, ds::bf16) {
  const ds::cpu b{{.threads = 2}};
  b.workspace().fill_with(0xff);
  for (const latent_case& c : all_cases()) check<T>(b, c);
}

TEST_CASE("latent_attention: cpu at the sizes of DeepSeek-V3, some heads") {
  const ds::cpu b{{.threads = 2}};
  check<float>(b, {3, 150, 8, 512, 128, 64, 128});
  check<double>(b, {1, 70, 20, 512, 128, 64, 128});
  check<float>(b, {2, 130, 128, 32, 16, 8, 16});
  check<ds::bf16>(b, {3, 70, 8, 512, 32, 64, 16});
  check<ds::f16>(b, {1, 40, 20, 512, 16, 64, 8});
  check<ds::bf16>(b, {2, 40, 3, 512, 16, 0, 8});
}

TEST_CASE_TEMPLATE("latent_attention: masked rows hold NaN and do not matter; nothing seen", B,
                   ds::reference, ds::cpu) {
  const B b{};
  const latent_case c{5, 70, 3, 6, 4, 2, 3};
  auto x = draw<float>(c);
  std::vector<std::uint8_t> mask;
  for (index_t i = 0; i < c.n; ++i) {
    for (index_t j = 0; j < c.m; ++j) mask.push_back(i != 2 && j % 3 != 1 && (i + j) % 5 != 0);
  }
  const ds::view<const std::uint8_t, ds::host, ds::dyn, ds::dyn> given(mask.data(), {c.n, c.m});
  const ds::attention_spec<ds::given_mask> spec{.pattern = ds::given_mask(given), .start = 0};
  run<float> zeros(c, x);
  for (index_t j = 1; j < c.m; j += 3) {
    for (index_t i = 0; i < c.rank; ++i) x.c[static_cast<std::size_t>(j * c.rank + i)] = NAN;
    for (index_t i = 0; i < c.rope; ++i) x.k_pe[static_cast<std::size_t>(j * c.rope + i)] = NAN;
  }
  run<float> poisoned(c, x);
  zeros(b, spec);
  poisoned(b, spec);
  CHECK(support::same_bits(zeros.o.values(), poisoned.o.values()));
  CHECK(support::same_bits(zeros.lse.values(), poisoned.lse.values()));
  const auto o = zeros.o.get();
  for (index_t h = 0; h < c.h; ++h) {
    CHECK(zeros.lse.get()(2, h, 0) == -std::numeric_limits<float>::infinity());
    for (index_t d = 0; d < c.dv; ++d) CHECK(o(2, h, d) == 0);
  }
  CHECK(o(0, 0, 0) != 0);
}

TEST_CASE("latent_attention: no bit depends on threads, the batch, or lse being asked for") {
  const latent_case c{9, 200, 16, 24, 8, 4, 8};
  const auto x = draw<float>(c);
  run<float> one(c, x);
  one(ds::cpu{}, ds::attention_spec<ds::causal>{});
  for (int threads : {2, 3}) {
    run<float> more(c, x);
    more(ds::cpu{{.threads = threads}}, ds::attention_spec<ds::causal>{});
    CHECK(support::same_bits(more.o.values(), one.o.values()));
    CHECK(support::same_bits(more.lse.values(), one.lse.values()));
  }
  // The last query alone, on three threads, without lse.
  run<float> alone(c, x);
  const ds::cpu b{{.threads = 3}};
  const auto last = [&](auto v) { return ds::rows(v, c.n - 1, 1); };
  ds::ops::latent_attention(
      b, ds::latent_inputs{last(alone.qn.get()), last(alone.qp.get()), alone.matrix(alone.kv, 2)},
      ds::latent_weights{alone.uk.get(), alone.uv.get()},
      ds::attention_outputs{last(alone.o.get())}, ds::attention_spec<ds::causal>{});
  const auto a = alone.o.get(), r = one.o.get();
  for (index_t h = 0; h < c.h; ++h) {
    for (index_t d = 0; d < c.dv; ++d) CHECK(a(c.n - 1, h, d) == r(c.n - 1, h, d));
  }
}

TEST_CASE_TEMPLATE("latent_attention: packed sequences, no keys, no queries, no width", B,
                   ds::reference, ds::cpu) {
  const B b{};
  const latent_case c{7, 7, 2, 5, 3, 2, 4};
  const auto x = draw<double>(c);
  const std::int32_t offsets[] = {0, 3, 3, 7};
  const ds::sequence_offsets<ds::host> at(offsets, {4});
  run<double> packed(c, x);
  packed(b, ds::attention_spec<ds::causal>{{}, c.scale(), at, at});
  const auto r = oracle::latent_attention(
      x, shape_of(c), [](std::size_t i, std::size_t j) { return j <= i && (i < 3) == (j < 3); });
  CHECK(support::compare(allowed<double>(c), packed.o.values(), r.out, 4, r.magnitude).pass);

  const latent_case without{2, 0, 2, 5, 3, 2, 4};
  run<double> nobody(without, draw<double>(without));
  nobody(b, ds::attention_spec<ds::everyone>{});
  for (double v : nobody.o.values()) CHECK(v == 0);
  for (double v : nobody.lse.values()) CHECK(v == -std::numeric_limits<double>::infinity());
  for (const latent_case& nothing :
       {latent_case{0, 3, 2, 5, 3, 2, 4}, latent_case{2, 3, 0, 5, 3, 2, 4},
        latent_case{2, 3, 2, 5, 3, 2, 0}, latent_case{2, 3, 2, 0, 3, 2, 4}}) {
    run<double> op(nothing, draw<double>(nothing));
    op(b, ds::attention_spec<ds::everyone>{});
    for (double v : op.o.values()) CHECK(v == 0);
    CHECK(op.clean());
  }
  support::facet("latent_attention", "zero");
}

TEST_CASE_TEMPLATE("latent_attention: errors", B, ds::reference, ds::cpu) {
  const B b{};
  float data[64] = {};
  using cube = ds::view<float, ds::host, ds::dyn, ds::dyn, ds::dyn>;
  using table = ds::view<float, ds::host, ds::dyn, ds::dyn>;
  const cube qn(data, {2, 2, 3}), qp(data, {2, 2, 2}), uk(data, {2, 3, 4}), uv(data, {2, 5, 4}),
      o(data, {2, 2, 5});
  const table kv(data, {3, 6}), lse(data, {2, 2});
  const auto call = [&](cube n, cube p, table rows, cube k, cube v, cube out, table sums) {
    ds::ops::latent_attention(b, ds::latent_inputs{n, p, rows}, ds::latent_weights{k, v},
                              ds::attention_outputs{out, sums}, ds::attention_spec<ds::causal>{});
  };
  constexpr auto shape = ds::error_code::shape_mismatch;
  CHECK_ERROR(shape, "q_pe[2, 3, 2]", call(qn, cube(data, {2, 3, 2}), kv, uk, uv, o, lse));
  CHECK_ERROR(shape, "kv[3, 5]", "expected 6", call(qn, qp, table(data, {3, 5}), uk, uv, o, lse));
  CHECK_ERROR(shape, "w_uk[2, 4, 4]", call(qn, qp, kv, cube(data, {2, 4, 4}), uv, o, lse));
  CHECK_ERROR(shape, "w_uv[2, 5, 3]", call(qn, qp, kv, uk, cube(data, {2, 5, 3}), o, lse));
  CHECK_ERROR(shape, "o[2, 2, 4]", call(qn, qp, kv, uk, uv, cube(data, {2, 2, 4}), lse));
  CHECK_ERROR(shape, "lse[2, 1]", call(qn, qp, kv, uk, uv, o, table(data, {2, 1})));
  CHECK_ERROR(ds::error_code::invalid_argument, "kv[3, 6]", "null",
              call(qn, qp, table(nullptr, {3, 6}), uk, uv, o, lse));
  CHECK_ERROR(
      ds::error_code::invalid_argument, "scale",
      ds::ops::latent_attention(b, ds::latent_inputs{qn, qp, kv}, ds::latent_weights{uk, uv},
                                ds::attention_outputs{o}, ds::attention_spec<ds::causal>{{}, NAN}));
  support::facet("latent_attention", "errors");
  support::not_applicable("latent_attention", "gradient");  // for inference; training is naive
}
