// SPDX-License-Identifier: Apache-2.0
// The demo's progress line and its picture of the loss.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "../../examples/demo/loss_curve.hpp"
#include "../../examples/demo/progress.hpp"
#include "support/temp_dir.hpp"
#include "support/throws.hpp"

namespace {

namespace ds = deepseek;

std::string get(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

}  // namespace

TEST_CASE("progress: the line and its figures") {
  const demo::progress_state half{50, 100, 64000, 32, std::log(2.0) * 2};
  CHECK(demo::figures_text(half) == "2000 tokens/s  loss 1.386  2.000 bits/byte  00:32 left");
  const std::string line = demo::progress_line(half, 100);
  CHECK(line ==
        " 50% [" + std::string(19, '#') + std::string(19, '.') + "] " + demo::figures_text(half));
  for (std::size_t width = 0; width < 200; ++width) {
    CHECK(demo::progress_line(half, width).size() <= width);
  }
  CHECK(demo::progress_line(half, 79).find("00:32 left") != std::string::npos);
  CHECK(demo::progress_line(half, 50) == " 50% 2000 tokens/s  loss 1.386  2.000 bits/byte");
  CHECK(demo::progress_line(half, 30) == " 50% 2000 tokens/s  loss 1.386");
  const demo::progress_state start{0, 100, 0, 0, 5.5};
  CHECK(demo::figures_text(start) == "0 tokens/s  loss 5.500  7.935 bits/byte  --:-- left");
  CHECK(demo::progress_line({7, 0, 0, 0, 0}, 100).starts_with("100%"));
}

TEST_CASE("progress: durations") {
  CHECK(demo::duration_text(0) == "00:00");
  CHECK(demo::duration_text(0.2) == "00:01");
  CHECK(demo::duration_text(3599) == "59:59");
  CHECK(demo::duration_text(3600) == "1:00:00");
  CHECK(demo::duration_text(-1) == "--:--");
  CHECK(demo::duration_text(std::numeric_limits<double>::infinity()) == "--:--");
}

TEST_CASE("progress: into a file it writes a plain line at every tenth") {
  const support::temp_dir dir;
  std::FILE* out = std::fopen((dir / "log").c_str(), "w");
  REQUIRE(out != nullptr);
  {
    demo::progress bar(57, out);
    for (int step = 1; step <= 57; ++step) bar.update(step, step * 100, 2.5);
  }
  std::fclose(out);
  const std::string log = get(dir / "log");
  CHECK(count(log, "\n") == 10);
  CHECK(count(log, "\r") == 0);
  CHECK(count(log, "\x1b") == 0);
  CHECK(log.starts_with(" 10%  "));
  CHECK(log.find("100%  ") != std::string::npos);
}

TEST_CASE("loss_curve: what the picture holds") {
  demo::loss_curve curve{
      "A <model> & text", {}, {{0, 8}, {100, 2.5}}, {{"order 2", 3.1}, {"order 0", 4.7}}};
  for (int i = 1; i <= 100; ++i) curve.training.push_back({double(i), 2 + 6 * std::exp(-i / 20.0)});
  curve.training.push_back({101, std::numeric_limits<double>::quiet_NaN()});
  const std::string svg = demo::loss_curve_svg(curve);
  CHECK(svg.starts_with("<svg "));
  CHECK(svg.ends_with("</svg>\n"));
  CHECK(count(svg, "<polyline") == 2);
  CHECK(count(svg, "<circle") == 2);
  CHECK(svg.find("A &lt;model&gt; &amp; text") != std::string::npos);
  CHECK(svg.find("order 2 3.1") != std::string::npos);
  CHECK(svg.find("bits per byte") != std::string::npos);
  CHECK(svg.find("training step") != std::string::npos);
  CHECK(svg.find("nan") == std::string::npos);
  CHECK(svg == demo::loss_curve_svg(curve));
}

TEST_CASE("loss_curve: ticks are 1, 2 or 5 times a power of ten") {
  CHECK(demo::detail::tick_step(8, 8) == 1);
  CHECK(demo::detail::tick_step(9, 8) == 2);
  CHECK(demo::detail::tick_step(1000, 8) == 200);
  CHECK(demo::detail::tick_step(0.1, 8) == doctest::Approx(0.02).epsilon(1e-12));
  CHECK(demo::detail::tick_step(6.1, 8) == 1);
}

TEST_CASE("loss_curve: the running mean follows a constant exactly and smooths a zigzag") {
  std::vector<demo::curve_point> flat, zigzag;
  for (int i = 0; i < 500; ++i) {
    flat.push_back({double(i), 2});
    zigzag.push_back({double(i), i % 2 == 0 ? 1.0 : 3.0});
  }
  for (const auto& p : demo::detail::running_mean(flat)) CHECK(std::abs(p.bits - 2) < 1e-12);
  CHECK(std::abs(demo::detail::running_mean(zigzag)[250].bits - 2) < 0.06);
  CHECK(demo::detail::running_mean(zigzag).back().bits == 3);
  std::vector<demo::curve_point> ramp;
  for (int i = 0; i < 500; ++i) ramp.push_back({double(i), double(i)});
  for (const auto& p : demo::detail::running_mean(ramp)) CHECK(std::abs(p.bits - p.step) < 1e-9);
  CHECK(demo::detail::running_mean({}).empty());
}

TEST_CASE("loss_curve: errors leave the old picture") {
  const support::temp_dir dir;
  const auto path = dir / "loss.svg";
  demo::write_loss_curve(path, {"t", {{1, 2}}, {}, {}});
  const std::string before = get(path);
  CHECK(before.starts_with("<svg "));
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_ERROR(ds::error_code::invalid_argument, "none of 1 points",
              demo::write_loss_curve(path, {"t", {{1, nan}}, {}, {}}));
  CHECK(get(path) == before);
  CHECK_ERROR(ds::error_code::io, "not committed",
              demo::write_loss_curve(dir / "absent" / "loss.svg", {"t", {{1, 2}}, {}, {}}));
}
