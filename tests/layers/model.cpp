// SPDX-License-Identifier: Apache-2.0
// model: equal paths, capacity, rewind, backward without forward (also after one that failed), and
// one constant model used from four threads.
#include "deepseek/layers/model.hpp"
#include "deepseek/layers/attention.hpp"
#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/embedding.hpp"
#include "deepseek/layers/mlp.hpp"
#include "deepseek/layers/transformer_block.hpp"

#include "deepseek/pattern/band.hpp"

#include "deepseek/backend/cpu/cpu.hpp"

#include "support/poison.hpp"
#include "support/throws.hpp"

#include <thread>

namespace ds = deepseek;

namespace {

inline constexpr ds::attention_config heads{.dim = 8, .heads = 2};
struct net
    : ds::chain<
          ds::embedding<11, 8>,
          ds::transformer_block<ds::multi_head_attention<heads, ds::causal>, ds::swiglu<8, 12>>,
          ds::called<"head", ds::linear<8, 11>>> {};
using model = ds::model<net, float, ds::cpu>;
using ids = ds::view<const std::int32_t, ds::host, ds::dyn>;
const std::int32_t tokens[] = {1, 5, 2, 9, 10, 0, 3, 3, 7};
const std::int32_t bad[] = {1, 99};

std::vector<float> values(const model::output_view& y) {
  return {y.data(), y.data() + y.size()};
}

}  // namespace

TEST_CASE("model: two tensors of one path are an error") {
  const ds::cpu b;
  using twice = ds::chain<ds::embedding<5, 4>, ds::linear<4, 4>, ds::linear<4, 4>>;
  using renamed =
      ds::chain<ds::embedding<5, 4>, ds::linear<4, 4>, ds::called<"second", ds::linear<4, 4>>>;
  CHECK_ERROR(ds::error_code::config, "linear.weight", "called<",
              (ds::model<twice, float, ds::cpu>(b)));
  const ds::model<renamed, float, ds::cpu> fine(b);
  CHECK(ds::parameter_count(fine.parameters()) == 20 + 16 + 16);
  CHECK(ds::parameter_bytes(fine.parameters()) == 4 * 52);
}

TEST_CASE("model: decoders") {
  const ds::cpu b;
  const model m(b, ds::normal_init{.stddev = 0.3, .seed = 1});
  CHECK_ERROR(ds::error_code::invalid_argument, "capacity of 0", m.decoder(b, 0));
  CHECK_ERROR(ds::error_code::invalid_argument, "capacity of -1", m.decoder(b, -1));
  auto d = m.decoder(b, 4);
  const auto first = values(m.decode(b, ids(tokens, {3}), d));
  CHECK_ERROR(ds::error_code::index_range, "decoder: 3 + 2", "capacity of 4",
              m.decode(b, ids(tokens, {2}), d));
  CHECK_ERROR(ds::error_code::index_range, "99", m.decode(b, ids(bad + 1, {1}), d));
  CHECK(d.length() == 3);
  CHECK_ERROR(ds::error_code::index_range, "rewind to 4", "of 3", d.rewind(4));
  CHECK_ERROR(ds::error_code::index_range, "rewind to -1", d.rewind(-1));
  d.rewind(0);
  CHECK(d.capacity() == 4);
  CHECK(support::same_bits(values(m.decode(b, ids(tokens, {3}), d)), first));
  CHECK(m.decode(b, ids(tokens, {0}), d).size() == 0);
  CHECK(d.length() == 3);
}

TEST_CASE("model: backward needs a forward that came to its end") {
  const ds::cpu b;
  const model m(b, ds::normal_init{.stddev = 0.3, .seed = 1});
  model::parameters_type g;
  auto tape = m.tape(b);
  const ds::tensor<float, ds::host, ds::dyn, 11> dy({9, 11});
  const auto back = [&] { m.backward(b, ids(tokens, {9}), tape, dy, g); };
  CHECK_ERROR(ds::error_code::invalid_argument, "model: backward without", back());
  m.forward(b, ids(tokens, {9}), tape);
  back();
  CHECK_ERROR(ds::error_code::invalid_argument, "model: backward without", back());
  m.forward(b, ids(tokens, {9}), tape);
  CHECK_ERROR(ds::error_code::index_range, "99", m.forward(b, ids(bad, {2}), tape));
  CHECK_ERROR(ds::error_code::invalid_argument, "model: backward without", back());
}

TEST_CASE("model: forward in training is what inference gives; a tape is used again") {
  const ds::cpu b;
  const model m(b, ds::normal_init{.stddev = 0.3, .seed = 1});
  auto tape = m.tape(b);
  const auto y = m(b, ids(tokens, {9}));
  const std::vector<float> want(y.data(), y.data() + y.size());
  for (int times = 0; times < 3; ++times) {
    CHECK(support::same_bits(values(m.forward(b, ids(tokens, {9}), tape)), want));
  }
  const std::size_t bytes = tape.bytes();
  m.forward(b, ids(tokens, {9}), tape);
  CHECK(tape.bytes() == bytes);
  CHECK(m(b, ids(tokens, {0})).size() == 0);
}

TEST_CASE("model: one constant model from four threads, each with its own context") {
  const ds::cpu own;
  const model m(own, ds::normal_init{.stddev = 0.3, .seed = 1});
  const auto y = m(own, ids(tokens, {9}));
  std::array<int, 4> wrong{};
  std::vector<std::thread> threads;
  for (int& count : wrong) {
    threads.emplace_back([&] {
      const ds::cpu b{{.threads = 2}};
      for (int times = 0; times < 50; ++times) {
        const auto mine = m(b, ids(tokens, {9}));
        count += std::memcmp(mine.data(), y.data(), 99 * sizeof(float)) == 0 ? 0 : 1;
      }
    });
  }
  for (auto& t : threads) t.join();
  for (int count : wrong) CHECK(count == 0);
}
