// SPDX-License-Identifier: Apache-2.0
// The other parts of the test support: buffers, data, combinations, error checks, gradients, the
// main function.
#include <deepseek/core/dtype.hpp>
#include <deepseek/core/error.hpp>
#include "support/cases.hpp"
#include "support/gradient.hpp"
#include "support/poison.hpp"
#include "support/report.hpp"
#include "support/seed.hpp"
#include "support/temp_dir.hpp"
#include "support/throws.hpp"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

using support::values;
using reals = std::vector<double>;

// Planted: they run only when this program starts itself, below.
TEST_CASE("planted: no assertion" * doctest::skip()) {}
TEST_CASE("planted: skipped" * doctest::skip()) {
  support::skip("ropes", "planted reason");
}
TEST_CASE("planted: passes" * doctest::skip()) {
  support::facet("ropes", "zero");
  support::not_applicable("ropes", "gradient");
  support::expect_true("ropes", "n=1", true, "never");
}
TEST_CASE("planted: mistrusted" * doctest::skip()) {
  const reals zeros(4, 0.0);
  support::expect("ropes", "n=4",
                  support::compare(support::gemm_limits(deepseek::dtype::f32, 4), zeros, zeros, 4));
}
TEST_CASE("planted: unknown facet" * doctest::skip()) {
  support::facet("ropes", "colour");
}

namespace {

std::string own_path() {
  char path[4096];
  const ssize_t length = ::readlink("/proc/self/exe", path, sizeof path - 1);
  REQUIRE(length > 0);
  return std::string(path, static_cast<std::size_t>(length));
}

struct ended {
  int status;
  std::string report;
};

ended run_self(const std::string& arguments) {
  const support::temp_dir folder;
  const std::string own = own_path();
  const std::string command = "DEEPSEEK_REPORT_DIR='" + folder.path().string() + "' '" + own +
                              "' --no-skip " + arguments + " > /dev/null 2>&1";
  const int status = std::system(command.c_str());
  const std::string name = own.substr(own.find_last_of('/') + 1);
  std::ifstream file(folder / (name + ".json"));
  std::stringstream text;
  text << file.rdbuf();
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, text.str()};
}

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// True when the action ends the process with a fault instead of returning.
template <class Action>
bool faults(Action action) {
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);
    std::signal(SIGBUS, SIG_DFL);
    action();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status);
}

}  // namespace

TEST_CASE("main: a test case without assertion fails, an all-skipped run gives 77") {
  CHECK(run_self("-tc='planted: no assertion'").status == 1);
  CHECK(run_self("-tc='planted: skipped'").status == 77);
  CHECK(run_self("-tc='planted: passes'").status == 0);
  CHECK(run_self("-tc='planted: skipped,planted: passes'").status == 0);
  CHECK(run_self("-tc='planted: mistrusted'").status == 1);
  CHECK(run_self("-tc='planted: unknown facet'").status == 1);
  CHECK(run_self("-tc='there is no such case'").status == 1);
  CHECK(run_self("--list-test-cases").status == 0);
}

TEST_CASE("main: the report holds what was counted") {
  const ended both = run_self("-tc='planted: skipped,planted: passes'");
  CHECK(holds(
      both.report,
      "\"op\": {\n\"ropes\": {\"cases\": 1, \"skipped\": 1, \"mistrusted\": 0, \"failed\": 0, "
      "\"facets\": [\"zero\"], \"not_applicable\": [\"gradient\"]}}"));
  const ended weak = run_self("-tc='planted: mistrusted'");
  CHECK(holds(weak.report, "\"cases\": 1, \"skipped\": 0, \"mistrusted\": 1, \"failed\": 1"));
}

TEST_CASE("case texts") {
  CHECK(support::text("m", 3, "type", "f32", "x", 0.5, "causal", true) ==
        "m=3 type=f32 x=0.5 causal=yes");
  CHECK(support::selected("anything"));
  CHECK(holds(support::repro("m=3"), "DEEPSEEK_TEST_SEED="));
  CHECK(holds(support::repro("m=3"), "-tc=\"case texts\" --case=\"m=3\""));
}

TEST_CASE("guarded buffers see writes beyond the ends and changed values") {
  support::guarded<float> buffer(5);
  CHECK(std::isnan(buffer[4]));
  CHECK(buffer.intact());
  CHECK(buffer.unchanged());
  buffer[2] = 1;
  CHECK(buffer.intact());
  CHECK_FALSE(buffer.unchanged());
  auto* bytes = reinterpret_cast<unsigned char*>(buffer.data());
  unsigned char* beyond = bytes + 5 * sizeof(float);
  for (std::ptrdiff_t at : {-64, -1, 20, 83}) {
    bytes[at] ^= 1U;
    CHECK_FALSE(buffer.intact());
    bytes[at] ^= 1U;
    CHECK(buffer.intact());
  }
  CHECK(beyond[0] != 0);
  const support::guarded<double> copy(reals{1, 2, 3}, 1);
  CHECK(copy.values() == reals{1, 2, 3});
  CHECK(reinterpret_cast<std::uintptr_t>(copy.data()) % 64 == 8);
  CHECK(support::poison<int>() > 1000000);
  CHECK(std::isnan(static_cast<float>(support::poison<deepseek::f16>())));
}

TEST_CASE("fenced buffers fault on the first element beyond") {
  support::fenced<float> buffer(std::vector<float>{1, 2, 3});
  CHECK(buffer.values() == std::vector<float>{1, 2, 3});
#if DEEPSEEK_ASAN
  support::skip("address sanitizer turns the fault into its own report");
#else
  volatile float* first = buffer.data();
  CHECK(faults([&] { first[3] = 1; }));
  CHECK_FALSE(faults([&] { first[2] = 1; }));
#endif
}

