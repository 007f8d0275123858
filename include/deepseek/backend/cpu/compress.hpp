// SPDX-License-Identifier: Apache-2.0
// compress on the cpu: the reference's bodies, entries, phases and rows on all threads; see
// ops/compress.hpp. No number is written by two entries.
#pragma once

#include "deepseek/backend/cpu/context.hpp"
#include "deepseek/backend/cpu/fill.hpp"
#include "deepseek/backend/reference/compress.hpp"

namespace deepseek {

template <class In, class Y, class Spec>
void compress_impl(const cpu& b, const In& in, const Y& y, const Spec& spec) {
  compress_entries(b, in, y, spec, [&](index_t n, const auto& f) { b.parallel(n, f); });
}

template <class In, class DY, class Out, class Spec>
void compress_backward_impl(const cpu& b, const In& in, const DY& dy, const Out& out,
                            const Spec& spec) {
  compress_entries_backward(b, in, dy, out, spec,
                            [&](index_t n, const auto& f) { b.parallel(n, f); });
}

}  // namespace deepseek
