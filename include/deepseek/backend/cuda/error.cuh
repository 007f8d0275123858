// SPDX-License-Identifier: Apache-2.0
// CUDA's errors in our sentences: what was asked, of which device, what to do. A code after which
// the process's context is lost (an illegal address, a failed assertion of the hardware) becomes
// device_fatal; memory that is not there out_of_memory; anything else device.
#pragma once

#include "deepseek/core/error.hpp"

#include <cuda_runtime.h>

namespace deepseek {

inline bool loses_device(cudaError_t status) {
  switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
    case cudaErrorUnknown:
      return true;
    default:
      return false;
  }
}

inline error_code code_of(cudaError_t status) {
  if (status == cudaErrorMemoryAllocation) return error_code::out_of_memory;
  return loses_device(status) ? error_code::device_fatal : error_code::device;
}

inline const char* advice_for(cudaError_t status) {
  switch (status) {
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice:
      return "; install a driver that fits this toolkit, or run on ds::cpu";
    case cudaErrorInvalidDevice:
      return "; pass the number of a device that is there";
    case cudaErrorNoKernelImageForDevice:
      return "; compile for this device's architecture (CMAKE_CUDA_ARCHITECTURES)";
    case cudaErrorMemoryAllocation:
      return "; use a smaller model or batch, or raise cuda_config.memory_limit";
    default:
      return loses_device(status) ? "; the device refuses all further work of this process" : "";
  }
}

// `doing` says what was asked, `device` of whom (-1: of none).
inline void require_cuda(cudaError_t status, std::string_view doing, int device = -1) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();  // a lasting error stays, any other is taken off
  std::ostringstream where;
  if (device >= 0) where << " on device " << device;
  fail(code_of(status), "cuda: ", doing, where.str(), ": ", cudaGetErrorName(status), ", ",
       cudaGetErrorString(status), advice_for(status));
}

}  // namespace deepseek
