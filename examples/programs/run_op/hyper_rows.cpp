// SPDX-License-Identifier: Apache-2.0
// run_op: hyper-connections: sinkhorn, the maps, reading and writing streams, with gradients.
#include "run_op/op_rows.hpp"

namespace run_op {
namespace {

ds::sinkhorn_spec spec_of(op_case& in) {
  const ds::sinkhorn_spec usual;
  return {in.integer("iterations", usual.iterations), in.number("eps", usual.eps)};
}

struct sinkhorn {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 3>("x");
    auto y = like(x);
    ds::ops::sinkhorn(b, x, y, spec_of(in));
    out.add("out", y);
  }
};
struct sinkhorn_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 3>("x"), dout = in.read<T, 3>("dout");
    auto dx = like(x);
    ds::ops::sinkhorn_backward(b, x, dout, dx, spec_of(in));
    out.add("dx", dx);
  }
};

struct hyper_maps {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto mu = in.read<T, 2>("mu");
    const auto base = in.read<T, 1>("base"), scale = in.read<T, 1>("scale");
    const index_t n = in.integer("streams"), tokens = mu.extent(0);
    ds::require(n > 0 && n <= mu.extent(1) && (2 + n) * n == mu.extent(1),
                error_code::shape_mismatch, "hyper_maps: mu", ds::shape_string(mu.view()),
                " is not of ", n, " streams; pass mu[tokens, (2 + streams) streams]");
    array<T, 2> pre({tokens, n}), post({tokens, n});
    array<T, 3> mix({tokens, n, n});
    ds::ops::hyper_maps(b, ds::hyper_projection{mu, base, scale},
                        ds::hyper_map_views{pre, post, mix}, spec_of(in));
    out.add("out_pre", pre);
    out.add("out_post", post);
    out.add("out_mix", mix);
  }
};
struct hyper_maps_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto mu = in.read<T, 2>("mu"), dpre = in.read<T, 2>("dpre"),
               dpost = in.read<T, 2>("dpost");
    const auto base = in.read<T, 1>("base"), scale = in.read<T, 1>("scale");
    const auto dmix = in.read<T, 3>("dmix");
    auto dmu = like(mu);
    auto dbase = like(base), dscale = like(scale);
    ds::ops::hyper_maps_backward(b, ds::hyper_projection{mu, base, scale},
                                 ds::hyper_map_views{dpre, dpost, dmix},
                                 ds::hyper_projection{dmu, dbase, dscale}, spec_of(in));
    out.add("dmu", dmu);
    out.add("dbase", dbase);
    out.add("dscale", dscale);
  }
};

struct hyper_read {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 3>("x");
    const auto pre = in.read<T, 2>("pre");
    array<T, 2> y({x.extent(0), x.extent(2)});
    ds::ops::hyper_read(b, x, pre, y);
    out.add("out", y);
  }
};
struct hyper_read_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 3>("x");
    const auto pre = in.read<T, 2>("pre"), dout = in.read<T, 2>("dout");
    auto dx = like(x);
    auto dpre = like(pre);
    ds::ops::hyper_read_backward(b, ds::hyper_read_views{x, pre}, dout,
                                 ds::hyper_read_views{dx, dpre});
    out.add("dx", dx);
    out.add("dpre", dpre);
  }
};

struct hyper_write {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 3>("x"), mix = in.read<T, 3>("mix");
    const auto y = in.read<T, 2>("y"), post = in.read<T, 2>("post");
    auto to = like(x);
    ds::ops::hyper_write(b, ds::hyper_write_views{x, y, post, mix}, to);
    out.add("out", to);
  }
};
struct hyper_write_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 3>("x"), mix = in.read<T, 3>("mix"), dout = in.read<T, 3>("dout");
    const auto y = in.read<T, 2>("y"), post = in.read<T, 2>("post");
    auto dx = like(x), dmix = like(mix);
    auto dy = like(y), dpost = like(post);
    ds::ops::hyper_write_backward(b, ds::hyper_write_views{x, y, post, mix}, dout,
                                  ds::hyper_write_views{dx, dy, dpost, dmix});
    out.add("dx", dx);
    out.add("dy", dy);
    out.add("dpost", dpost);
    out.add("dmix", dmix);
  }
};

}  // namespace

std::span<const op_row> hyper_rows() {
  static constexpr op_row rows[] = {
      row_of<sinkhorn>("sinkhorn"),       row_of<sinkhorn_backward>("sinkhorn_backward"),
      row_of<hyper_maps>("hyper_maps"),   row_of<hyper_maps_backward>("hyper_maps_backward"),
      row_of<hyper_read>("hyper_read"),   row_of<hyper_read_backward>("hyper_read_backward"),
      row_of<hyper_write>("hyper_write"), row_of<hyper_write_backward>("hyper_write_backward")};
  return rows;
}

}  // namespace run_op
