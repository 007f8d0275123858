// SPDX-License-Identifier: Apache-2.0
// The fp32 side of the demo's measurements, in a translation unit of its own.
#include "full.hpp"

#include "evaluate.hpp"

namespace demo {

using packed = ds::packed<ds::cpu>;  // the same numbers in the order of the kernels

double held_bits_per_byte(const ds::cpu& b, const model& m, const corpus& text,
                          std::size_t stride) {
  return bits_per_byte(b, m, text.held, stride);
}
speed full_speed(const ds::cpu& b, const model& m, const corpus& text) {
  return measure_speed(b, ds::quantize<packed>(b, m), text.held.bytes);
}
speculation full_speculation(const ds::cpu& b, const model& m, std::string_view prompt) {
  return measure_speculation(b, ds::quantize<packed>(b, m), prompt);
}

}  // namespace demo
