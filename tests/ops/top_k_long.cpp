// SPDX-License-Identifier: Apache-2.0
// top_k of long rows (up to 2048 of 131072): orders that are hard on a selection, ties, NaN,
// infinities. The answer is what a stable sort of the positions would begin with.
#include "deepseek/ops/top_k.hpp"

#include "deepseek/backend/cpu/top_k.hpp"

#include "ops/table.hpp"

#include <algorithm>
#include <numeric>

using namespace table;

namespace {

enum class order { drawn, rising, falling, equal, few_values, special };
constexpr const char* names[] = {"drawn", "rising", "falling", "equal", "few values", "special"};

reals scores(order how, std::size_t n) {
  support::numbers from(std::string("long ") + names[static_cast<int>(how)]);
  constexpr double infinity = std::numeric_limits<double>::infinity();
  reals x(n);
  for (std::size_t i = 0; i < n; ++i) {
    const double at = static_cast<double>(i);
    switch (how) {
      case order::drawn:
        x[i] = from.normal();
        break;
      case order::rising:
        x[i] = at;
        break;
      case order::falling:
        x[i] = -at;
        break;
      case order::equal:
        x[i] = 1;
        break;
      case order::few_values:
        x[i] = static_cast<double>(from.between(-3, 3));
        break;
      case order::special:  // more NaN than there are numbers
        x[i] = from.below(3) > 0 ? std::nan("") : from.below(2) == 0 ? -infinity : from.normal();
    }
  }
  return x;
}

// Numbers by value, then what is no number; equal ones by position.
longs expected(const reals& x, std::size_t k) {
  longs ids(x.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto value = [&](std::int64_t i) { return x[static_cast<std::size_t>(i)]; };
  const auto end_of_numbers = std::stable_partition(
      ids.begin(), ids.end(), [&](std::int64_t i) { return !std::isnan(value(i)); });
  std::stable_sort(ids.begin(), end_of_numbers,
                   [&](std::int64_t a, std::int64_t b) { return value(a) > value(b); });
  ids.resize(k);
  return ids;
}

template <class T, class B>
void check(const B& b, order how, std::size_t n, std::size_t k) {
  const reals x = support::rounded_to<T>(scores(how, n));
  sheet<T> from(1, n, layout::contiguous, x), values(1, k, layout::padded);
  sheet<std::int32_t> ids(1, k, layout::padded);
  ds::ops::top_k(b, from.matrix(), values.matrix(), ids.matrix());
  bool right = wide(ids.values()) == expected(x, k) && ids.clean() && values.clean();
  const auto best = values.values(), all = from.values();
  for (std::size_t i = 0; i < k; ++i) {
    const T wanted = all[static_cast<std::size_t>(ids.values()[i])];
    right = right && std::memcmp(&best[i], &wanted, sizeof(T)) == 0;
  }
  support::expect_true("top_k", support::text(names[static_cast<int>(how)], n, "k", k), right,
                       "not what a stable sort begins with");
}

}  // namespace

TEST_CASE("top_k: long rows") {
  const ds::cpu b;
  for (const order how : {order::drawn, order::rising, order::falling, order::equal,
                          order::few_values, order::special}) {
    for (const std::size_t k : std::vector<std::size_t>{17, 300, 2048}) {
      check<float>(b, how, 5000, k);
      check<double>(b, how, 4097, k);
      check<double>(ds::reference{}, how, 4097, k);
    }
    check<float>(b, how, 131072, 2048);
    check<float>(b, how, 2048, 2048);
    check<float>(b, how, 2049, 2048);
  }
}
