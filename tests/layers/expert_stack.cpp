// SPDX-License-Identifier: Apache-2.0
// A stack of experts over many rows on a host: some experts after another in inference, with the
// bits of all at once and less memory; all at once in training and where rows depend on each other.
#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/moe.hpp"
#include "deepseek/layers/quantize.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "layers/layer_trial.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

namespace ds = deepseek;
using layer_test::rows_of;

namespace {

constexpr ds::index_t stack_width = 512, stack_tokens = 3000;
inline constexpr ds::moe_config stack_config{.dim = stack_width, .routed = 5, .active = 2};

// Writes down how many rows it got at once.
struct row_counts {
  static constexpr ds::index_t out = stack_width;
  static constexpr const char* label = "counts";
  static constexpr bool stacks = true;
  static inline std::vector<ds::index_t> seen;

  template <class Call, class P, class X, class Y, class K>
  static void forward(const Call& c, const P&, const X& x, const Y& y, K&) {
    seen.push_back(x.extent(0));
    ds::ops::copy(c.backend, x, y);
  }
};
template <class Expert>
using stack_of_experts = ds::moe<stack_config, ds::softmax_top_k<>, ds::chain<row_counts, Expert>>;
using stack_expert = ds::swiglu<stack_width, 64>;

std::vector<ds::index_t> counts() {
  return std::exchange(row_counts::seen, {});
}
// What a thread runs at once, in float.
constexpr ds::index_t stack_most =
    ds::stack_bytes / (stack_width * static_cast<ds::index_t>(sizeof(float)));

// A swiglu in a chain is no swiglu: it runs after the experts, not beside them.
inline constexpr ds::moe_config shared_config{
    .dim = 64, .hidden = 48, .routed = 5, .shared = 2, .active = 2};
using shared_beside = ds::moe<shared_config>;
using shared_after =
    ds::moe<shared_config, ds::softmax_top_k<>, ds::swiglu<64, 48>, ds::chain<ds::swiglu<64, 96>>>;

template <class Net, class B, class X>
std::vector<float> run_layer(const B& b, const ds::parameters<Net, float, ds::host>& p,
                             const X& x) {
  ds::keep<ds::nothing, Net, float, ds::host> kept;
  ds::arena<ds::host> tape;
  std::vector<float> y(static_cast<std::size_t>(x.size()));
  const ds::scope freed(b.workspace());
  const ds::call<B> c{b, {}, b.workspace(), tape, 7, {}};
  ds::run_forward<Net>(c, p, ds::as_const(x), X(y.data(), {x.extent(0), x.extent(1)}), kept);
  return y;
}

template <class Format>
void check_shared_expert() {
  using beside = ds::reformatted<shared_beside, Format>;
  using after = ds::reformatted<shared_after, Format>;
  const layer_test::trial<shared_beside, float> drawn;
  ds::parameters<beside, float, ds::host> p;
  ds::keep<ds::for_calibration, shared_beside, float, ds::host> seen;
  ds::convert(drawn.p, seen, p);
  ds::parameters<after, float, ds::host> q;
  q.gate = p.gate, q.experts = p.experts, q.shared_experts.template get<0>() = p.shared_experts;
  for (const int threads : {1, 3}) {
    const ds::cpu b{{.threads = threads}};
    for (const ds::index_t tokens : {1, 7, 60}) {
      rows_of<float, 64> x(tokens);
      CHECK(
          support::same_bits(run_layer<beside>(b, p, x.view()), run_layer<after>(b, q, x.view())));
    }
  }
}

}  // namespace

TEST_CASE("a stack of experts: the shared one beside them or after them, same bits") {
  check_shared_expert<ds::plain>();
  check_shared_expert<ds::packed<ds::cpu>>();
  check_shared_expert<ds::w8a8_per_token>();
  check_shared_expert<ds::w8a8_dynamic>();
  check_shared_expert<ds::int4_activations<32>>();
  check_shared_expert<ds::int4_groups<32>>();
  check_shared_expert<ds::fp8_activations>();
}

TEST_CASE("a stack of experts: some after another, the bits of all") {
  rows_of<float, stack_width> x(stack_tokens);
  const layer_test::trial<stack_of_experts<stack_expert>, float> t;
  for (const int threads : {1, 3}) {
    const ds::cpu whole{{.threads = threads}}, parts{{.threads = threads}};
    counts();
    const auto want = t.forward(whole, x.view(), layer_test::train);
    CHECK(counts() == std::vector<ds::index_t>{2 * stack_tokens});
    CHECK(support::same_bits(t.forward(parts, x.view()), want));
    const auto seen = counts();
    CHECK(std::accumulate(seen.begin(), seen.end(), ds::index_t{0}) == 2 * stack_tokens);
    if (threads == 1) {
      CHECK(seen.size() > 2);
      CHECK(*std::max_element(seen.begin(), seen.end()) < 2 * stack_tokens);
      const auto all_at_once = whole.workspace().bytes_peak();
      CHECK(parts.workspace().bytes_peak() + (3U << 20) <= all_at_once);
    }
  }
  const ds::reference plain;
  CHECK(!t.forward(plain, x.rows(0, 40)).empty());
  CHECK(counts() == std::vector<ds::index_t>{80});  // few rows: all at once
}

TEST_CASE("a stack of experts: one with more rows than are run at once, and none") {
  // Every token chooses experts 1 and 3: a gate whose other logits are far below.
  rows_of<float, stack_width> x(stack_tokens);
  for (ds::index_t n = 0; n < stack_tokens; ++n) x.view()(n, 0) = 30;
  layer_test::trial<stack_of_experts<stack_expert>, float> t;
  auto& gate = t.p.gate.weight;
  std::fill_n(gate.data(), gate.size(), 0.0f);
  gate.data()[stack_width] = 1, gate.data()[3 * stack_width] = 2;
  const ds::cpu b{{.threads = 1}};
  static_assert(stack_tokens > stack_most);
  const auto want = t.forward(b, x.view(), layer_test::train);
  counts();
  CHECK(support::same_bits(t.forward(b, x.view()), want));
  CHECK(counts() == std::vector<ds::index_t>{stack_tokens, stack_tokens});
}

TEST_CASE("a stack of experts: ranges of a whole call keep all rows together") {
  const auto rows_apart = []<class Format>(Format) {
    using experts = ds::chain<row_counts, ds::reformatted<stack_expert, Format>>;
    return ds::formats_keep_rows_apart<ds::parameters<experts, float, ds::stacked<5, ds::host>>>();
  };
  CHECK(rows_apart(ds::w8a8_per_token{}));
  CHECK(rows_apart(ds::int4_groups<32>{}));
  CHECK(!rows_apart(ds::w8a8_dynamic{}));
}
