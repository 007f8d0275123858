// SPDX-License-Identifier: Apache-2.0
// GPTQ and AWQ layouts: files written here bit by bit from codes, scales and zero points, read back
// as those numbers; taken as they are by int4_groups; act-order; zero + 1; the order of nibbles;
// mxfp4 as files pack it; refusals.
#include "deepseek/quant/packed_int4.hpp"

#include "deepseek/core/tensor.hpp"
#include "deepseek/quant/mxfp4.hpp"
#include "oracle/mxfp4.hpp"
#include "support/seed.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

namespace ds = deepseek;

namespace {

constexpr int out = 24, in = 128, group = 64, groups = in / group;

void put(std::vector<std::int32_t>& words, int word, int nibble, int code) {
  auto& w = words[static_cast<std::size_t>(word)];
  w = static_cast<std::int32_t>(static_cast<std::uint32_t>(w) |
                                (static_cast<std::uint32_t>(code) << (4 * nibble)));
}

// Codes [out][in], zero points and scales [groups][out]; the group of each input.
struct contents {
  int code[out][in], zero[groups][out];
  ds::f16 scale[groups][out];
  std::int32_t group_of[in];

  explicit contents(const char* name, int least_zero = 0, int most_zero = 15) {
    support::numbers from(name);
    for (auto& row : code) {
      for (int& q : row) q = static_cast<int>(from.below(16));
    }
    for (int g = 0; g < groups; ++g) {
      for (int n = 0; n < out; ++n) {
        zero[g][n] =
            least_zero +
            static_cast<int>(from.below(static_cast<std::size_t>(most_zero - least_zero + 1)));
        scale[g][n] = ds::f16(0.01 + 0.1 * from.uniform());
      }
    }
    for (int k = 0; k < in; ++k) group_of[k] = k / group;
  }
  float value(int n, int k) const {
    const int g = group_of[k];
    return static_cast<float>(code[n][k] - zero[g][n]) * static_cast<float>(scale[g][n]);
  }
};

struct gptq_file {
  std::vector<std::int32_t> qweight, qzeros;
  const contents& c;

  gptq_file(const contents& from, int stored_zero_offset)
      : qweight(in / 8 * out), qzeros(groups * out / 8), c(from) {
    for (int n = 0; n < out; ++n) {
      for (int k = 0; k < in; ++k) put(qweight, k / 8 * out + n, k % 8, c.code[n][k]);
      for (int g = 0; g < groups; ++g)
        put(qzeros, g * out / 8 + n / 8, n % 8, c.zero[g][n] + stored_zero_offset);
    }
  }
  ds::gptq_matrix<ds::host> matrix(bool with_index) const {
    ds::gptq_matrix<ds::host> m{{qweight.data(), {in / 8, out}},
                                {qzeros.data(), {groups, out / 8}},
                                {&c.scale[0][0], {groups, out}}};
    if (with_index) m.g_idx = {c.group_of, {in}};
    return m;
  }
};

struct awq_file {
  std::vector<std::int32_t> qweight, qzeros;
  const contents& c;

  explicit awq_file(const contents& from)
      : qweight(in * out / 8), qzeros(groups * out / 8), c(from) {
    const int order[] = {0, 2, 4, 6, 1, 3, 5, 7};  // nibble i is output order[i]
    for (int word = 0; word < out / 8; ++word) {
      for (int i = 0; i < 8; ++i) {
        const int n = 8 * word + order[i];
        for (int k = 0; k < in; ++k) put(qweight, k * out / 8 + word, i, c.code[n][k]);
        for (int g = 0; g < groups; ++g) put(qzeros, g * out / 8 + word, i, c.zero[g][n]);
      }
    }
  }
  ds::awq_matrix<ds::host> matrix() const {
    return {{qweight.data(), {in, out / 8}},
            {qzeros.data(), {groups, out / 8}},
            {&c.scale[0][0], {groups, out}}};
  }
};

template <class M>
int differences(const M& m, const contents& c) {
  int wrong = 0;
  for (int n = 0; n < out; ++n) {
    for (int k = 0; k < in; ++k) wrong += m(n, k) != c.value(n, k);
  }
  return wrong;
}
template <class F, class M>
auto made(const M& m) {
  typename F::template weight<float, ds::host, out, in> w;
  ds::make_expert_weight(F{}, m, {}, w, 0);
  return w;
}

}  // namespace

TEST_CASE("GPTQ: stored zero points are one less; the later form stores them as they are") {
  const contents c("gptq", 1, 16), later("gptq v2");
  const gptq_file file(c, -1), v2(later, 0);
  CHECK(differences(file.matrix(false), c) == 0);
  CHECK(differences(file.matrix(true), c) == 0);
  auto plain = v2.matrix(true);
  plain.zeros = ds::gptq_zeros::plain;
  CHECK(differences(plain, later) == 0);
  CHECK(differences(v2.matrix(true), later) > out * in / 2);
}

