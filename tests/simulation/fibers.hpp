// SPDX-License-Identifier: Apache-2.0
// Fibers for the simulated device: a stack each, switched by Boost.Context, told to the address
// sanitizer. A fiber runs its body until it ends or pauses; resume() goes on with it.
#pragma once

#include "deepseek/config.hpp"

#include <cstddef>
#include <memory>
#include <vector>

#include <boost/context/detail/fcontext.hpp>
#if DEEPSEEK_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace simulation {

class fiber {
 public:
  using body = void (*)(void*);

  void start(body f, void* with) {
    if (!stack_) stack_.reset(new std::byte[stack_bytes]);
    body_ = f;
    with_ = with;
    ended_ = false;
    context_ =
        boost::context::detail::make_fcontext(stack_.get() + stack_bytes, stack_bytes, &enter);
  }
  bool ended() const { return ended_; }
  void resume() {
#if DEEPSEEK_ASAN
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, stack_.get(), stack_bytes);
#endif
    const auto back = boost::context::detail::jump_fcontext(context_, this);
    context_ = back.fctx;
#if DEEPSEEK_ASAN
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
  }
  void pause() {
#if DEEPSEEK_ASAN
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(ended_ ? nullptr : &fake, caller_stack_, caller_bytes_);
#endif
    const auto back = boost::context::detail::jump_fcontext(caller_, nullptr);
    caller_ = back.fctx;
#if DEEPSEEK_ASAN
    __sanitizer_finish_switch_fiber(fake, &caller_stack_, &caller_bytes_);
#endif
  }

 private:
  static constexpr std::size_t stack_bytes = std::size_t{64} << 10;

  static void enter(boost::context::detail::transfer_t from) {
    fiber& self = *static_cast<fiber*>(from.data);
    self.caller_ = from.fctx;
#if DEEPSEEK_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &self.caller_stack_, &self.caller_bytes_);
#endif
    self.body_(self.with_);
    self.ended_ = true;
    self.pause();
  }

  std::unique_ptr<std::byte[]> stack_;
  body body_ = nullptr;
  void* with_ = nullptr;
  bool ended_ = false;
  boost::context::detail::fcontext_t context_ = nullptr, caller_ = nullptr;
#if DEEPSEEK_ASAN
  const void* caller_stack_ = nullptr;
  std::size_t caller_bytes_ = 0;
#endif
};

}  // namespace simulation
