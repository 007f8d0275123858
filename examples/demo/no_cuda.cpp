// SPDX-License-Identifier: Apache-2.0
// In place of on_cuda.cu where CUDA is not built.
#include "on_cuda.hpp"

namespace demo {

void train_on_cuda(const training_settings&, const documents&, host_parameters&,
                   const std::function<void(const ds::train_result&)>&) {
  ds::fail(ds::error_code::unsupported,
           "demo: this build has no CUDA; build with make demo CUDA=1, or take --backend cpu");
}

}  // namespace demo