TEST_CASE("GPTQ and AWQ in f16 groups: the same numbers, also in smaller groups") {
  const contents c("taken", 1, 16), a("awq");
  const gptq_file file(c, -1);
  const auto gptq = file.matrix(true);
  const awq_file awq(a);
  CHECK(differences(awq.matrix(), a) == 0);
  CHECK(ds::is_taken_as_is(ds::int4_groups<64, ds::f16>{}, gptq));
  CHECK(!ds::is_taken_as_is(ds::int4_groups<128, ds::f16>{}, gptq));
  CHECK(!ds::is_taken_as_is(ds::int4_groups<64>{}, gptq));  // scales of 11 bits in 8
  CHECK(!ds::is_taken_as_is(ds::int4_symmetric<64, ds::f16>{}, gptq));
  CHECK(differences(made<ds::int4_groups<64, ds::f16>>(gptq).operand().expert(0), c) == 0);
  CHECK(differences(made<ds::int4_groups<32, ds::f16>>(gptq).operand().expert(0), c) == 0);
  CHECK(differences(made<ds::int4_groups<64, ds::f16>>(awq.matrix()).operand().expert(0), a) == 0);
  const contents middle("symmetric", 8, 8);
  const gptq_file symmetric(middle, -1);
  CHECK(
      differences(made<ds::int4_symmetric<64, ds::f16>>(symmetric.matrix(true)).operand().expert(0),
                  middle) == 0);
}

TEST_CASE(
    "GPTQ in the order of activations: numbers by g_idx, rounded again in contiguous groups") {
  contents c("order", 1, 16);
  for (int k = 0; k < in; ++k) c.group_of[k] = (k * 37 % in) / group;
  const gptq_file file(c, -1);
  CHECK(differences(file.matrix(true), c) == 0);
  CHECK(differences(file.matrix(false), c) > 0);  // without it: other groups
  CHECK(!ds::is_taken_as_is(ds::int4_groups<32, ds::f16>{}, file.matrix(true)));
  const auto again = made<ds::int4_groups<32, ds::f16>>(file.matrix(true));
  const auto w = again.operand().expert(0);
  double error = 0, norm = 0;
  for (int n = 0; n < out; ++n) {
    for (int k = 0; k < in; ++k) {
      const double want = static_cast<double>(c.value(n, k)),
                   d = static_cast<double>(w(n, k)) - want;
      error += d * d, norm += want * want;
    }
  }
  MESSAGE("rounded again: relative error " << std::sqrt(error / norm));
  CHECK(std::sqrt(error / norm) < 0.08);
}

TEST_CASE("what does not fit together is refused") {
  const contents c("refused", 1, 16);
  const gptq_file file(c, -1);
  ds::int4_groups<64, ds::f16>::weight<float, ds::host, out, in> w;
  const ds::int4_groups<64, ds::f16> format;
  auto m = file.matrix(true);
  auto bad = c;
  bad.group_of[5] = groups;
  m.g_idx = {bad.group_of, {in}};
  CHECK_ERROR(ds::error_code::index_range, "int4_groups", "g_idx[5] is 2",
              ds::make_expert_weight(format, m, {}, w, 0));
  m = file.matrix(true);
  m.qzeros = {file.qzeros.data(), {groups, 2}};
  CHECK_ERROR(ds::error_code::shape_mismatch, "[2, 2]",
              ds::make_expert_weight(format, m, {}, w, 0));
  m = file.matrix(false);
  m.scales = {&c.scale[0][0], {3, 16}};
  CHECK_ERROR(ds::error_code::shape_mismatch, ds::make_expert_weight(format, m, {}, w, 0));
  contents infinite("infinite");
  infinite.scale[1][7] = ds::f16(1e9);
  const awq_file awq(infinite);
  CHECK_ERROR(ds::error_code::nonfinite, "[0, 7, 64]",
              ds::make_expert_weight(format, awq.matrix(), {}, w, 0));
}

TEST_CASE("mxfp4: codes and scales are the oracle's; files are taken as they are") {
  support::numbers from("mxfp4");
  for (support::values kind : support::every_class) {
    const auto w = support::as<float>(support::draw(kind, 20 * 96, from));
    const auto want = oracle::quantize_mxfp4(w, 96);
    std::vector<std::uint8_t> packed(20 * 48);
    std::vector<ds::f8_e8m0> scales;
    for (int p : want.powers)
      scales.push_back(ds::f8_e8m0::from_bits(static_cast<std::uint8_t>(p + 127)));
    for (std::size_t i = 0; i < w.size(); ++i) {
      packed[i / 2] = static_cast<std::uint8_t>(packed[i / 2] | (want.codes[i] << (i % 2 * 4)));
    }
    ds::mxfp4::weight<float, ds::host, 20, 96> made, taken;
    ds::make_expert_weight(ds::mxfp4{}, ds::view<const float, ds::host, 20, 96>(w.data(), {20, 96}),
                           {}, made, 0);
    const ds::packed_mxfp4<ds::host> file{{packed.data(), {20, 48}}, {scales.data(), {20, 3}}};
    ds::make_expert_weight(ds::mxfp4{}, file, {}, taken, 0);
    int wrong = 0;
    for (ds::index_t i = 0; i < 20 * 96; ++i) {
      const auto n = static_cast<std::size_t>(i / 96), k = static_cast<std::size_t>(i % 96);
      const double number = want.value(n, k);
      wrong += static_cast<double>(made.operand().expert(0)(i / 96, i % 96)) != number;
      wrong += static_cast<double>(taken.operand().expert(0)(i / 96, i % 96)) != number;
      wrong += static_cast<double>(file(i / 96, i % 96)) != number;
    }
    CHECK_MESSAGE(wrong == 0, support::to_string(kind));
  }
  ds::mxfp4::weight<float, ds::host, 20, 96> w;
  const std::uint8_t codes[20 * 48] = {};
  const ds::f8_e8m0 few[40] = {};
  CHECK_ERROR(
      ds::error_code::shape_mismatch, "mxfp4", "[20, 2]", "[20, 3]",
      ds::make_expert_weight(
          ds::mxfp4{}, ds::packed_mxfp4<ds::host>{{codes, {20, 48}}, {few, {20, 2}}}, {}, w, 0));
}
