// SPDX-License-Identifier: Apache-2.0
// run_op: gemm, grouped_gemm, masked_grouped_gemm, their gradients, sums of columns, the product of
// int8 matrices.
#include "run_op/op_rows.hpp"

#include "deepseek/backend/cpu/kernels/int8.hpp"
#include "deepseek/ops/masked_grouped_gemm.hpp"

namespace run_op {
namespace {

struct gemm {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto a = in.read<T, 2>("a"), w = in.read<T, 2>("b");
    array<T, 2> c({a.extent(0), w.extent(1)});
    ds::ops::gemm(b, a, w, c);
    out.add("out", c);
  }
};

struct gemm_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto a = in.read<T, 2>("a"), w = in.read<T, 2>("b"), dout = in.read<T, 2>("dout");
    auto da = like(a), dw = like(w);
    ds::ops::gemm_backward(b, ds::gemm_inputs{a, w}, dout, ds::gemm_gradients{da, dw});
    out.add("da", da);
    out.add("db", dw);
  }
};

struct grouped_gemm {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x");
    const auto w = in.read<T, 3>("w");
    const auto offsets = read_offsets(in, x.extent(0));
    array<T, 2> y({x.extent(0), w.extent(2)});
    ds::ops::grouped_gemm(b, x, w, offsets, y);
    out.add("out", y);
  }
};

struct grouped_gemm_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x"), dout = in.read<T, 2>("dout");
    const auto w = in.read<T, 3>("w");
    const auto offsets = read_offsets(in, x.extent(0));
    auto dx = like(x);
    auto dw = like(w);
    ds::ops::grouped_gemm_backward(b, ds::grouped_gemm_inputs{x, w, offsets}, dout,
                                   ds::grouped_gemm_gradients{dx, dw});
    out.add("dx", dx);
    out.add("dw", dw);
  }
};

// Rows that are not there stay zeros in the results.
struct masked_grouped_gemm {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 3>("x"), w = in.read<T, 3>("w");
    const auto counts = in.read_ids<1>("counts");
    array<T, 3> y({x.extent(0), x.extent(1), w.extent(2)});
    ds::ops::masked_grouped_gemm(b, x, w, counts, y);
    out.add("out", y);
  }
};

struct masked_grouped_gemm_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 3>("x"), w = in.read<T, 3>("w"), dout = in.read<T, 3>("dout");
    const auto counts = in.read_ids<1>("counts");
    auto dx = like(x), dw = like(w);
    ds::ops::masked_grouped_gemm_backward(b, ds::masked_grouped_gemm_inputs{x, w, counts}, dout,
                                          ds::grouped_gemm_gradients{dx, dw});
    out.add("dx", dx);
    out.add("dw", dw);
  }
};

struct add_column_sums {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x");
    array<T, 1> sums({x.extent(1)});
    ds::ops::add_column_sums(b, x, sums);
    out.add("out", sums);
  }
};

using integers = ds::view<std::int64_t, ds::host, ds::dyn, ds::dyn>;
using bytes = ds::view<const std::int8_t, ds::host, ds::dyn, ds::dyn>;

void int8_product(const bytes& a, const bytes& b, const integers& out) {
  for (index_t m = 0; m < out.extent(0); ++m) {
    for (index_t k = 0; k < a.extent(1); ++k) {
      for (index_t n = 0; n < out.extent(1); ++n) out(m, n) += a(m, k) * b(k, n);
    }
  }
}

#if defined(RUN_OP_ON_DEVICE)
void int8_product(const ds::cpu&, const bytes&, const bytes&, const integers&) {
  ds::fail(error_code::unsupported,
           "int8_gemm: the device multiplies int8 in quant_gemm alone; supported backends are "
           "reference and cpu");
}
#else
// The kernel multiplies bytes 0 .. 255 by -127 .. 127 and hands out floats, exact below 2^24: depth
// is cut to 512. a is moved up by 128; a weight of -128 is -127 here and -1 in a second product.
void int8_product(const ds::cpu& cpu, const bytes& a, const bytes& b, const integers& out) {
  namespace kernels = ds::kernels;
  constexpr index_t depth = 512;
  constexpr std::int32_t zero = 128;
  const index_t m = out.extent(0), n = out.extent(1);
  const float one = 1;
  const std::vector<float> ones(static_cast<std::size_t>(n), 1.0f);
  std::vector<std::int8_t> panels(static_cast<std::size_t>(ds::int8_layout{n, depth}.size()));
  std::vector<std::int32_t> sums(static_cast<std::size_t>(n));
  std::vector<std::uint8_t> left(static_cast<std::size_t>(m * depth));
  std::vector<std::int8_t> right(static_cast<std::size_t>(n * depth));
  std::vector<float> product(static_cast<std::size_t>(m * n));
  for (index_t first = 0; first < a.extent(1); first += depth) {
    const index_t k = std::min(depth, a.extent(1) - first);
    for (index_t i = 0; i < m; ++i) {
      for (index_t j = 0; j < k; ++j) {
        left[static_cast<std::size_t>(i * depth + j)] =
            static_cast<std::uint8_t>(a(i, first + j) + zero);
      }
    }
    for (const bool rest : {false, true}) {
      for (index_t j = 0; j < n * k; ++j) {
        const std::int8_t q = b(first + j % k, j / k);
        right[static_cast<std::size_t>(j)] =
            rest ? std::int8_t(q == -128 ? -1 : 0) : std::max(q, std::int8_t(-127));
      }
      kernels::pack_int8(cpu.pool(), {right.data(), k, n, k}, panels.data(), sums.data());
      kernels::gemm_int8(cpu.pool(), {{m, n, k},
                                      left.data(),
                                      depth,
                                      {&one, &zero, 0},
                                      panels.data(),
                                      sums.data(),
                                      ones.data(),
                                      nullptr,
                                      product.data(),
                                      n});
      for (index_t i = 0; i < m * n; ++i) {
        out(i / n, i % n) += static_cast<std::int64_t>(product[static_cast<std::size_t>(i)]);
      }
    }
  }
}

#endif

void int8_gemm(const machine& m, op_case& in, results& out) {
  ds::require(in.is_int8(), error_code::dtype, "int8_gemm: dtype is not int8; write int8");
  const auto a = in.read_int8<2>("a"), b = in.read_int8<2>("b");
  ds::require(a.extent(1) == b.extent(0), error_code::shape_mismatch, "int8_gemm: b",
              ds::shape_string(b.view()), " does not match a", ds::shape_string(a.view()),
              "; the inner extents must be equal");
  array<std::int64_t, 2> c({a.extent(0), b.extent(1)});
  if (m.threads && c.size() > 0) {
    int8_product(*m.threads, a.view(), b.view(), c.view());
  } else {
    int8_product(a.view(), b.view(), c.view());
  }
  out.add("out", c);
}

}  // namespace

std::span<const op_row> product_rows() {
  static constexpr op_row rows[] = {
      row_of<gemm>("gemm"),
      row_of<gemm_backward>("gemm_backward"),
      row_of<grouped_gemm>("grouped_gemm"),
      row_of<grouped_gemm_backward>("grouped_gemm_backward"),
      row_of<masked_grouped_gemm>("masked_grouped_gemm"),
      row_of<masked_grouped_gemm_backward>("masked_grouped_gemm_backward"),
      row_of<add_column_sums>("add_column_sums"),
      {"int8_gemm", &int8_gemm},
  };
  return rows;
}

}  // namespace run_op
