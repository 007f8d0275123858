// SPDX-License-Identifier: Apache-2.0
// rope against the oracle, its inverse as its gradient, and its contract.
#include "deepseek/ops/rope.hpp"

#include "deepseek/backend/cpu/rope.hpp"
#include "deepseek/backend/reference/rope.hpp"

#include "ops/row_cases.hpp"
#include "oracle/golden.hpp"
#include "oracle/rope.hpp"

namespace ds = deepseek;
using row_cases::reals;

namespace {

struct rope_case {
  std::size_t tokens, heads, dim;
  ds::index_t first, count;
  std::int64_t largest;  // positions are drawn up to it
  ds::rope_layout layout;
  ds::rope_turn turn;
  row_cases::strides how;
  std::string text() const {
    return support::text("tokens", tokens, "heads", heads, "dim", dim, "first", first, "count",
                         count, "largest", largest, "half", layout == ds::rope_layout::half,
                         "inverse", turn == ds::rope_turn::inverse, "strides",
                         static_cast<int>(how));
  }
  ds::rope_spec spec() const {
    return {.theta = 1e4, .layout = layout, .turn = turn, .first = first, .count = count};
  }
  row_cases::row_case row() const { return {tokens, heads * dim, how}; }
};

std::vector<rope_case> all_cases() {
  const std::vector<std::size_t> tokens = {1, 2, 15, 16, 17, 33}, heads = {1, 2, 5};
  const std::vector<std::size_t> dims = {2, 4, 6, 8, 14, 16, 30, 32, 34, 64, 66, 128, 192};
  const std::vector<std::int64_t> largest = {0, 7, 300, 4096, 1000000};
  std::vector<rope_case> out;
  for (const auto& p : support::pairwise({6, 3, 13, 3, 5, 2, 2, 4})) {
    const auto dim = static_cast<ds::index_t>(dims[p[2]]);
    const ds::index_t first = p[3] == 0 ? 0 : dim / 2 - dim / 2 % 2;
    const ds::index_t count = p[3] == 2 ? (dim - first) / 2 / 2 * 2 : -1;
    out.push_back({tokens[p[0]], heads[p[1]], dims[p[2]], first, count, largest[p[4]],
                   static_cast<ds::rope_layout>(p[5]), static_cast<ds::rope_turn>(p[6]),
                   static_cast<row_cases::strides>(p[7])});
  }
  return out;
}

std::vector<std::int32_t> draw_positions(const rope_case& c) {
  support::numbers from(c.text() + " positions");
  std::vector<std::int32_t> p(c.tokens);
  for (auto& e : p) e = static_cast<std::int32_t>(from.between(c.largest / 2, c.largest));
  return p;
}

// The oracle on the rotated slice, the rest copied.
reals oracle_rope(const rope_case& c, const reals& x, const std::vector<std::int32_t>& at) {
  const auto first = static_cast<std::size_t>(c.first);
  const std::size_t count = c.count < 0 ? c.dim - first : static_cast<std::size_t>(c.count);
  reals part, y = x;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (i % c.dim >= first && i % c.dim < first + count) part.push_back(x[i]);
  }
  oracle::rope_shape shape{c.heads, count};
  shape.layout =
      c.layout == ds::rope_layout::half ? oracle::pairing::half : oracle::pairing::interleaved;
  shape.direction = c.turn == ds::rope_turn::inverse ? -1 : 1;
  part = oracle::rope(part, {at.begin(), at.end()}, shape);
  for (std::size_t i = 0, j = 0; i < x.size(); ++i) {
    if (i % c.dim >= first && i % c.dim < first + count) y[i] = part[j++];
  }
  return y;
}

// [tokens, heads * dim] of a grid as [tokens, heads, dim].
template <class T>
auto heads_of(row_cases::grid<T>& g, const rope_case& c) {
  const auto m = g.matrix();
  const auto heads = static_cast<ds::index_t>(c.heads), dim = static_cast<ds::index_t>(c.dim);
  return ds::view<T, ds::host, ds::dyn, ds::dyn, ds::dyn>(
      m.data(), {m.extent(0), heads, dim}, {m.stride(0), dim * m.stride(1), m.stride(1)});
}
using positions_view = ds::view<const std::int32_t, ds::host, ds::dyn>;