TEST_CASE("value classes are what they say, and repeatable") {
  for (values kind : support::every_class) {
    support::numbers a(std::uint64_t{5}), b(std::uint64_t{5}), c(std::uint64_t{6});
    const reals x = support::draw(kind, 500, a);
    CHECK(support::same_bits(x, support::draw(kind, 500, b)));
    CHECK_FALSE(support::same_bits(x, support::draw(kind, 500, c)));
    for (double e : support::rounded_to<deepseek::f16>(x)) REQUIRE(std::isfinite(e));
  }
  support::numbers from("classes");
  for (double e : support::draw(values::integer, 500, from)) {
    REQUIRE(e == std::floor(e));
    REQUIRE(std::fabs(e) <= 4);
  }
  const reals sparse = support::draw(values::sparse, 5000, from);
  CHECK(std::count(sparse.begin(), sparse.end(), 0.0) > 4300);
  CHECK(std::count(sparse.begin(), sparse.end(), 0.0) < 4700);
  const reals zeros = support::draw(values::signed_zero, 100, from);
  const auto negative =
      std::count_if(zeros.begin(), zeros.end(), [](double e) { return std::signbit(e); });
  CHECK(negative > 20);
  CHECK(negative < 80);
  double sum = 0, squares = 0;
  for (double e : support::draw(values::normal, 100000, from)) {
    sum += e;
    squares += e * e;
  }
  CHECK(std::fabs(sum / std::sqrt(1e5)) < 5);
  CHECK(std::fabs((squares - 1e5) / std::sqrt(2e5)) < 5);
}

TEST_CASE("pairwise meets every pair with far fewer rows than the product") {
  const std::vector<std::size_t> levels = {7, 5, 4, 3, 2};
  const auto rows = support::pairwise(levels);
  CHECK(rows.size() >= 35);
  CHECK(rows.size() <= 45);  // the product has 840
  for (std::size_t f = 0; f < levels.size(); ++f) {
    for (std::size_t g = f + 1; g < levels.size(); ++g) {
      std::set<std::pair<std::size_t, std::size_t>> met;
      for (const auto& row : rows) met.insert({row[f], row[g]});
      CHECK(met.size() == levels[f] * levels[g]);
    }
  }
  CHECK(rows == support::pairwise(levels));
  CHECK(support::pairwise(levels, 10).size() == 10);
  CHECK(support::pairwise({3}).size() == 3);
  CHECK(support::pairwise({3, 0}).empty());
  CHECK(support::sizes_between(8, 16) == std::vector<std::size_t>{8, 9, 15, 16});
}

TEST_CASE("CHECK_ERROR accepts the right error and names what is wrong") {
  using deepseek::error_code;
  const auto fails = [](int k) -> int {
    deepseek::fail(error_code::shape_mismatch, "gemm: K is ", k, "; use 4");
  };
  CHECK_ERROR(error_code::shape_mismatch, "gemm", "K is 3", fails(3));
  CHECK_ERROR(error_code::shape_mismatch, fails(3));
  CHECK_ERROR(error_code::io, "file: ", deepseek::require(false, error_code::io, "file: gone"));
  const deepseek::error e(error_code::io, "file: gone; look for it");
  support::message_parts parts;
  CHECK((parts.begin(), "gone", "look").problem(error_code::io, e).empty());
  CHECK(holds(parts.problem(error_code::json, e), "code is io, expected json"));
  CHECK(holds((parts.begin(), "seven").problem(error_code::io, e), "\"seven\" is missing"));
  CHECK_FALSE(support::message_parts().problem(error_code::io, {error_code::io, "gone"}).empty());
}

TEST_CASE("a temporary folder exists, then is gone") {
  std::filesystem::path path;
  {
    const support::temp_dir folder;
    path = folder.path();
    std::ofstream(folder / "a.txt") << "x";
    CHECK(std::filesystem::exists(path / "a.txt"));
  }
  CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("gradient check: right ones pass, wrong ones fail") {
  const reals w = support::loss_weights(6);
  const auto loss = [&](const reals& x) {
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) sum += w[i] * std::sin(x[i]) * x[(i + 1) % 6];
    return sum;
  };
  support::numbers from("gradient");
  const reals x = support::draw(values::normal, 6, from);
  reals g(6);
  for (std::size_t i = 0; i < 6; ++i) {
    g[i] = w[i] * std::cos(x[i]) * x[(i + 1) % 6] + w[(i + 5) % 6] * std::sin(x[(i + 5) % 6]);
  }
  const auto right = support::check_gradient(loss, x, g);
  CHECK_MESSAGE(right.pass, right.message);
  CHECK(right.relative < 1e-9);
  CHECK(support::check_directions(loss, x, g).pass);
  for (std::size_t i = 0; i < 6; ++i) {
    reals wrong = g;
    wrong[i] += 1e-6 * (1 + std::fabs(g[i])) * 4;
    CHECK_FALSE(support::check_gradient(loss, x, wrong).pass);
    wrong[i] = g[i] + 1e-4;
    CHECK_FALSE(support::check_directions(loss, x, wrong).pass);
  }
  reals flipped = g;
  for (double& e : flipped) e = -e;
  CHECK_FALSE(support::check_gradient(loss, x, flipped).pass);
  CHECK_FALSE(support::check_directions(loss, x, flipped).pass);
  const auto flat = support::check_gradient([](const reals&) { return 1.0; }, x, reals(6, 0.0));
  CHECK(flat.mistrusted);
  CHECK_FALSE(flat.pass);
  CHECK_FALSE(support::check_gradient(loss, x, reals(5, 1.0)).pass);
  CHECK_FALSE(support::check_gradient(loss, x, reals(6, std::nan(""))).pass);
}
