// SPDX-License-Identifier: Apache-2.0
// Pictures of patterns: text, SVG, PGM.
#include "deepseek/pattern/draw.hpp"

#include "deepseek/pattern/band.hpp"
#include "deepseek/pattern/block.hpp"
#include "deepseek/pattern/combine.hpp"
#include "deepseek/pattern/random_blocks.hpp"
#include "support/temp_dir.hpp"
#include "support/throws.hpp"

#include <doctest/doctest.h>
#include <algorithm>
#include <sstream>

using namespace deepseek;

namespace {

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

TEST_CASE("draw") {
  CHECK(draw(causal{}, 3, 3) == "#..\n##.\n###\n");
  CHECK(draw(causal{}, 2, 4) == "###.\n####\n");
  CHECK(draw(causal{}, 4, 2) == "..\n..\n#.\n##\n");
  CHECK(draw(local<1>{}, 4, 4) == "##..\n###.\n.###\n..##\n");
  CHECK(draw(either<block<2>, sliding<2>>{}, 4, 4) == "##..\n##..\n.###\n..##\n");
  CHECK(draw(everyone{}, 0, 5).empty());
  const auto random = make_pattern<random_blocks<2, 1>>({1, 1});
  const std::string picture = draw(random, 4, 4);
  CHECK(picture.substr(0, 5) == picture.substr(5, 5));
  CHECK(std::count(picture.begin(), picture.end(), '#') == 8);
  CHECK_ERROR(error_code::invalid_argument, "-1 queries", draw(causal{}, -1, 3));
}

TEST_CASE("SVG: one rectangle for each run of visible keys") {
  const std::string svg = draw_svg(either<block<1>, local<0>>{}, 2, 2, 10);
  CHECK(svg.find("viewBox=\"0 0 20 20\"") != std::string::npos);
  CHECK(svg.find("<rect x=\"0\" y=\"0\" width=\"10\" height=\"10\"/>") != std::string::npos);
  CHECK(svg.find("<rect x=\"10\" y=\"10\" width=\"10\" height=\"10\"/>") != std::string::npos);
  CHECK(draw_svg(everyone{}, 1, 3, 10).find("width=\"30\" height=\"10\"/>") != std::string::npos);
}

TEST_CASE("files") {
  const support::temp_dir folder;
  const std::string pgm = (folder / "mask.pgm").string(), svg = (folder / "mask.svg").string();
  write_pgm(pgm, causal{}, 2, 2);
  CHECK(read(pgm) == std::string("P5\n2 2\n255\n\0\xff\0\0", 15));
  write_svg(svg, causal{}, 2, 2);
  CHECK(read(svg) == draw_svg(causal{}, 2, 2));
  CHECK_ERROR(error_code::io, "cannot be written",
              write_pgm((folder / "no" / "mask.pgm").string(), causal{}, 2, 2));
}
