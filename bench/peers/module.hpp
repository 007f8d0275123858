// SPDX-License-Identifier: Apache-2.0
// What the files of the peers share: a way from a struct with run(call) and result(), copies of
// weights, and the export of a module.
#pragma once

#include "library.hpp"

#include <algorithm>
#include <memory>

namespace peers {

template <class Case, class Task, class... More>
way way_of(const std::string& name, const Task& task, int threads, const More&... more) {
  const auto at = std::make_shared<Case>(task, threads, more...);
  return {name, [at](index_t call) { at->run(call); }, [at] { return at->result(); }, {}, 0};
}

template <class T>
std::vector<T> repeated(const T* one, index_t size, index_t copies) {
  std::vector<T> all(static_cast<std::size_t>(size * copies));
  for (index_t c = 0; c < copies; ++c) std::copy_n(one, size, all.data() + c * size);
  return all;
}
template <class T>
const T* copy_of(const std::vector<T>& all, index_t size, index_t call) {
  return all.data() + call % (static_cast<index_t>(all.size()) / size) * size;
}

}  // namespace peers

#define DEEPSEEK_PEER(type)                                                          \
  extern "C" __attribute__((visibility("default"))) peers::library* peer_library() { \
    static type it;                                                                  \
    return &it;                                                                      \
  }
