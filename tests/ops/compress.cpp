// SPDX-License-Identifier: Apache-2.0
// compress against the oracle sequence by sequence, with and without overlap, gradients against
// differences, what an incomplete window holds (NaN must not matter), errors, threads.
#include "deepseek/ops/compress.hpp"

#include "deepseek/backend/cpu/compress.hpp"
#include "deepseek/backend/reference/compress.hpp"
#include "ops/hyper_case.hpp"
#include "oracle/compress.hpp"

using namespace hyper_test;

namespace {

struct shape {
  index_t ratio, dim;
  ds::overlap how = ds::overlap::absent;
  std::vector<std::int32_t> offsets = {};  // of at least two sequences
  index_t tokens = 0;                      // of one
  index_t gap = 0;
  index_t width() const { return how == ds::overlap::present ? 2 * dim : dim; }
  index_t rows() const { return offsets.empty() ? tokens : offsets.back(); }
  std::vector<std::int32_t> bounds() const {
    return offsets.empty() ? std::vector<std::int32_t>{0, static_cast<std::int32_t>(tokens)}
                           : offsets;
  }
  index_t entries() const {
    index_t n = 0;
    const auto at = bounds();
    for (std::size_t s = 0; s + 1 < at.size(); ++s) n += (at[s + 1] - at[s]) / ratio;
    return n;
  }
  ds::compress_spec<host> spec() const {
    return {ratio, how, {offsets.data(), {static_cast<index_t>(offsets.size())}}};
  }
};
using enum ds::overlap;
const shape shapes[] = {
    {4, 5, present, {}, 19},   {4, 3, absent, {}, 16, 2},         {1, 4, absent, {}, 6},
    {1, 4, present, {}, 6, 1}, {3, 4, present, {0, 7, 7, 9, 15}}, {128, 3, absent, {}, 300},
};
std::string text(const shape& s, std::string_view backend) {
  return std::string(backend) + support::text(" ratio", s.ratio, "dim", s.dim, "width", s.width(),
                                              "rows", s.rows(), "gap", s.gap);
}

template <class T>
struct problem {
  shape s;
  block<T> kv, gate, ape, y, dkv, dgate, dape;
  explicit problem(const shape& of)
      : s(of),
        kv({of.rows(), 1, 1, of.gap}, of.width()),
        gate(kv),
        ape({of.ratio, 1, 1, of.gap}, of.width()),
        y({of.entries(), 1, 1, of.gap}, of.dim),
        dkv(kv),
        dgate(kv),
        dape(ape) {
    kv.draw(1), gate.draw(2), ape.draw(3);
    dape.set(reals(dape.values().size(), 0.5));
  }
  auto inputs() { return ds::compress_views{kv.matrix(), gate.matrix(), ape.matrix()}; }
  auto gradients() { return ds::compress_views{dkv.matrix(), dgate.matrix(), dape.matrix()}; }
  template <class B>
  void forward(const B& b) {
    ds::ops::compress(b, inputs(), y.matrix(), s.spec());
  }
  template <class B>
  void backward(const B& b, block<T>& dy) {
    ds::ops::compress_backward(b, inputs(), dy.matrix(), gradients(), s.spec());
  }
  reals wanted() {
    reals out;
    const auto at = s.bounds();
    const auto part = [&](const reals& all, std::size_t i) {
      const auto w = static_cast<std::ptrdiff_t>(s.width());
      return reals(all.begin() + at[i] * w, all.begin() + at[i + 1] * w);
    };
    for (std::size_t i = 0; i + 1 < at.size(); ++i) {
      const reals one = oracle::compress(
          part(kv.numbers(), i), part(gate.numbers(), i), ape.numbers(),
          {static_cast<std::size_t>(s.ratio), static_cast<std::size_t>(s.dim), s.how == present});
      out.insert(out.end(), one.begin(), one.end());
    }
    return out;
  }
  bool sound() {
    return kv.unchanged() && gate.unchanged() && ape.unchanged() && y.clean() && dkv.clean() &&
           dgate.clean() && dape.clean();
  }
};

template <class T, class B>
void forward(const B& b, const shape& s) {
  problem<T> p(s);
  p.forward(b);
  support::expect("compress", text(s, b.name()),
                  support::compare(support::attention_limits(ds::dtype_of<T>,
                                                             static_cast<std::size_t>(2 * s.ratio)),
                                   p.y.values(), p.wanted(), static_cast<std::size_t>(s.dim)));
  CHECK(p.sound());
}

template <class B>
void gradient(const B& b, const shape& s) {
  problem<double> p(s);
  const reals w = support::loss_weights(p.y.values().size());
  block<double> dy({s.entries(), 1, 1, s.gap}, s.dim);
  dy.set(w);
  p.backward(b, dy);
  const auto loss = [&] {
    p.forward(b);
    return support::weighted_sum(w, p.y.numbers());
  };
  reals dape = p.dape.numbers();
  for (double& e : dape) e -= 0.5;
  const std::string name = text(s, b.name());
  expect_block_gradient("compress", name + " kv", p.kv, p.dkv.numbers(), loss);
  if (s.ratio > 1 || s.how == present) {
    expect_block_gradient("compress", name + " gate", p.gate, p.dgate.numbers(), loss);
    expect_block_gradient("compress", name + " ape", p.ape, dape, loss);
  }
  CHECK((p.sound() && dy.unchanged()));
}

// The tail of an incomplete window, and the first half of the channels of the last complete one,
// are read by no entry: NaN there changes no bit, and their gradients are zero.
template <class B>
void unread(const B& b) {
  const shape s{4, 3, present, {}, 14};
  problem<double> clean(s), dirty(s);
  reals kv = clean.kv.numbers(), gate = clean.gate.numbers();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  std::vector<std::size_t> places;
  for (std::size_t t = 8; t < 14; ++t) {
    for (std::size_t c = 0; c < 6; ++c) {
      if (t >= 12 || c < 3) places.push_back(t * 6 + c);
    }
  }
  for (const std::size_t at : places) kv[at] = gate[at] = nan;
  dirty.kv.set(kv), dirty.gate.set(gate);
  block<double> dy({3, 1, 1}, 3);
  dy.draw(4);
  for (auto* p : {&clean, &dirty}) p->forward(b), p->backward(b, dy);
  CHECK(support::same_bits(clean.y.values(), dirty.y.values()));
  CHECK(support::same_bits(clean.dkv.values(), dirty.dkv.values()));
  CHECK(support::same_bits(clean.dgate.values(), dirty.dgate.values()));
  CHECK(support::same_bits(clean.dape.values(), dirty.dape.values()));
  for (const std::size_t at : places) {
    CHECK(dirty.dkv.values()[at] == 0);
    CHECK(dirty.dgate.values()[at] == 0);
  }
}

// Windows from `first` on alone: the same bits as among all.
template <class B>
void from_a_window(const B& b) {
  problem<float> p({4, 3, present, {}, 18});
  p.forward(b);
  const auto all = p.y.values();
  block<float> some({2, 1, 1}, 3);
  auto spec = p.s.spec();
  spec.first = 2;
  ds::ops::compress(b, p.inputs(), some.matrix(), spec);
  CHECK(support::same_bits(some.values(), std::vector<float>(all.begin() + 6, all.end())));
  // From that of a token, read when the op runs; a window that is not whole is not written.
  for (std::int32_t token = 0; token < 18; ++token) {
    block<float> two({2, 1, 1}, 3);
    const auto before = two.values();
    spec = p.s.spec();
    spec.first_at = {&token, {1}};
    ds::ops::compress(b, p.inputs(), two.matrix(), spec);
    const auto got = two.values();
    bool right = true;
    for (std::size_t i = 0; i < 6; ++i) {
      const auto at = static_cast<std::size_t>(token / 4) * 3 + i;
      right = right && support::same_bits(std::vector<float>{got[i]},
                                          std::vector<float>{at < 12 ? all[at] : before[i]});
    }
    CHECK(right);
  }
}

template <class B>
void errors(const B& b) {
  using ds::error_code;
  problem<double> p({4, 3, absent, {}, 9});
  block<double> three({3, 1, 1}, 3), wide({2, 1, 1}, 4);
  const auto& op = ds::ops::compress;
  auto spec = p.s.spec();
  CHECK_ERROR(error_code::shape_mismatch, "compress: y has 3 entries, expected 2",
              op(b, p.inputs(), three.matrix(), spec));
  CHECK_ERROR(error_code::shape_mismatch, "compress: kv[9, 3]", "expected 4",
              op(b, p.inputs(), wide.matrix(), spec));
  spec.windows = present;
  CHECK_ERROR(error_code::shape_mismatch, "compress: kv[9, 3]", "expected 6",
              op(b, p.inputs(), p.y.matrix(), spec));
  spec = p.s.spec();
  spec.ratio = 3;
  CHECK_ERROR(error_code::shape_mismatch, "compress: ape[4, 3]",
              op(b, p.inputs(), three.matrix(), spec));
  spec.ratio = 0;
  CHECK_ERROR(error_code::invalid_argument, "ratio is 0", op(b, p.inputs(), p.y.matrix(), spec));
  spec = p.s.spec();
  spec.first = -1;
  CHECK_ERROR(error_code::invalid_argument, "first is -1", op(b, p.inputs(), three.matrix(), spec));
  std::int32_t token = 9;
  spec = p.s.spec();
  spec.first_at = {&token, {1}};
  CHECK_ERROR(error_code::index_range, "first_at[0] is 9, outside 0 .. 8",
              op(b, p.inputs(), three.matrix(), spec));
  CHECK_ERROR(error_code::unsupported, "first_at",
              ds::ops::compress_backward(b, p.inputs(), p.y.matrix(), p.gradients(), spec));
  spec.first = 1;
  CHECK_ERROR(error_code::invalid_argument, "first_at[1] with first 1",
              op(b, p.inputs(), three.matrix(), spec));
  const std::int32_t bad[] = {0, 5, 8};
  spec = p.s.spec();
  spec.sequences = {bad, {3}};
  CHECK_ERROR(error_code::offsets, "compress: sequences[2] is 8", "9 rows",
              op(b, p.inputs(), p.y.matrix(), spec));
  CHECK_ERROR(error_code::shape_mismatch, "dgate",
              ds::ops::compress_backward(
                  b, p.inputs(), p.y.matrix(),
                  ds::compress_views{p.dkv.matrix(), three.matrix(), p.dape.matrix()}, p.s.spec()));

  // Fewer tokens than a window: no entry, gradients of zero; no tokens: nothing.
  problem<double> few({4, 3, absent, {}, 3}), nothing({4, 3, absent, {}, 0});
  few.forward(b), few.backward(b, few.y), nothing.forward(b), nothing.backward(b, nothing.y);
  CHECK(few.dkv.numbers() == reals(9, 0.0));
  CHECK(few.dape.numbers() == reals(12, 0.5));
  support::facet("compress", "errors");
  support::facet("compress", "zero");
}

}  // namespace

