// SPDX-License-Identifier: Apache-2.0
// The simulated device with memory of its own: a kernel reads and writes what tensors own; what
// stands on the host's stack it cannot reach, as on a GPU.
#include "simulation/device.hpp"
#include "support/report.hpp"

#include <doctest/doctest.h>

#include <csignal>

#include <sys/wait.h>
#include <unistd.h>

namespace ds = deepseek;

namespace {

struct add_one {
  static constexpr int threads = 32;
  const int* from;
  int* to;
  ds::index_t blocks() const { return 1; }
  template <class Block>
  void operator()(const Block& block) const {
    if (block.rank() == 0) *to = *from + 1;
  }
};

// The signal that ends a process which launches it; 0: it ends by itself.
int signal_of(const int* from, int* to) {
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);
    const simulation::basic_device<ds::device> b;
    b.launch(add_one{from, to});
    _exit(b.read(to) == b.read(from) + 1 ? 0 : 1);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK((WIFSIGNALED(status) || WEXITSTATUS(status) == 0));
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

}  // namespace

TEST_CASE("simulation: the host's stack is closed to kernels") {
  if (DEEPSEEK_ASAN) {
    support::skip("the address sanitizer keeps its own stacks");
    return;
  }
  const ds::tensor<int, ds::device, 2> made;
  int* const owned = const_cast<int*>(made.data());
  CHECK(signal_of(owned, owned + 1) == 0);
  int local[2] = {4, 0};
  CHECK(signal_of(local, owned) == SIGSEGV);
  CHECK(signal_of(owned, local + 1) == SIGSEGV);
}
