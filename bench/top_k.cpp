// SPDX-License-Identifier: Apache-2.0
// top_k: the largest of each row, of experts (many short rows) and of words (few long ones).
#include "deepseek/ops/top_k.hpp"

#include "deepseek/backend/cpu/top_k.hpp"

#include "support/op_case.hpp"

namespace bench {
namespace {

struct top_k_size {
  const char* name;
  index_t rows, of, k;
};
constexpr top_k_size sizes[] = {{"n4096_m256_k8", 4096, 256, 8}, {"n64_m32000_k50", 64, 32000, 50}};

struct top_k_case {
  static constexpr const char* op = "top_k";
  matrix x, values;
  integer_matrix ids;

  explicit top_k_case(const top_k_size& s)
      : x(filled<matrix>({s.rows, s.of}, 1)), values({s.rows, s.k}), ids({s.rows, s.k}) {}
  template <class B>
  void run(const B& b) {
    ds::ops::top_k(b, x, values, ids);
  }
  work cost() const {
    const double elements = static_cast<double>(x.size());
    return {0, 4 * elements, 0, arithmetic::none, traffic::reads};
  }
  std::vector<output> outputs() const { return {out(values), out(ids)}; }
};

}  // namespace

void add_cases() {
  for (const top_k_size& s : sizes) add_both<top_k_case>(s.name, s);
}

}  // namespace bench
