// SPDX-License-Identifier: Apache-2.0
// Routers' losses and noise, set losses, sinks, compression, streams, masks; see
// tests/guards/cuda_kernels.py.
#include "cuda/kernels/arguments.cuh"

using tables = matrix<std::int32_t>;

template <class T>
void losses(const ds::cuda& b, const matrix<T>& x, const tables& ids) {
  (void)ds::ops::balance_loss(b, ds::balance_inputs{x, ids}, ds::balance_spec<ds::device>{});
  ds::ops::balance_loss_backward(b, ds::balance_inputs{x, ids}, x, ds::balance_spec<ds::device>{});
  (void)ds::ops::router_z_loss(b, x, 1);
  ds::ops::router_z_loss_backward(b, x, x, 1);
  (void)ds::ops::importance_loss(b, ds::importance_inputs{x, ids}, 4, 1);
  (void)ds::ops::load_loss(b, ds::load_views{x, x, x}, 2, 1);
  ds::ops::load_loss_backward(b, ds::load_views{x, x, x}, ds::load_views{x, x, x}, 2, 1);
  ds::ops::jitter(b, x, x, 0.1, ds::routing_draw{});
  ds::ops::noisy_logits(b, ds::noisy_inputs{x, x}, x, ds::noise_spec{});
  (void)ds::ops::contrastive(b, x);
  ds::ops::contrastive_gradient(b, x, x);
  ds::ops::fake_quantize(b, ds::fake_inputs{x, x}, ds::fake_grid{}, x);
  ds::ops::fake_quantize_backward(b, ds::fake_inputs{x, x}, ds::fake_grid{}, x,
                                  ds::fake_gradients{x, x});
}
template void losses(const ds::cuda&, const matrix<ds::bf16>&, const tables&);

template <class T>
void parts(const ds::cuda& b, const matrix<T>& x, const batch<T>& t, const row<T>& w,
           const matrix<float>& lse) {
  ds::ops::attention_sink(b, w, ds::attention_outputs{t, lse});
  ds::ops::attention_sink_backward(b, w, ds::attention_outputs{t, lse}, t, w);
  const ds::compress_spec<ds::device> spec{.ratio = 4};
  ds::ops::compress(b, ds::compress_views{x, x, x}, x, spec);
  ds::ops::compress_backward(b, ds::compress_views{x, x, x}, x, ds::compress_views{x, x, x}, spec);
  ds::ops::hyper_read(b, t, x, x);
  ds::ops::hyper_read_backward(b, ds::hyper_read_views{t, x}, x, ds::hyper_read_views{t, x});
  ds::ops::hyper_write(b, ds::hyper_write_views{t, x, x, t}, t);
  ds::ops::hyper_write_backward(b, ds::hyper_write_views{t, x, x, t}, t,
                                ds::hyper_write_views{t, x, x, t});
  ds::ops::head_mask(b, x, x);
  ds::ops::sum_heads(b, t, x);
  ds::ops::attention_weights(b, ds::attention_weights_inputs{t, t, lse}, x,
                             ds::attention_spec<ds::causal, ds::device>{});
}
template void parts(const ds::cuda&, const matrix<ds::bf16>&, const batch<ds::bf16>&,
                    const row<ds::bf16>&, const matrix<float>&);
