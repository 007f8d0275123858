// SPDX-License-Identifier: Apache-2.0
// This library as one of those that are compared: the ways that its documentation recommends, on
// ds::cpu with as many threads. One file each for products, experts, and the rest.
#pragma once

#include "library.hpp"

namespace peers {

ways ours(const linear_task& t, int threads);
ways ours(const product_task& t, int threads);
ways ours(const attention_task& t, int threads);
ways ours(const decode_task& t, int threads);
ways ours(const experts_task& t, int threads);
ways ours(const rows_task& t, int threads);
ways ours(const gate_task& t, int threads);

class our_library : public library {
 public:
  std::string name() const override { return "deepseek"; }
  std::string version() const override;
  ways offer(const linear_task& t, int threads) override { return ours(t, threads); }
  ways offer(const product_task& t, int threads) override { return ours(t, threads); }
  ways offer(const attention_task& t, int threads) override { return ours(t, threads); }
  ways offer(const decode_task& t, int threads) override { return ours(t, threads); }
  ways offer(const experts_task& t, int threads) override { return ours(t, threads); }
  ways offer(const rows_task& t, int threads) override { return ours(t, threads); }
  ways offer(const gate_task& t, int threads) override { return ours(t, threads); }
};

}  // namespace peers
