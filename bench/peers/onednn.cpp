// SPDX-License-Identifier: Apache-2.0
// oneDNN 2 or 3: products with weights in the order that it asks for, and softmax. Version 2 is
// given bytes that were made before the clock starts, and leaves their sums unscaled; version 3
// makes activations bytes inside the call, and takes weights of 4 bits where it can (3.4). What a
// version or a processor does not have, or has as plain loops only, is not offered.
#include "module.hpp"

#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>

#include <cmath>
#include <cstring>
#include <unordered_map>

#define DEEPSEEK_PEER_ONEDNN_INT4 \
  (DNNL_VERSION_MAJOR > 3 || (DNNL_VERSION_MAJOR == 3 && DNNL_VERSION_MINOR >= 4))

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

dnnl::softmax_forward::primitive_desc described(const memory::desc& x) {
  constexpr auto use = dnnl::prop_kind::forward_inference;
#if DNNL_VERSION_MAJOR >= 3
  return {cpu(), use, dnnl::algorithm::softmax_accurate, x, x, 1};
#else
  return {{use, x, 1}, cpu()};
#endif
}

// The two primitives that multiply by weights, and how each of them names these.
struct inner_product {
  using primitive = dnnl::inner_product_forward;
  static constexpr tag rows = tag::ab;
  static memory::dims weights(index_t n, index_t k) { return {n, k}; }
  static primitive::primitive_desc described(const memory::desc& x, const memory::desc& w,
                                             const memory::desc& y) {
    constexpr auto use = dnnl::prop_kind::forward_inference;
#if DNNL_VERSION_MAJOR >= 3
    return {cpu(), use, x, w, y};
#else
    return {{use, x, w, y}, cpu()};
#endif
  }
};
#if DNNL_VERSION_MAJOR >= 3
struct matmul {
  using primitive = dnnl::matmul;
  static constexpr tag rows = tag::ba;
  static memory::dims weights(index_t n, index_t k) { return {k, n}; }
  static primitive::primitive_desc described(const memory::desc& x, const memory::desc& w,
                                             const memory::desc& y,
                                             const dnnl::primitive_attr& how = {}) {
    return {cpu(), x, w, y, how};
  }
};
#endif

struct plain_loops : std::exception {};

template <class Made>
void refuse_plain_loops(const Made& made) {
  if (std::strncmp(made.impl_info_str(), "ref", 3) == 0) throw plain_loops();
}

// Floats as another type: oneDNN rounds them.
memory converted(const float* from, const memory::desc& plain, const memory::desc& to) {
  memory source(plain, cpu(), const_cast<float*>(from)), target(to, cpu());
  dnnl::reorder(source, target).execute(stream(), source, target);
  stream().wait();
  return target;
}

std::vector<memory> copies_of(const memory& w, index_t count) {
  std::vector<memory> all;
  for (index_t i = 0; i < count; ++i) {
    memory copy(w.get_desc(), cpu());
    std::copy_n(static_cast<const char*>(w.get_data_handle()), w.get_desc().get_size(),
                static_cast<char*>(copy.get_data_handle()));
    all.push_back(copy);
  }
  return all;
}
memory& copy_of(std::vector<memory>& all, index_t call) {
  return all[static_cast<std::size_t>(call) % all.size()];
}

// The largest byte of weights. Without VNNI the sums of two products are kept in 16 bits and
// saturate: oneDNN asks for weights of 7 bits there.
float largest_weight() {
  return __builtin_cpu_supports("avx512vnni") ? 127.0F : 63.0F;
}

// Floats as whole numbers: each group of them times what brings its largest to `top`.
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

template <class Op>
struct linear {
  int threads;
  linear_task t;
  std::vector<float> y;
  memory x;
  std::vector<memory> weights;
  memory out;
  typename Op::primitive product;