template <class T, class B>
std::vector<T> turned(const B& b, const rope_case& c, const reals& x,
                      const std::vector<std::int32_t>& at) {
  const positions_view p(at.data(), {static_cast<ds::index_t>(at.size())});
  return row_cases::run<T>(c.row(), {x}, {2}, {2}, [&](auto& from, auto& to) {
    ds::ops::rope(b, heads_of(from[0], c), p, heads_of(to[0], c), c.spec());
  })[0];
}

template <class T, class B>
void check(const B& b, const rope_case& c) {
  support::numbers from(c.text());
  const auto drawn = support::draw(support::values::normal, c.tokens * c.heads * c.dim, from);
  const reals x = support::to_double(support::as<T>(drawn));
  const auto at = draw_positions(c);
  const auto got = turned<T>(b, c, x, at);
  reals size(x.size());
  for (std::size_t row = 0; row < x.size(); row += c.dim) {
    double squares = 0;
    for (std::size_t i = 0; i < c.dim; ++i) squares += x[row + i] * x[row + i];
    for (std::size_t i = 0; i < c.dim; ++i) size[row + i] = std::sqrt(squares);
  }
  support::limits allowed = row_cases::element_limits(ds::dtype_of<T>, 2);
  allowed.zeros = 1;
  const std::string where =
      std::string(b.name()) + " " + std::string(ds::to_string(ds::dtype_of<T>)) + " " + c.text();
  support::expect("rope", where,
                  support::compare(allowed, got, oracle_rope(c, x, at), c.dim, size));
}

template <class T>
void check_cpu() {
  std::vector<ds::cpu> on;
  for (int threads = 1; threads <= 3; ++threads) on.emplace_back(ds::cpu_config{threads});
  for (const ds::cpu& b : on) b.workspace().fill_with(0xff);
  for (const rope_case& c : all_cases()) {
    check<T>(on[0], c);
    const reals x = support::loss_weights(c.tokens * c.heads * c.dim);
    const auto at = draw_positions(c);
    const auto one = turned<T>(on[0], c, x, at);
    const bool equal = support::same_bits(turned<T>(on[1], c, x, at), one) &&
                       support::same_bits(turned<T>(on[2], c, x, at), one);
    support::expect_true("rope", "threads " + c.text(), equal, "bits depend on threads");
    // In place, and the last token alone.
    std::vector<T> over, alone;
    const positions_view p(at.data(), {static_cast<ds::index_t>(at.size())});
    row_cases::run<T>(c.row(), {}, {}, {2}, [&](auto&, auto& to) {
      to[0].fill(x);
      ds::ops::rope(on[1], heads_of(to[0], c), p, heads_of(to[0], c), c.spec());
      over = to[0].values();
      to[0].fill(x);
      const ds::index_t n = static_cast<ds::index_t>(c.tokens);
      const auto last = ds::rows(heads_of(to[0], c), n - 1, 1);
      ds::ops::rope(on[1], last, ds::rows(p, n - 1, 1), last, c.spec());
      alone = to[0].values();
    });
    const auto tail = static_cast<std::ptrdiff_t>(c.heads * c.dim);
    const bool last = support::same_bits(std::vector<T>(alone.end() - tail, alone.end()),
                                         std::vector<T>(one.end() - tail, one.end()));
    support::expect_true("rope", "in place, alone " + c.text(),
                         support::same_bits(over, one) && last, "bits differ");
  }
}

// The gradient of sum(w * rope(x)) is the other turn of w; checked against differences too.
template <class B>
void check_gradient(const B& b) {
  for (rope_case c : all_cases()) {
    if (c.tokens * c.heads * c.dim > 200) continue;
    const std::size_t n = c.tokens * c.heads * c.dim;
    const reals w = support::loss_weights(n), x = support::loss_weights(n, 5);
    const auto at = draw_positions(c);
    const auto loss = [&](const reals& moved) {
      return support::weighted_sum(w, turned<double>(b, c, moved, at));
    };
    rope_case back = c;
    back.turn = c.turn == ds::rope_turn::forward ? ds::rope_turn::inverse : ds::rope_turn::forward;
    support::expect_gradient("rope", c.text(),
                             support::check_gradient(loss, x, turned<double>(b, back, w, at)));
  }
}

