// SPDX-License-Identifier: Apache-2.0
// XNNPACK: graphs of one fully connected layer, or of softmax, of floats to floats. Activations
// become bf16 or bytes of one scale a row by a node of the graph, so inside the call. Weights
// are packed when a graph becomes a runtime: one for each copy.
#include "module.hpp"

#include <pthreadpool.h>
#include <xnnpack.h>

#include <bit>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>

namespace peers {
namespace {

void must(xnn_status status, const char* what) {
  if (status != xnn_status_success) {
    throw std::runtime_error(std::string(what) + ": xnn_status " + std::to_string(status));
  }
}

// Threads are those of one pool, the caller among them; there is one number of them in a process.
pthreadpool_t pool(int threads) {
  static pthreadpool_t const all = pthreadpool_create(static_cast<std::size_t>(threads));
  return all;
}

struct release {
  void operator()(xnn_subgraph_t graph) const { xnn_delete_subgraph(graph); }
  void operator()(xnn_runtime_t runtime) const { xnn_delete_runtime(runtime); }
};
using runtime_pointer = std::unique_ptr<xnn_runtime, release>;
using dims = std::vector<std::size_t>;

dims sizes(index_t rows, index_t columns) {
  return {static_cast<std::size_t>(rows), static_cast<std::size_t>(columns)};
}

// A graph from floats (value 0) to floats (value 1).
class graph {
 public:
  using value = std::uint32_t;
  static constexpr value input = 0, output = 1;

  graph(const dims& in, const dims& out) {
    xnn_subgraph_t made = nullptr;
    must(xnn_initialize(nullptr), "xnn_initialize");
    must(xnn_create_subgraph(2, 0, &made), "xnn_create_subgraph");
    graph_.reset(made);
    tensor(xnn_datatype_fp32, in, nullptr, input, XNN_VALUE_FLAG_EXTERNAL_INPUT);
    tensor(xnn_datatype_fp32, out, nullptr, output, XNN_VALUE_FLAG_EXTERNAL_OUTPUT);
  }
  xnn_subgraph_t get() const { return graph_.get(); }

  value tensor(xnn_datatype type, const dims& d, const void* data = nullptr,
               value external = XNN_INVALID_VALUE_ID, std::uint32_t flags = 0) {
    value id = 0;
    must(xnn_define_tensor_value(get(), type, d.size(), d.data(), data, external, flags, &id),
         "xnn_define_tensor_value");
    return id;
  }
  // Bytes with a scale of each row, both found when the graph runs.
  value dynamic_bytes(const dims& d) {
    value id = 0;
    must(xnn_define_dynamically_quantized_tensor_value(get(), xnn_datatype_qdint8, d.size(), 1,
                                                       d.data(), XNN_INVALID_VALUE_ID, 0, &id),
         "xnn_define_dynamically_quantized_tensor_value");
    return id;
  }
  void convert(value from, value to) {
    must(xnn_define_unary(get(), xnn_unary_convert, nullptr, from, to, 0), "xnn_define_unary");
  }
  void multiply(value x, value w, value y) {
    constexpr float all = std::numeric_limits<float>::infinity();
    must(xnn_define_fully_connected(get(), -all, all, x, w, XNN_INVALID_VALUE_ID, y, 0),
         "xnn_define_fully_connected");
  }
  runtime_pointer runtime(int threads, const float* x, float* y) const {
    xnn_runtime_t made = nullptr;
    must(xnn_create_runtime_v4(get(), nullptr, nullptr, pool(threads), 0, &made),
         "xnn_create_runtime");
    runtime_pointer it(made);
    const xnn_external_value ends[] = {{input, const_cast<float*>(x)}, {output, y}};
    must(xnn_reshape_runtime(made), "xnn_reshape_runtime");
    must(xnn_setup_runtime_v2(made, 2, ends), "xnn_setup_runtime");
    return it;
  }

