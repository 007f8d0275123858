// SPDX-License-Identifier: Apache-2.0
// Both translation units must give the same layouts, the same error and the right product. The
// elements are small multiples of 1/32: every partial sum is exact, so equal means equal bits.
#include "odr.hpp"

#include <cstdio>

namespace {

std::vector<float> oracle() {
  std::vector<float> y(static_cast<std::size_t>(rows * columns));
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < columns; ++j) {
      double sum = 0;
      for (int k = 0; k < inner; ++k) {
        sum += static_cast<double>(left_element(i * inner + k)) * right_element(k * columns + j);
      }
      y[static_cast<std::size_t>(i * columns + j)] = static_cast<float>(sum);
    }
  }
  return y;
}

int complain(bool right, const char* what) {
  if (!right) std::printf("odr: %s\n", what);
  return right ? 0 : 1;
}

}  // namespace

int main() {
  const answers first = first_answers(), second = second_answers();
  const std::vector<float> expected = oracle();
  int wrong = complain(first.layouts == second.layouts, "flags change the layout of a type");
  if (!second.cpu_layouts.empty()) {
    wrong += complain(first.cpu_layouts == second.cpu_layouts, "flags change the layout of cpu");
  }
  wrong += complain(first.refusal == second.refusal, "the errors differ");
  wrong += complain(first.refusal.find("invalid_argument: ") == 0, "no typed error was thrown");
  wrong += complain(first.reference_product == expected, "first: the reference product is wrong");
  wrong += complain(second.reference_product == expected, "second: the reference product is wrong");
  wrong += complain(first.cpu_product == expected, "first: the cpu product is wrong");
  wrong += complain(second.cpu_product == expected, "second: the cpu product is wrong");
  std::printf("odr: %d of 8 checks failed\n", wrong);
  return wrong == 0 ? 0 : 1;
}
