// SPDX-License-Identifier: Apache-2.0
// What tests include of other projects, precompiled once for all of them (tests/CMakeLists.txt). No
// header of ours: a change of one then compiles only the tests that include it.
#pragma once

#include <doctest/doctest.h>
#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>
