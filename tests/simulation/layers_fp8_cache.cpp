// SPDX-License-Identifier: Apache-2.0
// The tests of this layer on the device: as_cpu.hpp.
#include "layers/fp8_cache.cpp"
