// SPDX-License-Identifier: Apache-2.0
// The maps of hyper-connections, masks of pruned weights, updates and sums of lists of tensors; see
// tests/guards/cuda_kernels.py.
#include "cuda/kernels/arguments.cuh"

template <class T>
void maps(const ds::cuda& b, const matrix<T>& mu, const row<T>& base, const batch<T>& mix) {
  const ds::hyper_projection in{mu, base, base};
  const ds::hyper_map_views all{mu, mu, mix};
  ds::ops::hyper_maps(b, in, all, ds::sinkhorn_spec{});
  ds::ops::hyper_maps_backward(b, in, all, ds::hyper_projection{mu, base, base},
                               ds::sinkhorn_spec{});
  ds::ops::hyper_maps(b, in, ds::hyper_map_views{mu}, ds::sinkhorn_spec{});
  ds::ops::sinkhorn(b, mix, mix, ds::sinkhorn_spec{});
  ds::ops::sinkhorn_backward(b, mix, mix, mix, ds::sinkhorn_spec{});
}
template void maps(const ds::cuda&, const matrix<float>&, const row<float>&, const batch<float>&);
template void maps(const ds::cuda&, const matrix<ds::bf16>&, const row<ds::bf16>&,
                   const batch<ds::bf16>&);

template <class T>
void lists(const ds::cuda& b, const matrix<T>& w, const matrix<std::uint8_t>& mask,
           const indices& first) {
  ds::ops::n_of_m_mask(b, w, mask);
  ds::ops::apply_mask(b, mask, w);
  ds::ops::place_rows(b, w, first, w);
  ds::ops::positions(b, ds::as_const(first), first, first);
  ds::ops::update_all(b, std::span<const ds::update_item<T, float, ds::device, 2>>{},
                      ds::adamw_step{});
  ds::ops::update_all(b, std::span<const ds::update_item<T, float, ds::device, 1>>{},
                      ds::sgd_step{});
  ds::ops::update_all(b, std::span<const ds::update_item<T, float, ds::device, 3>>{},
                      ds::amf_step{});
  (void)ds::ops::sum_of_squares_all(b, std::span<const ds::view<const T, ds::device, ds::dyn>>{});
}
template void lists(const ds::cuda&, const matrix<float>&, const matrix<std::uint8_t>&,
                    const indices&);
template void lists(const ds::cuda&, const matrix<ds::bf16>&, const matrix<std::uint8_t>&,
                    const indices&);
