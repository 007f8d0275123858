// SPDX-License-Identifier: Apache-2.0
// hyper_read and hyper_write on the device: a thread for each element of a row, and a warp or a
// block for each token where maps get gradients (a product of two rows each, unfused); see
// ops/hyper_streams.hpp.
#pragma once

#include "deepseek/backend/cuda/elementwise.hpp"
#include "deepseek/backend/rows/hyper_connection.hpp"

namespace deepseek {

namespace cuda_hyper_streams {

template <class V>
DEEPSEEK_HOST_DEVICE auto read_token(const V& v, index_t t) {
  return hyper_read_views{slice(v.streams, t), slice(v.pre, t)};
}
template <class V>
DEEPSEEK_HOST_DEVICE auto write_token(const V& v, index_t t) {
  return hyper_write_views{slice(v.streams, t), slice(v.y, t), slice(v.post, t), slice(v.mix, t)};
}

template <class X, class Pre, class Y>
struct read {
  X streams;
  Pre pre;
  Y x;
  DEEPSEEK_HOST_DEVICE void operator()(const lone_worker& worker, index_t t) const {
    hyper_read_row(worker, slice(streams, t), slice(pre, t), slice(x, t));
  }
};
template <class In, class DX, class Out>
struct read_backward {
  In in;
  DX dx;
  Out out;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t t) const {
    hyper_read_backward_row(team, read_token(in, t), slice(dx, t), read_token(out, t));
  }
};

template <class In, class Out>
struct write {
  In in;
  Out out;
  DEEPSEEK_HOST_DEVICE void operator()(const lone_worker& worker, index_t t) const {
    hyper_write_row(worker, write_token(in, t), slice(out, t));
  }
};
template <class In, class DOut, class Out>
struct map_gradients {
  In in;
  DOut dout;
  Out out;
  template <class Team>
  DEEPSEEK_HOST_DEVICE void operator()(const Team& team, index_t t) const {
    hyper_write_map_gradients(team, write_token(in, t), slice(dout, t), write_token(out, t));
  }
};
template <class In, class DOut, class Out>
struct row_gradients {
  In in;
  DOut dout;
  Out out;
  DEEPSEEK_HOST_DEVICE void operator()(const lone_worker& worker, index_t t) const {
    hyper_write_row_gradients(worker, write_token(in, t), slice(dout, t), write_token(out, t));
  }
};

}  // namespace cuda_hyper_streams

template <DeviceBackend B, class X, class Pre, class Y>
void hyper_read_impl(const B& b, const X& streams, const Pre& pre, const Y& x) {
  run_each_row_element(b, x.extent(0), x.extent(1),
                       cuda_hyper_streams::read<X, Pre, Y>{streams, pre, x});
}

template <DeviceBackend B, class In, class DX, class Out>
void hyper_read_backward_impl(const B& b, const In& in, const DX& dx, const Out& out) {
  run_each_row(b, dx.extent(0), dx.extent(1),
               cuda_hyper_streams::read_backward<In, DX, Out>{in, dx, out});
}

template <DeviceBackend B, class In, class Out>
void hyper_write_impl(const B& b, const In& in, const Out& out) {
  run_each_row_element(b, out.extent(0), out.extent(2),
                       cuda_hyper_streams::write<In, Out>{in, out});
}

template <DeviceBackend B, class In, class DOut, class Out>
void hyper_write_backward_impl(const B& b, const In& in, const DOut& dout, const Out& out) {
  run_each_row(b, dout.extent(0), dout.extent(2),
               cuda_hyper_streams::map_gradients<In, DOut, Out>{in, dout, out});
  run_each_row_element(b, dout.extent(0), dout.extent(2),
                       cuda_hyper_streams::row_gradients<In, DOut, Out>{in, dout, out});
}

}  // namespace deepseek