 private:
  std::unique_ptr<xnn_subgraph, release> graph_;
};

void invoke(const runtime_pointer& it) {
  must(xnn_invoke_runtime(it.get()), "xnn_invoke_runtime");
}

// A float as bits of bf16, to nearest; one that f16 holds as bits of f16: at 2^-112 of its size its
// exponent is that of f16, and so are numbers below the normal ones.
std::uint16_t bf16_bits(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
std::uint16_t f16_bits(float x) {
  const auto small = std::bit_cast<std::uint32_t>(std::abs(x) * 0x1p-112F);
  return static_cast<std::uint16_t>(small >> 13 | (std::signbit(x) ? 0x8000U : 0));
}
float from_bf16(std::uint16_t bits) {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

std::vector<std::uint16_t> halves(const float* from, index_t count, std::uint16_t (*bits)(float)) {
  std::vector<std::uint16_t> all(static_cast<std::size_t>(count));
  std::transform(from, from + count, all.begin(), bits);
  return all;
}

// Weights as XNNPACK reads them: whole numbers from the largest of each group, two to a byte with
// 8 for zero where they have 4 bits.
struct quantized {
  std::vector<std::int8_t> numbers;
  std::vector<float> scales;

  quantized(const linear_task& t, index_t group, float top) {
    for (index_t i = 0; i < t.n * t.k; i += group) {
      float largest = 0;
      for (index_t j = i; j < i + group; ++j) largest = std::max(largest, std::abs(t.w[j]));
      scales.push_back(rounded_scale(largest / top, group < t.k));
      for (index_t j = i; j < i + group; ++j) {
        numbers.push_back(static_cast<std::int8_t>(
            std::min(top, std::max(-top, std::nearbyint(t.w[j] / scales.back())))));
      }
    }
  }
  // Scales of blocks are stored as bf16.
  static float rounded_scale(float scale, bool block) {
    return block ? from_bf16(bf16_bits(scale)) : scale;
  }
  std::vector<std::uint8_t> nibbles() const {
    std::vector<std::uint8_t> pairs;
    for (std::size_t i = 0; i < numbers.size(); i += 2) {
      pairs.push_back(static_cast<std::uint8_t>((numbers[i] + 8) | ((numbers[i + 1] + 8) << 4)));
    }
    return pairs;
  }
};

constexpr index_t block = 32;
enum class kind { floats, bf16, f16, int8, int4 };

// One matrix of weights as XNNPACK takes it, there until it is packed.
struct stored {
  kind of;
  const float* floats;
  std::vector<std::uint16_t> half, half_scales;
  std::vector<float> scales;
  std::vector<std::int8_t> bytes;
  std::vector<std::uint8_t> nibbles;

  stored(const linear_task& t, kind k) : of(k), floats(t.w) {
    if (k == kind::bf16) half = halves(t.w, t.n * t.k, bf16_bits);
    if (k == kind::f16) half = halves(t.w, t.n * t.k, f16_bits);
    if (k == kind::int8) {
      quantized q(t, t.k, 127);
      bytes = std::move(q.numbers), scales = std::move(q.scales);
    }
    if (k == kind::int4) {
      const quantized q(t, block, 7);
      nibbles = q.nibbles();
      half_scales = halves(q.scales.data(), t.n * t.k / block, bf16_bits);
    }
  }
  graph::value tensor(graph& g, const dims& d) const {
    graph::value id = 0;
    switch (of) {
      case kind::floats:
        return g.tensor(xnn_datatype_fp32, d, floats);
      case kind::bf16:
        return g.tensor(xnn_datatype_bf16, d, half.data());
      case kind::f16:
        return g.tensor(xnn_datatype_fp16, d, half.data());
      case kind::int8:
        must(xnn_define_channelwise_quantized_tensor_value(
                 g.get(), xnn_datatype_qcint8, scales.data(), 2, 0, d.data(), bytes.data(),
                 XNN_INVALID_VALUE_ID, 0, &id),
             "xnn_define_channelwise_quantized_tensor_value");
        break;
      case kind::int4:
        must(xnn_define_blockwise_quantized_tensor_value_v2(
                 g.get(), xnn_datatype_qbint4, 8, half_scales.data(), 2, 0, block, d.data(),
                 nibbles.data(), XNN_INVALID_VALUE_ID, 0, xnn_datatype_bf16, &id),
             "xnn_define_blockwise_quantized_tensor_value");
        break;
    }
    return id;
  }
};

struct linear {
  linear_task t;
  std::vector<float> y;
  std::vector<runtime_pointer> runtimes;

  linear(const linear_task& task, int threads, kind of)
      : t(task), y(static_cast<std::size_t>(t.m * t.n)) {
    const stored w(t, of);
    // A runtime changes the graph that it is made of.
    for (index_t i = 0; i < t.copies(); ++i) {
      graph g(sizes(t.m, t.k), sizes(t.m, t.n));
      define(g, w);
      runtimes.push_back(g.runtime(threads, t.x, y.data()));
    }
  }
  void define(graph& g, const stored& w) const {
    const graph::value x = narrow_x(g, w.of);
    g.multiply(x, w.tensor(g, sizes(t.n, t.k)), graph::output);
  }
  graph::value narrow_x(graph& g, kind of) const {
    if (of == kind::floats || of == kind::f16) return graph::input;
    const dims d = sizes(t.m, t.k);
    const graph::value x = of == kind::bf16 ? g.tensor(xnn_datatype_bf16, d) : g.dynamic_bytes(d);
    g.convert(graph::input, x);
    return x;
  }
  void run(index_t call) { invoke(runtimes[static_cast<std::size_t>(call) % runtimes.size()]); }
  const float* result() { return y.data(); }
};

struct softmax {
  std::vector<float> y;
  runtime_pointer runtime;

  softmax(const rows_task& t, int threads) : y(static_cast<std::size_t>(t.rows * t.dim)) {
    const graph g(sizes(t.rows, t.dim), sizes(t.rows, t.dim));
    must(xnn_define_softmax(g.get(), graph::input, graph::output, 0), "xnn_define_softmax");
    runtime = g.runtime(threads, t.x, y.data());
  }
  void run(index_t) { invoke(runtime); }
  const float* result() { return y.data(); }
};

class xnnpack_library : public library {
 public:
  std::string name() const override { return "XNNPACK"; }
  std::string version() const override { return DEEPSEEK_PEER_VERSION; }
  ways offer(const linear_task& t, int n) override {
    switch (t.type) {
      case element::f32:
        return {way_of<linear>("f32", t, n, kind::floats)};
      case element::bf16:
        // Of a graph of bf16 it makes one of floats, whatever kernels there are.
        return {way_of<linear>("bf16 as f32", t, n, kind::bf16)};
      case element::f16:
        return {way_of<linear>("f16 weights packed as f32", t, n, kind::f16)};
      case element::int8:
        return {way_of<linear>("qd8_f32_qc8w", t, n, kind::int8)};
      case element::int4:
        return {way_of<linear>("qd8_f32_qb4w", t, n, kind::int4)};
    }
    return {};
  }
  ways offer(const rows_task& t, int n) override {
    if (t.op != rows_task::softmax) return {};
    return {way_of<softmax>("softmax", t, n)};
  }
};

}  // namespace
}  // namespace peers

DEEPSEEK_PEER(peers::xnnpack_library)
