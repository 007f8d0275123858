// SPDX-License-Identifier: Apache-2.0
// copy and add: the cost of moving numbers.
#include "deepseek/ops/add.hpp"
#include "deepseek/ops/copy.hpp"

#include "deepseek/backend/cpu/add.hpp"
#include "deepseek/backend/cpu/copy.hpp"

#include "peers.hpp"
#include "shapes.hpp"
#include "support/op_case.hpp"

namespace bench {
namespace {

struct copy_case {
  static constexpr const char* op = "copy";
  matrix x, y;

  explicit copy_case(const rows_size& s)
      : x(filled<matrix>({s.rows, s.dim}, 1)), y(filled<matrix>({s.rows, s.dim}, 2)) {}
  template <class B>
  void run(const B& b) {
    ds::ops::copy(b, x, y);
  }
  work cost() const { return {0, 8.0 * static_cast<double>(x.size()), 0, arithmetic::none}; }
  std::vector<output> outputs() const { return {out(y)}; }
};

struct add_case_data : copy_case {
  static constexpr const char* op = "add";
  using copy_case::copy_case;
  template <class B>
  void run(const B& b) {
    ds::ops::add(b, x, y.view());
  }
  work cost() const {
    const double elements = static_cast<double>(x.size());
    return {elements, 12 * elements};
  }
};

}  // namespace

void add_cases() {
  for (const rows_size& s : rows_sizes) {
    add_both<copy_case>(s.name, s);
    add_peer<copy_case>(
        {"copy", "eigen", "array", s.name}, [](copy_case& c) { as_array(c.y) = as_array(c.x); }, s);
    add_both<add_case_data>(s.name, s);
    add_peer<add_case_data>(
        {"add", "eigen", "array", s.name}, [](add_case_data& c) { as_array(c.y) += as_array(c.x); },
        s);
  }
}

}  // namespace bench