TEST_CASE_TEMPLATE("compress: against the oracle; gradients", B, ds::reference, ds::cpu) {
  const B b;
  b.workspace().fill_with(0xff);
  for (const shape& s : shapes) {
    forward<double>(b, s);
    forward<float>(b, s);
    forward<ds::bf16>(b, s);
    if (s.rows() * s.width() <= 200) gradient(b, s);
  }
  support::facet("compress", "forward");
  support::facet("compress", "strides");
  unread(b);
  from_a_window(b);
  errors(b);
}

TEST_CASE("compress: large gates; the bits do not depend on threads") {
  std::vector<float> first;
  for (const int threads : {1, 2, 3}) {
    const ds::cpu b({.threads = threads});
    problem<float> p({4, 33, present, {}, 90});
    reals gate = p.gate.numbers();
    for (double& e : gate) e = e * 50 + 3e4;
    p.gate.set(gate);
    p.forward(b);
    block<float> dy({22, 1, 1}, 33);
    dy.draw(5);
    p.backward(b, dy);
    std::vector<float> now = p.y.values();
    for (auto* more : {&p.dkv, &p.dgate, &p.dape}) {
      const auto v = more->values();
      now.insert(now.end(), v.begin(), v.end());
    }
    for (const float e : now) CHECK(std::isfinite(e));
    if (first.empty()) first = now;
    CHECK(support::same_bits(first, now));
  }
}

TEST_CASE("compressed_offsets: whole windows of each sequence") {
  const ds::reference b;
  const std::int32_t offsets[] = {0, 7, 7, 9, 17};
  std::int32_t out[5] = {9, 9, 9, 9, 9};
  const ds::view<const std::int32_t, host, dyn> in(offsets, {5});
  const ds::view<std::int32_t, host, dyn> to(out, {5}), short_one(out, {4});
  CHECK(ds::ops::compressed_offsets(b, in, 4, to) == 3);
  CHECK(std::vector<std::int32_t>(out, out + 5) == std::vector<std::int32_t>{0, 1, 1, 1, 3});
  CHECK_ERROR(ds::error_code::shape_mismatch, "compressed_offsets: out[4]",
              ds::ops::compressed_offsets(b, in, 4, short_one));
  CHECK_ERROR(ds::error_code::invalid_argument, "ratio is 0",
              ds::ops::compressed_offsets(b, in, 0, to));
}
