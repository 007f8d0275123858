// SPDX-License-Identifier: Apache-2.0
// embedding: rows of a table by number, and their gradient.
#include "deepseek/ops/embedding.hpp"

#include "deepseek/backend/cpu/embedding.hpp"

#include "support/op_case.hpp"

namespace bench {
namespace {

struct embedding_size {
  const char* name;
  index_t ids, words, dim;
};
constexpr embedding_size size{"n16384_v32000_d512", 16384, 32000, 512};

struct embedding_case {
  static constexpr const char* op = "embedding";
  integers ids;
  matrix table, y;

  explicit embedding_case(const embedding_size& s)
      : ids(drawn<integers>({s.ids}, 1, static_cast<std::int32_t>(s.words))),
        table(filled<matrix>({s.words, s.dim}, 2)),
        y({s.ids, s.dim}) {}
  template <class B>
  void run(const B& b) {
    ds::ops::embedding(b, ids, table, y);
  }
  work cost() const {
    const double elements = static_cast<double>(y.size());
    return {0, 8 * elements, 0, arithmetic::none};
  }
  std::vector<output> outputs() const { return {out(y)}; }
};

struct embedding_backward_case : embedding_case {
  static constexpr const char* op = "embedding_backward";

  explicit embedding_backward_case(const embedding_size& s) : embedding_case(s) {
    fill(y.data(), y.size(), 3, {});
    table.zero();
  }
  template <class B>
  void run(const B& b) {
    ds::ops::embedding_backward(b, ids, y, table);
  }
  work cost() const {
    const double elements = static_cast<double>(y.size());
    return {elements, 12 * elements};
  }
  std::vector<output> outputs() const { return {out(table, 4)}; }
};

}  // namespace

void add_cases() {
  add_both<embedding_case>(size.name, size);
  add_both<embedding_backward_case>(size.name, size);
}

}  // namespace bench