template <class B>
void check_contract(const B& b) {
  using ds::error_code;
  float data[64] = {};
  std::int32_t at[4] = {1, 2, 3, 4};
  using view = ds::view<float, ds::host, ds::dyn, ds::dyn, ds::dyn>;
  const view x(data, {2, 1, 6}), wrong(data, {2, 1, 8}), null(nullptr, {2, 1, 6});
  const positions_view p(at, {2}), longer(at, {3});
  const auto& op = ds::ops::rope;
  CHECK_ERROR(error_code::shape_mismatch, "rope: positions[3]", "expected 2",
              op(b, x, longer, x, {}));
  CHECK_ERROR(error_code::shape_mismatch, "rope: y[2, 1, 8]", op(b, x, p, wrong, {}));
  CHECK_ERROR(error_code::invalid_argument, "rope: x[2, 1, 6]", op(b, null, p, x, {}));
  CHECK_ERROR(error_code::invalid_argument, "theta is 0", op(b, x, p, x, {.theta = 0}));
  CHECK_ERROR(error_code::invalid_argument, "first 4, count 4", "dim 6",
              op(b, x, p, x, {.first = 4, .count = 4}));
  CHECK_ERROR(error_code::invalid_argument, "first 7", op(b, x, p, x, {.first = 7}));
  CHECK_ERROR(error_code::invalid_argument, "count -2", op(b, x, p, x, {.count = -2}));
  CHECK_ERROR(error_code::config, "3 elements", op(b, x, p, x, {.first = 3}));
  support::facet("rope", "errors");

  const view nothing(data, {0, 1, 6});
  data[0] = 5;
  op(b, nothing, ds::rows(p, 0, 0), nothing, {});
  op(b, x, p, x, {.first = 2, .count = 0});
  support::expect_true("rope", "zero", data[0] == 5, "something was written");
  support::facet("rope", "zero");
  support::facet("rope", "strides");
}

}  // namespace

TEST_CASE("rope: reference") {
  const ds::reference b;
  for (const rope_case& c : all_cases()) {
    check<double>(b, c);
    check<float>(b, c);
    check<ds::bf16>(b, c);
    check<ds::f16>(b, c);
  }
  support::facet("rope", "forward");
}
TEST_CASE("rope: cpu") {
  check_cpu<float>();
  check_cpu<double>();
  check_cpu<ds::bf16>();
  check_cpu<ds::f16>();
}
TEST_CASE("rope: the gradient is the other turn; contract") {
  check_gradient(ds::reference{});
  check_gradient(ds::cpu{});
  check_contract(ds::reference{});
  check_contract(ds::cpu{});
}
TEST_CASE("rope: golden values; theta below 1; negative positions") {
  namespace golden = oracle::golden::rope;
  const std::int32_t at = static_cast<std::int32_t>(golden::position);
  const ds::cpu b;
  for (const bool half : {false, true}) {
    ds::tensor<double, ds::host, 1, 1, 4> x, y, back;
    for (std::size_t i = 0; i < 4; ++i) x.data()[i] = golden::x[i];
    const auto layout = half ? ds::rope_layout::half : ds::rope_layout::interleaved;
    ds::ops::rope(b, x, positions_view(&at, {1}), y, {.layout = layout});
    for (std::size_t i = 0; i < 4; ++i) {
      CHECK(y.data()[i] == doctest::Approx((half ? golden::half : golden::interleaved)[i]));
    }
    const std::int32_t minus = -at;
    ds::ops::rope(b, y, positions_view(&minus, {1}), back, {.layout = layout});
    for (std::size_t i = 0; i < 4; ++i) CHECK(back.data()[i] == doctest::Approx(golden::x[i]));
    const ds::rope_spec small{.theta = 1e-4, .layout = layout};
    ds::ops::rope(b, x, positions_view(&at, {1}), y, small);
    ds::ops::rope(ds::reference{}, x, positions_view(&at, {1}), back, small);
    for (std::size_t i = 0; i < 4; ++i) CHECK(y.data()[i] == back.data()[i]);
  }
}
