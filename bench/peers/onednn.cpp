// SPDX-License-Identifier: Apache-2.0
// oneDNN 2 or 3: inner products with weights in the order that it asks for, and softmax. int8 is
// given bytes that were made before the clock starts, and leaves its sums unscaled. What a version
// or a processor does not have is not offered.
#include "module.hpp"

#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>

#include <cmath>

namespace peers {
namespace {

using dnnl::memory;
using type = memory::data_type;
using tag = memory::format_tag;

dnnl::engine& cpu() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}
dnnl::stream& stream() {
  static dnnl::stream stream(cpu());
  return stream;
}

dnnl::inner_product_forward::primitive_desc described(const memory::desc& x, const memory::desc& w,
                                                      const memory::desc& y) {
  constexpr auto use = dnnl::prop_kind::forward_inference;
#if DNNL_VERSION_MAJOR >= 3
  return {cpu(), use, x, w, y};
#else
  return {{use, x, w, y}, cpu()};
#endif
}

dnnl::softmax_forward::primitive_desc described(const memory::desc& x) {
  constexpr auto use = dnnl::prop_kind::forward_inference;
#if DNNL_VERSION_MAJOR >= 3
  return {cpu(), use, dnnl::algorithm::softmax_accurate, x, x, 1};
#else
  return {{use, x, 1}, cpu()};
#endif
}

// Floats as another type: oneDNN rounds them.
memory converted(const float* from, const memory::desc& plain, const memory::desc& to) {
  memory source(plain, cpu(), const_cast<float*>(from)), target(to, cpu());
  dnnl::reorder(source, target).execute(stream(), source, target);
  stream().wait();
  return target;
}

// The largest byte of weights. Without VNNI the sums of two products are kept in 16 bits and
// saturate: oneDNN asks for weights of 7 bits there.
float largest_weight() {
  return __builtin_cpu_supports("avx512vnni") ? 127.0F : 63.0F;
}

// Floats as signed bytes: each group of them times what brings its largest to `top`.
struct bytes {
  std::vector<float> rounded;  // whole numbers
  std::vector<float> scales;   // of each group

  bytes(const float* from, index_t size, index_t group, float top) {
    for (index_t i = 0; i < size; i += group) {
      float largest = 0;
      for (index_t j = i; j < i + group; ++j) largest = std::max(largest, std::abs(from[j]));
      scales.push_back(largest / top);
      for (index_t j = i; j < i + group; ++j)
        rounded.push_back(std::nearbyint(from[j] / scales.back()));
    }
  }
};

struct linear {
  int threads;
  linear_task t;
  std::vector<float> scales, y, scaled;
  memory x;
  std::vector<memory> weights;
  memory out;
  dnnl::inner_product_forward product;

  linear(const linear_task& task, int n)
      : threads(n), t(task), y(static_cast<std::size_t>(t.m * t.n)) {
    omp_set_num_threads(threads);
    const type stored = t.type == element::int8   ? type::s8
                        : t.type == element::bf16 ? type::bf16
                                                  : type::f32;
    const memory::desc plain_x({t.m, t.k}, type::f32, tag::ab);
    const memory::desc plain_w({t.n, t.k}, type::f32, tag::ab);
    const memory::desc dst({t.m, t.n}, type::f32, tag::ab);
    const auto made = described({{t.m, t.k}, stored, tag::ab}, {{t.n, t.k}, stored, tag::any}, dst);
    product = dnnl::inner_product_forward(made);
    std::vector<float> whole_x, whole_w;
    if (t.type == element::int8) {
      bytes of_x(t.x, t.m * t.k, t.m * t.k, 127), of_w(t.w, t.n * t.k, t.k, largest_weight());
      for (const float s : of_w.scales) scales.push_back(s * of_x.scales[0]);
      whole_x = std::move(of_x.rounded), whole_w = std::move(of_w.rounded);
    }
    x = converted(whole_x.empty() ? t.x : whole_x.data(), plain_x, made.src_desc());
    const memory w =
        converted(whole_w.empty() ? t.w : whole_w.data(), plain_w, made.weights_desc());
    for (index_t i = 0; i < t.copies(); ++i) {
      memory copy(made.weights_desc(), cpu());
      std::copy_n(static_cast<const char*>(w.get_data_handle()), made.weights_desc().get_size(),
                  static_cast<char*>(copy.get_data_handle()));
      weights.push_back(copy);
    }
    out = memory(dst, cpu(), y.data());
  }
  void run(index_t call) {
    omp_set_num_threads(threads);
    product.execute(stream(),
                    {{DNNL_ARG_SRC, x},
                     {DNNL_ARG_WEIGHTS, weights[static_cast<std::size_t>(call) % weights.size()]},
                     {DNNL_ARG_DST, out}});
    stream().wait();
  }
  const float* result() {
    if (scales.empty()) return y.data();
    scaled = y;
    for (std::size_t i = 0; i < y.size(); ++i) scaled[i] *= scales[i % scales.size()];
    return scaled.data();
  }
};

struct softmax {
  int threads;
  std::vector<float> y;
  memory in, out;
  dnnl::softmax_forward op;

  softmax(const rows_task& t, int n) : threads(n), y(static_cast<std::size_t>(t.rows * t.dim)) {
    omp_set_num_threads(threads);
    const memory::desc plain({t.rows, t.dim}, type::f32, tag::ab);
    op = dnnl::softmax_forward(described(plain));
    in = memory(plain, cpu(), const_cast<float*>(t.x));
    out = memory(plain, cpu(), y.data());
  }
  void run(index_t) {
    omp_set_num_threads(threads);
    op.execute(stream(), {{DNNL_ARG_SRC, in}, {DNNL_ARG_DST, out}});
    stream().wait();
  }
  const float* result() { return y.data(); }
};

class onednn_library : public library {
 public:
  std::string name() const override { return "oneDNN"; }
  std::string version() const override {
    const dnnl_version_t* const v = dnnl_version();
    return std::to_string(v->major) + "." + std::to_string(v->minor) + "." +
           std::to_string(v->patch);
  }
  ways offer(const linear_task& t, int n) override {
    if (t.type == element::f16 || t.type == element::int4) return {};
    try {
      return {way_of<linear>("packed inner product", t, n)};
    } catch (const dnnl::error& e) {
      if (e.status == dnnl_unimplemented) return {};
      throw;
    }
  }
  ways offer(const rows_task& t, int n) override {
    if (t.op != rows_task::softmax) return {};
    return {way_of<softmax>("softmax", t, n)};
  }
};

}  // namespace
}  // namespace peers

DEEPSEEK_PEER(peers::onednn_library)
