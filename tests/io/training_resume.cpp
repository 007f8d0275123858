// SPDX-License-Identifier: Apache-2.0
// A training that is saved, forgotten and resumed goes on with the bits of one without a break:
// parameters, running loads, moments and steps through a file. A damaged file changes nothing.
#include "deepseek/layers/chain.hpp"
#include "deepseek/layers/dropout.hpp"
#include "deepseek/layers/embedding.hpp"
#include "deepseek/layers/moe.hpp"
#include "deepseek/layers/residual.hpp"
#include "deepseek/train/trainer.hpp"

#include "deepseek/backend/cpu/cpu.hpp"
#include "deepseek/io/checkpoint.hpp"

#include "support/compare.hpp"
#include "support/report.hpp"
#include "support/temp_dir.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <fstream>
#include <iterator>

namespace ds = deepseek;

namespace {

inline constexpr ds::moe_config experts{
    .dim = 8, .hidden = 6, .routed = 4, .active = 2, .balance = 0.05};
struct net : ds::chain<ds::embedding<11, 8>, ds::residual<ds::moe<experts>>,
                       ds::dropout<8, ds::dropout_config{.rate = 0.1}>,
                       ds::called<"head", ds::linear<8, 11>>> {};
using model = ds::model<net, float, ds::cpu>;
using trainer = ds::trainer<model, ds::cpu, ds::adamw, ds::warmup_cosine>;
const ds::warmup_cosine rate{.peak = 0.05, .floor = 0.001, .warmup = 4, .total = 20};
const std::int32_t text[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 2, 4, 6, 8, 10, 1, 3};

std::vector<float> values(const model& m) {
  std::vector<float> all;
  ds::visit([&](const ds::tensor_name&,
                const auto& t) { all.insert(all.end(), t.data(), t.data() + t.size()); },
            m.parameters());
  return all;
}

void run(trainer& t, int steps) {
  for (int i = 0; i < steps; ++i) {
    const ds::index_t first = t.optimizer().steps() % 3;
    const ds::view<const std::int32_t, ds::host, ds::dyn> x(text + first, {15}),
        y(text + first + 1, {15});
    t.micro_step(x, y);
  }
}

void save(const std::filesystem::path& path, const model& m, trainer& t) {
  ds::checkpoint_writer file;
  file.set("step", std::to_string(t.optimizer().steps()));
  file.add_parameters("model", m.parameters());
  t.optimizer().visit_state(
      [&](const std::string& name, auto& s) { file.add("optimizer." + name, s); });
  file.write(path);
}
void load(const std::filesystem::path& path, model& m, trainer& t) {
  ds::checkpoint_reader file(path);
  file.read_parameters("model", m.parameters());
  t.optimizer().visit_state(
      [&](const std::string& name, auto& s) { file.read("optimizer." + name, s); });
  file.require_nothing_left();
  t.optimizer().set_steps(std::stoll(file.get("step")));
}

}  // namespace

TEST_CASE("a resumed training has the bits of one without a break") {
  const support::temp_dir folder;
  const ds::cpu b{{.threads = 2}};
  model whole(b, ds::scaled_init{.seed = 3}), part(b, ds::scaled_init{.seed = 3});
  trainer unbroken(b, whole, {}, rate, {.seed = 9}), before(b, part, {}, rate, {.seed = 9});
  run(unbroken, 14);
  run(before, 6);
  CHECK(values(part) != values(whole));
  save(folder / "c", part, before);

  const ds::cpu other{{.threads = 3}};
  model again(other);
  trainer after(other, again, {}, rate, {.seed = 9});
  load(folder / "c", again, after);
  CHECK(after.optimizer().steps() == 6);
  run(after, 8);
  support::expect_true("checkpoint", "resumed", values(again) == values(whole),
                       "the parameters have other bits than without a break");

  // Each of the things saved is needed.
  model forgetful(b);
  trainer fresh(b, forgetful, {}, rate, {.seed = 9});
  load(folder / "c", forgetful, fresh);
  fresh.optimizer().set_steps(0);
  run(fresh, 8);
  CHECK(values(forgetful) != values(whole));
}

TEST_CASE("a file damaged anywhere in its header changes nothing") {
  const support::temp_dir folder;
  const ds::cpu b;
  const model saved(b, ds::scaled_init{.seed = 3});
  const auto path = folder / "m";
  ds::save_parameters(path, saved.parameters());
  std::ifstream in(path, std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(in)), {});
  model target(b, ds::scaled_init{.seed = 4});
  const auto kept = values(target);
  std::uint64_t header = 0;  // the file begins with its length; data has no check of its own
  std::memcpy(&header, good.data(), sizeof header);
  REQUIRE(header + 8 < good.size());
  int refused = 0, taken = 0;
  for (std::size_t at = 0; at < header + 8; at += 3) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x15);
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bad;
    try {
      ds::load_parameters(path, target.parameters());
      ++taken;
    } catch (const ds::error& e) {
      ++refused;
      CHECK_MESSAGE(values(target) == kept, "byte " << at << ": " << e.what());
    }
  }
  CHECK(refused > 100);
  CHECK_MESSAGE(taken == 0, taken << " damaged headers were taken");
  std::ofstream(path, std::ios::binary | std::ios::trunc) << good;
  ds::load_parameters(path, target.parameters());
  CHECK(values(target) == values(saved));
}
