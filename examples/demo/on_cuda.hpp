// SPDX-License-Identifier: Apache-2.0
// Training on a GPU, in a translation unit of its own: what nvcc compiles never sees ds::cpu.
#pragma once

#include <functional>

#include "corpus.hpp"
#include "net.hpp"

namespace demo {

using host_parameters = ds::parameters<net, float, ds::host>;

// Trains from the numbers in p, which it writes back at the end; note(result) after every step.
// A build without CUDA throws unsupported.
void train_on_cuda(const training_settings& settings, const documents& text, host_parameters& p,
                   const std::function<void(const ds::train_result&)>& note);

}  // namespace demo
