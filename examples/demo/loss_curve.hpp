// SPDX-License-Identifier: Apache-2.0
// The loss curve as an SVG picture: training loss (thin) and its running mean over a fiftieth of
// the points on either side (bold), validation points, and baselines as labelled horizontal lines,
// over the training step, in bits per byte. Points that are not finite are left out. Errors:
// invalid_argument (no finite point), save_error; the old file stays on every error.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include <deepseek/core/error.hpp>
#include <deepseek/io/atomic_file.hpp>

namespace demo {

struct curve_point {
  double step;
  double bits;  // per byte
};

struct curve_baseline {
  std::string label;
  double bits;
};

struct loss_curve {
  std::string title;
  std::vector<curve_point> training;
  std::vector<curve_point> validation;
  std::vector<curve_baseline> baselines;
};

namespace detail {

inline std::vector<curve_point> finite_points(const std::vector<curve_point>& points) {
  std::vector<curve_point> kept;
  for (const auto& p : points) {
    if (std::isfinite(p.step) && std::isfinite(p.bits)) kept.push_back(p);
  }
  return kept;
}

// The mean over the same number of points on either side: it does not lag, and ends on the last
// point.
inline std::vector<curve_point> running_mean(const std::vector<curve_point>& points) {
  std::vector<double> sums{0};
  for (const auto& p : points) sums.push_back(sums.back() + p.bits);
  std::vector<curve_point> smooth;
  const std::size_t n = points.size();
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t reach = std::min({n / 50, i, n - 1 - i});
    const double sum = sums[i + reach + 1] - sums[i - reach];
    smooth.push_back({points[i].step, sum / static_cast<double>(2 * reach + 1)});
  }
  return smooth;
}

// A step of 1, 2 or 5 times a power of ten that cuts `span` into about `pieces`.
inline double tick_step(double span, int pieces) {
  const double raw = span / pieces;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  for (double factor : {1.0, 2.0, 5.0}) {
    if (raw <= factor * power) return factor * power;
  }
  return 10 * power;
}

inline std::string number_text(double x, int digits = 6) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*g", digits, x);
  return text;
}

inline std::string escaped(std::string_view text) {
  std::string out;
  for (char ch : text) {
    switch (ch) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      default:
        out += static_cast<unsigned char>(ch) < 0x20 ? ' ' : ch;
    }
  }
  return out;
}

// Draws in data coordinates; grows the text of the picture.
class canvas {
 public:
  static constexpr double width = 900, height = 520;
  static constexpr double left = 70, right = 880, top = 62, bottom = 460;

  canvas(double last_step, double highest_bits) : last_(last_step), highest_(highest_bits) {
    svg_ =
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 900 520\" width=\"900\" "
        "height=\"520\" font-family=\"sans-serif\" font-size=\"13\">\n"
        "<rect width=\"900\" height=\"520\" fill=\"white\"/>\n";
  }

  double x(double step) const { return left + (right - left) * step / last_; }
  double y(double bits) const { return bottom - (bottom - top) * bits / highest_; }

  void line(double x1, double y1, double x2, double y2, std::string_view style) {
    tag("line", {{"x1", x1}, {"y1", y1}, {"x2", x2}, {"y2", y2}}, style);
  }
  void dot(const curve_point& p, std::string_view style) {
    tag("circle", {{"cx", x(p.step)}, {"cy", y(p.bits)}, {"r", 3.5}}, style);
  }
  void text(double at_x, double at_y, std::string_view words, std::string_view style) {
    svg_ += "<text x=\"" + number_text(at_x) + "\" y=\"" + number_text(at_y) + "\" ";
    svg_.append(style).append(">").append(escaped(words)).append("</text>\n");
  }
  void path(const std::vector<curve_point>& points, std::string_view style) {
    if (points.empty()) return;
    svg_ += "<polyline points=\"";
    for (const auto& p : points)
      svg_ += number_text(x(p.step)) + "," + number_text(y(p.bits)) + " ";
    svg_.append("\" fill=\"none\" ").append(style).append("/>\n");
  }
  std::string finish() { return svg_ + "</svg>\n"; }

 private:
  struct attribute {
    std::string_view name;
    double value;
  };
  void tag(std::string_view name, std::initializer_list<attribute> attributes,
           std::string_view style) {
    svg_.append("<").append(name);
    for (const auto& a : attributes) {
      svg_.append(" ").append(a.name).append("=\"").append(number_text(a.value)).append("\"");
    }
    svg_.append(" ").append(style).append("/>\n");
  }

  double last_, highest_;
  std::string svg_;
};