  linear(const linear_task& task, int n, type stored) : linear(task, n, stored, task.x, task.w) {}
  linear(const linear_task& task, int n, type stored, const float* from_x, const float* from_w)
      : threads(n), t(task), y(static_cast<std::size_t>(t.m * t.n)) {
    omp_set_num_threads(threads);
    const memory::desc dst({t.m, t.n}, type::f32, tag::ab);
    const auto made = Op::described({{t.m, t.k}, stored, tag::ab},
                                    {Op::weights(t.n, t.k), stored, tag::any}, dst);
    refuse_plain_loops(made);
    product = typename Op::primitive(made);
    x = converted(from_x, {{t.m, t.k}, type::f32, tag::ab}, made.src_desc());
    weights = copies_of(
        converted(from_w, {Op::weights(t.n, t.k), type::f32, Op::rows}, made.weights_desc()),
        t.copies());
    out = memory(dst, cpu(), y.data());
  }
  void run(index_t call) {
    omp_set_num_threads(threads);
    product.execute(
        stream(),
        {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, copy_of(weights, call)}, {DNNL_ARG_DST, out}});
    stream().wait();
  }
  const float* result() { return y.data(); }
};

#if DNNL_VERSION_MAJOR < 3
struct ready_bytes {
  bytes of_x, of_w;
  linear<inner_product> product;
  std::vector<float> scaled;

  ready_bytes(const linear_task& t, int n)
      : of_x(t.x, t.m * t.k, t.m * t.k, 127),
        of_w(t.w, t.n * t.k, t.k, largest_weight()),
        product(t, n, type::s8, of_x.rounded.data(), of_w.rounded.data()) {}
  void run(index_t call) { product.run(call); }
  const float* result() {
    scaled = product.y;
    for (std::size_t i = 0; i < scaled.size(); ++i)
      scaled[i] *= of_x.scales[0] * of_w.scales[i % of_w.scales.size()];
    return scaled.data();
  }
};
#else
// Weights as whole numbers with a scale of each group; x becomes bytes of one scale, or bf16,
// inside the call.
struct whole_numbers {
  struct kind {
    type of_x, of_w;
    tag order;
    index_t group;
    float top;
  };
  int threads;
  linear_task t;
  std::vector<float> y, scales;
  float scale_of_x = 1;
  memory x, narrow_x;
  dnnl::reorder narrowing;
  std::vector<memory> weights;
  std::unordered_map<int, memory> arguments;
  dnnl::matmul product;

  whole_numbers(const linear_task& task, int n, const kind& k)
      : threads(n), t(task), y(static_cast<std::size_t>(t.m * t.n)) {
    omp_set_num_threads(threads);
    const memory::desc dst({t.m, t.n}, type::f32, tag::ab);
    const auto made = matmul::described({{t.m, t.k}, k.of_x, tag::ab},
                                        {matmul::weights(t.n, t.k), k.of_w, k.order}, dst, how(k));
    refuse_plain_loops(made);
    product = dnnl::matmul(made);
    prepare_x(made.src_desc());
    const bytes of_w(t.w, t.n * t.k, k.group, k.top);
    prepare_weights(of_w, made.weights_desc(), t.k / k.group);
    arguments.insert({DNNL_ARG_SRC, narrow_x});
    arguments.insert({DNNL_ARG_DST, memory(dst, cpu(), y.data())});
  }
  static dnnl::primitive_attr how(const kind& k) {
    dnnl::primitive_attr set;
    if (k.of_x == type::s8) {
      set.set_scales_mask(DNNL_ARG_SRC, 0);
      set.set_scales_mask(DNNL_ARG_WEIGHTS, 2);  // of each column
    }
#if DEEPSEEK_PEER_ONEDNN_INT4
    if (k.of_x == type::bf16) {
      set.set_scales(DNNL_ARG_WEIGHTS, 3, {k.group, 1}, type::f32);
      set.set_fpmath_mode(dnnl::fpmath_mode::bf16, true);
    }
#endif
    return set;
  }
  void prepare_x(const memory::desc& narrow) {
    const memory::desc plain({t.m, t.k}, type::f32, tag::ab);
    x = memory(plain, cpu(), const_cast<float*>(t.x));
    narrow_x = memory(narrow, cpu());
    dnnl::primitive_attr set;
    if (narrow.get_data_type() == type::s8) {
      set.set_scales_mask(DNNL_ARG_DST, 0);
      arguments.insert({DNNL_ARG_ATTR_SCALES | DNNL_ARG_SRC, scale_memory(&scale_of_x, 1)});
    }
    narrowing = dnnl::reorder({cpu(), plain, cpu(), narrow, set});
  }
  void prepare_weights(const bytes& of_w, const memory::desc& packed, index_t groups) {
    weights = copies_of(converted(of_w.rounded.data(),
                                  {matmul::weights(t.n, t.k), type::f32, matmul::rows}, packed),
                        t.copies());
    scales.resize(of_w.scales.size());
    for (index_t j = 0; j < t.n; ++j) {
      for (index_t g = 0; g < groups; ++g) {
        scales[static_cast<std::size_t>(g * t.n + j)] =
            of_w.scales[static_cast<std::size_t>(j * groups + g)];
      }
    }
    arguments.insert({DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS,
                      groups == 1
                          ? scale_memory(scales.data(), t.n)
                          : memory({{groups, t.n}, type::f32, tag::ab}, cpu(), scales.data())});
  }
  static memory scale_memory(float* at, index_t count) {
    return {{{count}, type::f32, tag::a}, cpu(), at};
  }
  void narrow() {
    std::unordered_map<int, memory> with{{DNNL_ARG_FROM, x}, {DNNL_ARG_TO, narrow_x}};
    if (narrow_x.get_desc().get_data_type() == type::s8) {
      const index_t size = t.m * t.k;
      const float* const from = t.x;
      float largest = 0;
#pragma omp parallel for simd reduction(max : largest) num_threads(threads)
      for (index_t i = 0; i < size; ++i) largest = std::max(largest, std::abs(from[i]));
      scale_of_x = largest / 127;
      with.insert({DNNL_ARG_ATTR_SCALES | DNNL_ARG_DST, scale_memory(&scale_of_x, 1)});
    }
    narrowing.execute(stream(), with);
  }
  void run(index_t call) {
    omp_set_num_threads(threads);
    narrow();
    arguments[DNNL_ARG_WEIGHTS] = copy_of(weights, call);
    product.execute(stream(), arguments);
    stream().wait();
  }
  const float* result() {
    return y.data();
  }
};
#endif

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

