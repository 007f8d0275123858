// SPDX-License-Identifier: Apache-2.0
// 4-point differences, element by element or along directions.
#include "support/gradient.hpp"
#include "support/report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace support {
namespace {

constexpr double step = 1e-3;

double norm_of(const std::vector<double>& x) {
  double squares = 0;
  for (double e : x) squares += e * e;
  return std::sqrt(squares);
}

double largest_of(const std::vector<double>& x) {
  double largest = 0;
  for (double e : x) largest = std::max(largest, std::fabs(e));
  return largest;
}

std::string numbers_text(const char* format, double a, double b, double c) {
  char buffer[240];
  std::snprintf(buffer, sizeof buffer, format, a, b, c);
  return buffer;
}

double slope(const std::function<double(double)>& f, double h) {
  return (f(-2 * h) - 8 * f(-h) + 8 * f(h) - f(2 * h)) / (12 * h);
}

comparison refused(const std::string& why) {
  comparison result;
  result.message = why;
  return result;
}

// Nothing to compare, or a gradient that proves nothing; true when the caller must stop.
bool unusable(const std::vector<double>& x, const std::vector<double>& g, comparison& result) {
  if (x.size() != g.size()) {
    result = refused("gradient has " + std::to_string(g.size()) + " elements, input " +
                     std::to_string(x.size()));
    return true;
  }
  if (x.empty()) {
    result.pass = true;
    return true;
  }
  for (double e : g) {
    if (std::isfinite(e)) continue;
    result = refused("gradient is not finite");
    return true;
  }
  return false;
}

void distrust_zeros(const std::vector<double>& g, comparison& result) {
  if (!result.pass || norm_of(g) >= 1e-30) return;
  result.pass = false;
  result.mistrusted = true;
  result.message = "mistrusted: the gradient is all zeros (choose other inputs)";
}

}  // namespace

std::vector<double> loss_weights(std::size_t n, std::uint64_t stream) {
  numbers from(stream);
  std::vector<double> w(n);
  for (double& e : w) {
    const double size = 0.25 + from.uniform();
    e = (from.word() & 1U) != 0 ? size : -size;
  }
  return w;
}

double weighted_sum(const std::vector<double>& w, const std::vector<double>& y) {
  double sum = 0;
  for (std::size_t i = 0; i < w.size(); ++i) sum += w[i] * y.at(i);
  return sum;
}

std::vector<double> difference_gradient(const loss_function& loss, std::vector<double> x) {
  std::vector<double> g(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double here = x[i];
    const auto moved = [&](double by) {
      x[i] = here + by;
      return loss(x);
    };
    g[i] = slope(moved, step * std::max(1.0, std::fabs(here)));
    x[i] = here;
  }
  return g;
}

comparison check_gradient(const loss_function& loss, const std::vector<double>& x,
                          const std::vector<double>& g) {
  comparison result;
  if (unusable(x, g, result)) return result;
  std::vector<double> error = difference_gradient(loss, x);
  const double norm = norm_of(error);
  std::size_t worst = 0;
  for (std::size_t i = 0; i < g.size(); ++i) {
    error[i] = g[i] - error[i];
    if (std::fabs(error[i]) > std::fabs(error[worst])) worst = i;
  }
  const double difference = norm_of(error), allowed = 1e-7 * (1 + largest_of(g));
  result.relative = norm > 0 ? difference / norm : difference;
  // Differences of an exactly zero gradient are noise of 1e-11 or so, not zero: the element rule
  // judges those.
  const bool flat = norm < 1e-7 * std::sqrt(static_cast<double>(g.size()));
  result.pass = (result.relative <= 1e-7 || flat) && std::fabs(error[worst]) <= allowed;
  if (!result.pass) {
    result.message =
        numbers_text("gradient errs %.3g relatively (allowed 1e-7), %.3g at most (allowed %.3g)",
                     result.relative, std::fabs(error[worst]), allowed) +
        " at element " + std::to_string(worst) +
        numbers_text(": %.12g, by differences %.12g", g[worst], g[worst] - error[worst], 0);
  }
  distrust_zeros(g, result);
  return result;
}

comparison check_directions(const loss_function& loss, const std::vector<double>& x,
                            const std::vector<double>& g, int count) {
  comparison result;
  if (unusable(x, g, result)) return result;
  result.pass = true;
  numbers from(std::uint64_t{4711});
  std::vector<double> moved_x(x.size());
  for (int direction = 0; direction < count; ++direction) {
    const std::vector<double> v = draw(values::normal, x.size(), from);
    const auto moved = [&](double by) {
      for (std::size_t i = 0; i < x.size(); ++i) moved_x[i] = x[i] + by * v[i];
      return loss(moved_x);
    };
    // A long direction moves every element: its step shrinks, or the fifth derivative would show.
    const double measured = slope(moved, step * std::min(1.0, 4 / norm_of(v)));
    const double along = weighted_sum(g, v);
    const double spread = norm_of(g) * norm_of(v) / std::sqrt(static_cast<double>(x.size()));
    const double allowed = 1e-6 * (std::fabs(along) + spread);
    const double error = std::fabs(along - measured);
    result.relative = std::max(result.relative, error / (std::fabs(along) + spread));
    if (error <= allowed) continue;
    result.pass = false;
    result.message = "direction " + std::to_string(direction) +
                     numbers_text(": gradient gives %.12g, differences %.12g, allowed error %.3g",
                                  along, measured, allowed);
  }
  distrust_zeros(g, result);
  return result;
}

void expect_gradient(const std::string& op, const std::string& case_text, const comparison& result,
                     const char* file, int line) {
  facet(op, "gradient");
  expect(op, case_text, result, file, line);
}

}  // namespace support
