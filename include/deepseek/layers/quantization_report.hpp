// SPDX-License-Identifier: Apache-2.0
// What a format costs, layer by layer: a value, and a table when it is printed.
//   auto report = ds::report_quantization(b, m, seen, small);  std::cout << report;
// For each linear layer (a stack of experts is one): the relative error ||stored - w|| / ||w|| of
// its weights; that of its outputs ||y_small - y|| / ||y|| on the rows that the calibration
// sampled, each layer alone on the plain model's inputs (NaN where nothing was sampled); bytes
// before and after. Layers that are stored as before have error 0. Errors: those of the products.
#pragma once

#include "deepseek/layers/quantize.hpp"
#include "deepseek/quant/matrix_of.hpp"

#include <cstdio>
#include <limits>
#include <numeric>
#include <ostream>

namespace deepseek {

struct layer_report {
  std::string path, format;
  double weight_error = 0, output_error = 0;
  index_t bytes_before = 0, bytes_after = 0;
};

struct quantization_report {
  std::vector<layer_report> layers;
  index_t bytes_before = 0, bytes_after = 0;  // of the whole model

  friend std::ostream& operator<<(std::ostream& out, const quantization_report& r) {
    std::size_t width = 5;
    for (const layer_report& l : r.layers) width = std::max(width, l.path.size());
    const auto row = [&](const std::string& path, const std::string& format, const char* rest) {
      out << path << std::string(width + 2 - path.size(), ' ') << format
          << std::string(format.size() < 18 ? 18 - format.size() : 1, ' ') << rest << '\n';
    };
    row("layer", "format", " weights  outputs     bytes     after");
    char text[96];
    for (const layer_report& l : r.layers) {
      std::snprintf(text, sizeof text, "%8.5f %8.5f %9lld %9lld", l.weight_error, l.output_error,
                    static_cast<long long>(l.bytes_before), static_cast<long long>(l.bytes_after));
      row(l.path, l.format, text);
    }
    std::snprintf(text, sizeof text, "                  %9lld %9lld",
                  static_cast<long long>(r.bytes_before), static_cast<long long>(r.bytes_after));
    row("model", "", text);
    return out;
  }
};

struct error_sum {
  double difference = 0, norm = 0;
  void add(double got, double want) {
    difference += (got - want) * (got - want);
    norm += want * want;
  }
  double relative() const { return norm > 0 ? std::sqrt(difference / norm) : difference; }
};

// f(path, plain parameters, observed, quantized parameters) for each linear layer, in the order of
// the model; what a calibration kept lies as the parameters do.
template <class F, class P, class K, class Q>
void visit_linears(const std::string& path, const F& f, const P& p, const K& k, const Q& q) {
  if constexpr (requires {
                  typename P::layer::format;
                  p.weight;
                  q.weight;
                }) {
    f(path, p, k.own, q);
  } else if constexpr (requires { typename P::wrapped; }) {
    visit_linears(path, f, static_cast<const typename P::wrapped&>(p), k.own,
                  static_cast<const typename Q::wrapped&>(q));
  } else if constexpr (is_numbered<P>) {
    for (index_t i = 0; i < P::count; ++i) {
      visit_linears(join_path(path, std::to_string(P::first + i)), f, p[i], k[i], q[i]);
    }
  } else if constexpr (has_fields<P> && has_fields<K>) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (visit_linears(join_path(path, std::get<I>(P::fields()).name), f, field_of<I>(p),
                     field_of<I>(k), field_of<I>(q)),
       ...);
    }
    (field_sequence<P>{});
  }
}

// Rows of a sample sorted by the expert that they met.
template <class T>
struct sorted_sample {
  tensor<T, host, dyn, dyn> x;
  std::vector<std::int32_t> offsets;  // [experts + 1]

  sorted_sample(const input_sample& from, index_t experts)
      : x({from.rows(), from.width}), offsets(static_cast<std::size_t>(experts) + 1) {
    std::vector<index_t> order(from.expert.size());
    std::iota(order.begin(), order.end(), index_t{0});
    const auto expert = [&](index_t row) { return from.expert[static_cast<std::size_t>(row)]; };
    std::stable_sort(order.begin(), order.end(),
                     [&](index_t a, index_t b) { return expert(a) < expert(b); });
    for (index_t to = 0; to < from.rows(); ++to) {
      const index_t row = order[static_cast<std::size_t>(to)];
      for (std::size_t e = static_cast<std::size_t>(expert(row)) + 1; e < offsets.size(); ++e) {
        ++offsets[e];
      }
      for (index_t k = 0; k < from.width; ++k) {
        const auto at = static_cast<std::size_t>(row * from.width + k);
        x.view()(to, k) = static_cast<T>(from.values[at]);
      }
    }
  }
};

template <class P, class T, class B, class W>
auto product_on_sample(const B& b, const sorted_sample<T>& sample, const W& weight) {
  constexpr index_t in = P::layer::in, out = P::layer::out;
  const index_t rows = sample.x.extent(0);
  tensor<T, host, dyn, out> y({rows, out});
  arena<host> tape;
  const call<B> c{b, {}, b.workspace(), tape, 0, {}};
  const view<const T, host, dyn, in> x(sample.x.data(), {rows, in});
  const view<const std::int32_t, host, dyn> offsets(sample.offsets.data(), {P::experts + 1});
  weight_product(c.template with<segments>(offsets), x, weight, y.view(), none{});
  return y;
}

template <class T, class B, class P, class Q>
layer_report report_layer(const B& b, const P& p, const observed_range& seen, const Q& q) {
  layer_report r;
  r.format = Q::layer::format::name;
  r.bytes_before = parameter_bytes(p);
  r.bytes_after = parameter_bytes(q);
  error_sum weights, outputs;
  for (index_t e = 0; e < P::experts; ++e) {
    const auto want = matrix_of(p.weight, e);
    const auto got = matrix_of(q.weight, e);
    for (index_t n = 0; n < P::layer::out; ++n) {
      for (index_t k = 0; k < P::layer::in; ++k) {
        weights.add(static_cast<double>(got(n, k)), static_cast<double>(want(n, k)));
      }
    }
  }
  r.weight_error = weights.relative();
  r.output_error = std::numeric_limits<double>::quiet_NaN();
  if (seen.sample.rows() == 0) return r;
  const sorted_sample<T> sample(seen.sample, P::experts);
  const auto want = product_on_sample<P>(b, sample, p.weight);
  const auto got = product_on_sample<P>(b, sample, q.weight);
  for (index_t i = 0; i < want.size(); ++i) {
    outputs.add(static_cast<double>(got.data()[i]), static_cast<double>(want.data()[i]));
  }
  r.output_error = outputs.relative();
  return r;
}

template <class Net, class SmallNet, class T, class B>
quantization_report report_quantization(const B& b, const model<Net, T, B>& m,
                                        const typename model<Net, T, B>::calibration_type& seen,
                                        const model<SmallNet, T, B>& small) {
  quantization_report report;
  report.bytes_before = parameter_bytes(m.parameters());
  report.bytes_after = parameter_bytes(small.parameters());
  visit_linears(
      "",
      [&](const std::string& path, const auto& p, const observed_range& of_layer, const auto& q) {
        working_on(path, [&] { report.layers.push_back(report_layer<T>(b, p, of_layer, q)); });
        report.layers.back().path = path;
      },
      m.parameters(), seen.kept(), small.parameters());
  return report;
}

}  // namespace deepseek
