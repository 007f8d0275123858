// SPDX-License-Identifier: Apache-2.0
// A pattern as one writes it in C++, as text: "both<causal, either<local<2>, bigbird<4, 1>>>". The
// sizes are those that pattern_text.cpp was compiled for. Errors: config (not a pattern),
// unsupported (another size).
#pragma once

#include "deepseek/pattern/any_pattern.hpp"

#include <functional>
#include <string>

namespace run_op {

namespace ds = deepseek;

// A pattern that is made of tensors of the case ("mask", "documents", ...), by its name; an empty
// function where the name is none.
using made_of_tensors = std::function<std::function<ds::any_pattern()>(const std::string& name)>;

ds::any_pattern pattern_of_text(const std::string& text, const ds::pattern_key& key,
                                const made_of_tensors& tables);

}  // namespace run_op
