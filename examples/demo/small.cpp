// SPDX-License-Identifier: Apache-2.0
// The int8 side of the demo, in a translation unit of its own: it compiles beside the training.
#include "small.hpp"

#include "evaluate.hpp"

namespace demo {

namespace {

// Typical inputs for the ranges of activations: windows of the training text.
model::calibration_type calibrate(const ds::cpu& b, const model& m, const corpus& text) {
  auto seen = m.calibration();
  batch work;
  for (std::uint32_t i = 0; i < 4; ++i) {
    draw_batch(text.train, 12345, i, 16, work);
    m.observe(b, work.input_view(), seen, {.sequences = work.sequences()});
  }
  return seen;
}

template <class Model>
std::string write(const ds::cpu& b, const Model& m, const sample_request& request) {
  const auto prompt = ids_of(request.prompt);
  std::string out;
  ds::generate(b, m, token_ids{prompt.data(), {static_cast<ds::index_t>(prompt.size())}},
               {.tokens = request.bytes,
                .sampling = {.temperature = 0.7, .top_p = 0.95, .seed = request.seed}},
               [&](std::int32_t token) { out += static_cast<char>(token); });
  return out;
}

}  // namespace

small_figures measure_small(const ds::cpu& b, const model& m, const corpus& text,
                            const sample_request& request) {
  const auto small = ds::quantize<ds::w8a8>(b, m, calibrate(b, m, text));
  return {bits_per_byte(b, small, text.held), ds::parameter_bytes(small.parameters()),
          measure_speed(b, small, text.held.bytes), measure_speculation(b, small, request.prompt),
          write(b, small, request)};
}

}  // namespace demo
