// SPDX-License-Identifier: Apache-2.0
// move_load and move_bias against plain loops in double, every layout and type, nothing counted,
// no experts, errors.
#include "deepseek/ops/load_state.hpp"

#include "deepseek/backend/cpu/context.hpp"
#include "deepseek/backend/reference/load_state.hpp"

#include "ops/table.hpp"

using namespace table;
using ds::error_code;

namespace {

constexpr layout every_layout[] = {layout::contiguous, layout::padded, layout::offset,
                                   layout::transposed};

// One column, so that every layout but the first puts gaps between the numbers.
template <class T>
sheet<T> column(const reals& values, layout how) {
  return sheet<T>(values.size(), 1, how, support::as<T>(values));
}

reals moved_load(const reals& counts, double decay, reals load) {
  double total = 0, known = 0;
  for (double c : counts) total += c;
  for (double l : load) known += l;
  if (total == 0) return load;
  for (std::size_t e = 0; e < load.size(); ++e) {
    const double keep = known > 0 ? decay : 0;
    load[e] = keep * load[e] + (1 - keep) * counts[e] / total;
  }
  return load;
}

reals moved_bias(const reals& counts, double step, reals bias) {
  double mean = 0;
  for (double c : counts) mean += c / static_cast<double>(counts.size());
  for (std::size_t e = 0; e < bias.size(); ++e) {
    bias[e] += counts[e] < mean ? step : counts[e] > mean ? -step : 0;
  }
  return bias;
}

// Whole numbers; a multiple of the number of experts in sum where that number is a power of two.
reals drawn_counts(std::size_t experts, support::numbers& from) {
  reals out;
  for (std::size_t e = 0; e < experts; ++e) out.push_back(std::floor(std::fabs(from.normal()) * 8));
  return out;
}

template <class T, class B>
void check_moves(const B& b) {
  for (const layout how : every_layout) {
    for (const std::size_t experts :
         {std::size_t{0}, std::size_t{1}, std::size_t{4}, std::size_t{64}, std::size_t{300}}) {
      for (const bool known : {false, true}) {
        const std::string text =
            support::text("experts", experts, "layout", static_cast<int>(how), "known", known);
        support::numbers from(text);
        const reals counts = drawn_counts(experts, from);
        reals before(experts, 0.0);
        for (double& x : before) x = known ? std::floor(from.normal() * 16) / 64 : 0;
        reals load = before;
        for (double& x : load) x = std::fabs(x);
        sheet<float> in = column<float>(counts, how);
        sheet<T> at = column<T>(load, how), bias = column<T>(before, how);
        ds::ops::move_load(b, in.vector(), 0.75, at.vector());
        ds::ops::move_bias(b, in.vector(), 0.125, bias.vector());
        const auto near = [](const std::vector<T>& got, const reals& want) {
          bool right = got.size() == want.size();
          for (std::size_t i = 0; right && i < got.size(); ++i) {
            const double allowed = ds::unit_roundoff<T> * std::fabs(want[i]) + 1e-14;
            right = std::fabs(support::to_double(got[i]) - want[i]) <= allowed;
          }
          return right;
        };
        support::expect_true(
            "move_load", text,
            near(at.values(), moved_load(counts, 0.75, load)) && in.unchanged() && at.clean(),
            "wrong load or memory");
        support::expect_true(
            "move_bias", text,
            support::same_bits(bias.values(), support::as<T>(moved_bias(counts, 0.125, before))) &&
                in.unchanged() && bias.clean(),
            "wrong bias or memory");
      }
    }
  }
}

}  // namespace

TEST_CASE("load_state: reference") {
  const ds::reference b;
  check_moves<double>(b);
  check_moves<float>(b);
  check_moves<ds::bf16>(b);
}
TEST_CASE("load_state: cpu") {
  const ds::cpu b;
  check_moves<double>(b);
  check_moves<float>(b);
  check_moves<ds::bf16>(b);
}

TEST_CASE("load_state: where nothing was counted nothing moves") {
  on_both([](const auto& b) {
    sheet<float> counts = column<float>({0, 0, 0}, layout::contiguous);
    sheet<float> state = column<float>({.5, .25, .25}, layout::contiguous);
    ds::ops::move_load(b, counts.vector(), 0.5, state.vector());
    ds::ops::move_bias(b, counts.vector(), 0.5, state.vector());
    CHECK(state.values() == std::vector<float>{.5F, .25F, .25F});
  });
}

TEST_CASE("load_state: errors") {
  on_both([](const auto& b) {
    float numbers[4] = {};
    const ds::view<float, ds::host, ds::dyn> three(numbers, {3}), four(numbers, {4}),
        nothing(nullptr, {3});
    CHECK_ERROR(error_code::shape_mismatch, "move_load: counts[3]", "expected 4",
                ds::ops::move_load(b, three, 0.5, four));
    CHECK_ERROR(error_code::invalid_argument, "move_load: load",
                ds::ops::move_load(b, three, 0.5, nothing));
    CHECK_ERROR(error_code::invalid_argument, "decay is 1.5",
                ds::ops::move_load(b, three, 1.5, three));
    CHECK_ERROR(error_code::shape_mismatch, "move_bias: counts[4]", "expected 3",
                ds::ops::move_bias(b, four, 0.5, three));
    CHECK_ERROR(error_code::invalid_argument, "move_bias: counts",
                ds::ops::move_bias(b, nothing, 0.5, three));
    CHECK_ERROR(error_code::invalid_argument, "step is inf",
                ds::ops::move_bias(b, three, HUGE_VAL, three));
  });
  for (const char* op : {"move_load", "move_bias"}) {
    facets(op, {"forward", "strides", "zero", "errors"});
    support::not_applicable(op, "gradient");
  }
}
