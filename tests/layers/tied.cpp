// SPDX-License-Identifier: Apache-2.0
// A tied head: one table, whose gradient is the sum of both uses.
#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/head.hpp"
#include "deepseek/layers/linear.hpp"
#include "deepseek/layers/norm.hpp"
#include "deepseek/layers/residual.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"

namespace ds = deepseek;

namespace {
using norm = ds::rms_norm<6>;
using one_table = ds::tied<ds::embedding<11, 6>, ds::chain<norm, ds::tied_head<11, 6>>>;
using two_tables =
    ds::chain<ds::embedding<11, 6>, ds::chain<norm, ds::called<"head", ds::linear<6, 11>>>>;
const std::int32_t tokens[] = {1, 5, 2, 9, 10, 0, 5};
const ds::view<const std::int32_t, ds::host, ds::dyn> ids(tokens, {7});
}  // namespace

TEST_CASE("tied head: the table's gradient is the sum of those of two tables") {
  const ds::cpu b;
  layer_test::trial<one_table, double> one;
  layer_test::trial<two_tables, double> two;
  const auto table = layer_test::flat(one.p.embed);
  std::size_t tables = 0;
  ds::visit(
      [&](const ds::tensor_name& at, auto& t) {
        if (t.size() != 66) return;
        ++tables;
        std::copy(table.begin(), table.end(), t.data());
        CHECK((at.path == "embed.weight" || at.path == "head.weight"));
      },
      two.p);
  CHECK(tables == 2);
  CHECK(support::same_bits(one.forward(b, ids), two.forward(b, ids)));
  one.backward(b, ids);
  two.backward(b, ids);
  std::vector<double> sum(66);
  ds::visit(
      [&](const ds::tensor_name&, const auto& t) {
        for (ds::index_t i = 0; t.size() == 66 && i < 66; ++i)
          sum[static_cast<std::size_t>(i)] += t.data()[i];
      },
      two.g);
  const auto got = layer_test::flat(one.g.embed);
  for (std::size_t i = 0; i < 66; ++i) CHECK(got[i] == doctest::Approx(sum[i]).epsilon(1e-12));
  int count = 0;
  ds::visit([&](const ds::tensor_name&, const auto&) { ++count; }, one.p);
  CHECK(count == 2);  // the table and the norm
}

TEST_CASE("tied head: gradient by differences") {
  const ds::cpu b;
  layer_test::expect_layer_gradient<one_table>(b, "tied_head", ids);
}