// Adds a way unless oneDNN does not have it.
template <class Case, class... More>
void add(ways& all, const char* name, const linear_task& t, int threads, const More&... more) {
  try {
    all.push_back(way_of<Case>(name, t, threads, more...));
  } catch (const plain_loops&) {
  } catch (const dnnl::error& e) {
    if (e.status != dnnl_unimplemented) throw;
  }
}

void add_whole_numbers(ways& all, const linear_task& t, int n) {
#if DNNL_VERSION_MAJOR < 3
  if (t.type == element::int8) add<ready_bytes>(all, "packed inner product", t, n);
#else
  using kind = whole_numbers::kind;
  if (t.type == element::int8) {
    add<whole_numbers>(all, "packed matmul", t, n,
                       kind{type::s8, type::s8, tag::any, t.k, largest_weight()});
  }
#if DEEPSEEK_PEER_ONEDNN_INT4
  if (t.type == element::int4) {
    // It has no order of its own for 4 bits.
    add<whole_numbers>(all, "matmul by bf16, rows of weights", t, n,
                       kind{type::bf16, type::s4, tag::ba, 32, 7});
    add<whole_numbers>(all, "matmul by bf16, columns of weights", t, n,
                       kind{type::bf16, type::s4, tag::ab, 32, 7});
  }
#endif
#endif
}

class onednn_library : public library {
 public:
  std::string name() const override {
    const int major = dnnl_version()->major;
    return major < 3 ? "oneDNN" : "oneDNN " + std::to_string(major);
  }
  std::string version() const override {
    const dnnl_version_t* const v = dnnl_version();
    return std::to_string(v->major) + "." + std::to_string(v->minor) + "." +
           std::to_string(v->patch);
  }
  ways offer(const linear_task& t, int n) override {
    ways all;
    if (t.type == element::int8 || t.type == element::int4) {
      add_whole_numbers(all, t, n);
      return all;
    }
    const type stored = t.type == element::bf16  ? type::bf16
                        : t.type == element::f16 ? type::f16
                                                 : type::f32;
    add<linear<inner_product>>(all, "packed inner product", t, n, stored);
#if DNNL_VERSION_MAJOR >= 3
    add<linear<matmul>>(all, "packed matmul", t, n, stored);
#endif
    return all;
  }
  ways offer(const rows_task& t, int n) override {
    if (t.op != rows_task::softmax) return {};
    return {way_of<softmax>("softmax", t, n)};
  }
};

}  // namespace
}  // namespace peers

DEEPSEEK_PEER(peers::onednn_library)
