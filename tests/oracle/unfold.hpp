// SPDX-License-Identifier: Apache-2.0
// Windows of images as rows, element by element from the index formula; the gradient scatters each
// element of a window back to where it came from.
#pragma once

#include <cstddef>
#include <vector>

namespace oracle {

struct image_windows {
  std::size_t images, channels, height, width;  // of x
  std::size_t tall, wide, down, across;         // windows and their steps
  std::size_t rows() const { return (height - tall) / down + 1; }
  std::size_t columns() const { return (width - wide) / across + 1; }
  std::size_t window() const { return channels * tall * wide; }
  std::size_t count() const { return images * rows() * columns(); }
  std::size_t size() const { return images * channels * height * width; }

  // Where element e of window n comes from.
  std::size_t source(std::size_t n, std::size_t e) const {
    const std::size_t v = e % wide, u = e / wide % tall, c = e / wide / tall;
    const std::size_t s = n % columns(), r = n / columns() % rows(), i = n / columns() / rows();
    return ((i * channels + c) * height + r * down + u) * width + s * across + v;
  }
};

inline std::vector<double> unfold(const std::vector<double>& x, const image_windows& w) {
  std::vector<double> y;
  for (std::size_t n = 0; n < w.count(); ++n) {
    for (std::size_t e = 0; e < w.window(); ++e) y.push_back(x.at(w.source(n, e)));
  }
  return y;
}

inline std::vector<double> unfold_backward(const std::vector<double>& dy, const image_windows& w) {
  std::vector<double> dx(w.size());
  for (std::size_t n = 0; n < w.count(); ++n) {
    for (std::size_t e = 0; e < w.window(); ++e) dx.at(w.source(n, e)) += dy.at(n * w.window() + e);
  }
  return dx;
}

}  // namespace oracle
