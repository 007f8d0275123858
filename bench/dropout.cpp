// SPDX-License-Identifier: Apache-2.0
// dropout; its backward is the same op.
#include "deepseek/ops/dropout.hpp"

#include "deepseek/backend/cpu/dropout.hpp"

#include "shapes.hpp"
#include "support/op_case.hpp"

namespace bench {
namespace {

struct dropout_case {
  static constexpr const char* op = "dropout";
  matrix x, y;

  explicit dropout_case(const rows_size& s)
      : x(filled<matrix>({s.rows, s.dim}, 1)), y({s.rows, s.dim}) {}
  template <class B>
  void run(const B& b) {
    ds::ops::dropout(b, x, y, {.rate = 0.1, .seed = 7});
  }
  work cost() const {
    const double elements = static_cast<double>(x.size());
    return {elements, 8 * elements};
  }
  std::vector<output> outputs() const { return {out(y)}; }
};

}  // namespace

void add_cases() {
  for (const rows_size& s : rows_sizes) add_both<dropout_case>(s.name, s);
}

}  // namespace bench