inline void draw_axes(canvas& page, double last_step, double highest_bits) {
  const std::string_view grid = "stroke=\"#dddddd\"", axis = "stroke=\"black\"";
  const double every_bits = tick_step(highest_bits, 8), every_steps = tick_step(last_step, 8);
  for (int i = 0; i * every_bits <= highest_bits * 1.0001; ++i) {
    const double at = page.y(i * every_bits);
    page.line(canvas::left, at, canvas::right, at, grid);
    page.text(canvas::left - 8, at + 4, number_text(i * every_bits), "text-anchor=\"end\"");
  }
  for (int i = 0; i * every_steps <= last_step * 1.0001; ++i) {
    const double at = page.x(i * every_steps);
    page.line(at, canvas::bottom, at, canvas::bottom + 6, axis);
    page.text(at, canvas::bottom + 22, number_text(i * every_steps), "text-anchor=\"middle\"");
  }
  page.line(canvas::left, canvas::bottom, canvas::right, canvas::bottom, axis);
  page.line(canvas::left, canvas::top, canvas::left, canvas::bottom, axis);
  page.text((canvas::left + canvas::right) / 2, canvas::height - 12, "training step",
            "text-anchor=\"middle\"");
  page.text(20, 255, "bits per byte", "text-anchor=\"middle\" transform=\"rotate(-90 20 255)\"");
}

inline void draw_baselines(canvas& page, std::vector<curve_baseline> baselines) {
  std::ranges::sort(baselines, std::ranges::greater(), &curve_baseline::bits);
  for (const auto& baseline : baselines) {
    const double at = page.y(baseline.bits);
    page.line(canvas::left, at, canvas::right, at, "stroke=\"#b35900\" stroke-dasharray=\"6 4\"");
  }
  double free_from = canvas::top;  // labels of close baselines move down instead of overlapping
  for (const auto& baseline : baselines) {
    const double at = std::max(page.y(baseline.bits) - 5, free_from);
    free_from = at + 15;
    page.text(canvas::right - 4, at, baseline.label + " " + number_text(baseline.bits, 4),
              "text-anchor=\"end\" fill=\"#b35900\" stroke=\"white\" stroke-width=\"4\" "
              "paint-order=\"stroke\"");
  }
}

inline void draw_legend(canvas& page) {
  const double at = canvas::top - 12;
  page.line(430, at - 4, 455, at - 4, "stroke=\"#9ec5e8\"");
  page.text(461, at, "training", "");
  page.line(535, at - 4, 560, at - 4, "stroke=\"#1f5f99\" stroke-width=\"2.5\"");
  page.text(566, at, "running mean", "");
  page.text(672, at, "\xe2\x97\x8f", "fill=\"#c0143c\" text-anchor=\"middle\"");
  page.text(683, at, "validation", "");
  page.line(762, at - 4, 787, at - 4, "stroke=\"#b35900\" stroke-dasharray=\"6 4\"");
  page.text(793, at, "byte models", "");
}

}  // namespace detail

// The picture as text.
inline std::string loss_curve_svg(const loss_curve& curve) {
  const auto training = detail::finite_points(curve.training);
  const auto validation = detail::finite_points(curve.validation);
  double last = 1, highest = 0.1;
  for (const auto* points : {&training, &validation}) {
    for (const auto& p : *points) {
      last = std::max(last, p.step);
      highest = std::max(highest, p.bits);
    }
  }
  deepseek::require(!training.empty() || !validation.empty(),
                    deepseek::error_code::invalid_argument, "loss_curve: none of ",
                    curve.training.size() + curve.validation.size(),
                    " points is finite; train with a smaller learning rate");
  std::vector<curve_baseline> baselines;
  for (const auto& baseline : curve.baselines) {
    if (!std::isfinite(baseline.bits)) continue;
    baselines.push_back(baseline);
    highest = std::max(highest, baseline.bits);
  }
  highest *= 1.03;  // room above the first point
  detail::canvas page(last, highest);
  detail::draw_axes(page, last, highest);
  page.text(detail::canvas::left, 24, curve.title, "font-size=\"16\"");
  detail::draw_legend(page);
  page.path(training, "stroke=\"#9ec5e8\"");
  detail::draw_baselines(page, baselines);
  page.path(detail::running_mean(training), "stroke=\"#1f5f99\" stroke-width=\"2.5\"");
  for (const auto& p : validation) page.dot(p, "fill=\"#c0143c\"");
  return page.finish();
}

inline void write_loss_curve(const std::filesystem::path& path, const loss_curve& curve) {
  const std::string picture = loss_curve_svg(curve);
  deepseek::atomic_file file(path);
  file.write(picture);
  file.commit();
}

}  // namespace demo
