// SPDX-License-Identifier: Apache-2.0
// gemm: c = act(a b + bias), or c += act(a b + bias).
// Shapes: a [M, K], b [K, N], c [M, N], bias [N]; or batched a [B, M, K], b [B, K, N], c [B, M, N]
// (stride 0 broadcasts). Transposed operands are views: transposed(w).
// Types: any floating types; accumulated in accumulate_t of c over k = 0 .. K-1 in order, rounded
// once. K = 0 gives act(bias). On cpu (float, double, float by bf16 weights, f16 by f16) every
// element is one chain of fused multiply-adds, of bf16 by bf16 one of sums of pairs of products
// (AMX: of blocks of 32), so its bits do not depend on M, N, threads or position. c must not
// overlap a, b or bias (core/apart.hpp). Errors: shape_mismatch, invalid_argument, aliasing. Cost:
// 2 M N K flops.
#pragma once

#include "deepseek/ops/argument.hpp"

namespace deepseek {

enum class activation { none, relu, silu, gelu };

template <class Bias = none>
struct gemm_epilogue {
  Bias bias{};
  activation act = activation::none;
  update how = update::write;
};
template <class Bias>
gemm_epilogue(Bias) -> gemm_epilogue<Bias>;
template <class Bias>
gemm_epilogue(Bias, activation) -> gemm_epilogue<Bias>;
template <class Bias>
gemm_epilogue(Bias, activation, update) -> gemm_epilogue<Bias>;

inline constexpr gemm_epilogue<> gemm_adds{{}, activation::none, update::add};

struct gemm_op {
  static constexpr std::string_view name = "gemm";

  template <class B, class A, class W, class C, class Bias = none>
  void operator()(const B& b, const A& a_in, const W& w_in, C&& c_in,
                  const gemm_epilogue<Bias>& epilogue = gemm_epilogue<Bias>{}) const {
    const auto a = as_const(as_view(a_in));
    const auto w = as_const(as_view(w_in));
    const auto c = as_view(c_in);
    check_spaces(b, a, w, c);
    constexpr int rank = decltype(c)::rank;
    static_assert(
        (rank == 2 || rank == 3) && decltype(a)::rank == rank && decltype(w)::rank == rank,
        "deepseek::gemm: a, b and c are not all matrices or all batches of matrices; "
        "pass views [M, K], [K, N], [M, N], all with or all without a batch extent");
    check_static<decltype(a), decltype(w), decltype(c)>();
    check_extents<rank>(a, w, c);
    if (c.empty()) return;
    if constexpr (std::is_same_v<Bias, none>) {
      gemm_impl(b, as_dynamic(a), as_dynamic(w), as_dynamic(c), epilogue);
    } else {
      const auto bias = as_dynamic(as_const(as_view(epilogue.bias)));
      check_spaces(b, bias);
      require_extent(bias, 0, c.extent(rank - 1), "gemm: bias");
      require_data(bias, "gemm: bias");
      require_apart(bias, c, "gemm: bias");
      gemm_impl(b, as_dynamic(a), as_dynamic(w), as_dynamic(c),
                gemm_epilogue<decltype(as_const(bias))>{bias, epilogue.act, epilogue.how});
    }
  }

 private:
  template <class A, class W, class C>
  static constexpr void check_static() {
    constexpr int r = C::rank;
    constexpr index_t ka = A::static_extents[r - 1], kw = W::static_extents[r - 2];
    static_assert(ka == dyn || kw == dyn || ka == kw,
                  "deepseek::gemm: the inner sizes of a and b differ; give linear<in, out> the "
                  "width of what comes before it");
  }
  template <int Rank, class A, class W, class C>
  static void check_extents(const A& a, const W& w, const C& c) {
    require(w.extent(Rank - 2) == a.extent(Rank - 1), error_code::shape_mismatch, "gemm: b",
            shape_of(w), " does not match a", shape_of(a), "; the inner extents must be equal");
    require(c.extent(Rank - 2) == a.extent(Rank - 2) && c.extent(Rank - 1) == w.extent(Rank - 1),
            error_code::shape_mismatch, "gemm: c", shape_of(c), " does not match a", shape_of(a),
            " times b", shape_of(w), "; pass c[M, N]");
    if constexpr (Rank == 3) {
      require_extent(a, 0, c.extent(0), "gemm: a");
      require_extent(w, 0, c.extent(0), "gemm: b");
    }
    require_data(a, "gemm: a");
    require_data(w, "gemm: b");
    require_data(c, "gemm: c");
    require_apart(a, c, "gemm: a");
    require_apart(w, c, "gemm: b");
  }
};

// Column sums are added to out: out[d] += sum over n of x[n, d]; fixed order. A bias's gradient.
struct add_column_sums_op {
  static constexpr std::string_view name = "add_column_sums";

  template <class B, class X, class Y>
  void operator()(const B& b, const X& x_in, Y&& out_in) const {
    const auto x = as_const(as_view(x_in));
    const auto out = as_view(out_in);
    check_spaces(b, x, out);
    static_assert(decltype(x)::rank == 2 && decltype(out)::rank == 1,
                  "deepseek::add_column_sums: pass x[n, d] and out[d]");
    require_extent(out, 0, x.extent(1), "add_column_sums: out");
    require_data(x, "add_column_sums: x");
    require_data(out, "add_column_sums: out");
    if (!x.empty()) add_column_sums_impl(b, x, out);
  }
};

template <class A, class W>
struct gemm_inputs {
  A a;
  W b;
};
template <class A, class W>
gemm_inputs(A&&, W&&) -> gemm_inputs<argument_t<A>, argument_t<W>>;

// Each may be `none`. da is written; db and dbias are added to.
template <class DA, class DW, class DBias = none>
struct gemm_gradients {
  DA da;
  DW db;
  DBias dbias{};
};
template <class DA, class DW>
gemm_gradients(DA&&, DW&&) -> gemm_gradients<argument_t<DA>, argument_t<DW>>;
template <class DA, class DW, class DBias>
gemm_gradients(DA&&, DW&&, DBias&&)
    -> gemm_gradients<argument_t<DA>, argument_t<DW>, argument_t<DBias>>;

namespace ops {
inline constexpr gemm_op gemm{};
inline constexpr add_column_sums_op add_column_sums{};
}  // namespace ops

// For c = a b + bias: da = dc b^T, db += a^T dc, dbias += column sums of dc.
struct gemm_backward_op {
  static constexpr std::string_view name = "gemm_backward";

  template <class B, class A, class W, class DC, class DA, class DW, class DBias>
  void operator()(const B& b, const gemm_inputs<A, W>& in, const DC& dc_in,
                  const gemm_gradients<DA, DW, DBias>& out) const {
    const auto dc = as_const(as_view(dc_in));
    if constexpr (!std::is_same_v<DA, none>) {
      ops::gemm(b, dc, transposed(as_view(in.b)), out.da);
    }
    if constexpr (!std::is_same_v<DW, none>) {
      ops::gemm(b, transposed(as_view(in.a)), dc, out.db, gemm_adds);
    }
    if constexpr (!std::is_same_v<DBias, none>) ops::add_column_sums(b, dc, out.dbias);
  }
};
namespace ops {
inline constexpr gemm_backward_op gemm_backward{};
}

}  // namespace deepseek
