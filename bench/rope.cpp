// SPDX-License-Identifier: Apache-2.0
// rope in both layouts of its pairs; the backward is the same op with the other turn.
#include "deepseek/ops/rope.hpp"

#include "deepseek/backend/cpu/rope.hpp"

#include "shapes.hpp"
#include "support/op_case.hpp"

#include <numeric>

namespace bench {
namespace {

struct rope_size {
  const char* name;
  index_t tokens, heads, dim;
};
constexpr rope_size rope_sizes[] = {{"t64_h16_d64", 64, 16, 64}, {"t8192_h16_d64", 8192, 16, 64}};

template <ds::rope_layout Layout>
struct rope_case {
  static constexpr const char* op =
      Layout == ds::rope_layout::interleaved ? "rope_interleaved" : "rope_half";
  integers positions;
  cube x, y;

  explicit rope_case(const rope_size& s)
      : positions({s.tokens}),
        x(filled<cube>({s.tokens, s.heads, s.dim}, 1)),
        y({s.tokens, s.heads, s.dim}) {
    std::iota(positions.data(), positions.data() + s.tokens, 0);
  }
  template <class B>
  void run(const B& b) {
    ds::ops::rope(b, x, positions, y, {.layout = Layout});
  }
  work cost() const {
    const double elements = static_cast<double>(x.size());
    return {3 * elements, 8 * elements};
  }
  std::vector<output> outputs() const { return {out(y, 2)}; }
};

}  // namespace

void add_cases() {
  for (const rope_size& s : rope_sizes) {
    add_both<rope_case<ds::rope_layout::interleaved>>(s.name, s);
    add_both<rope_case<ds::rope_layout::half>>(s.name, s);
  }
}

}  // namespace bench
