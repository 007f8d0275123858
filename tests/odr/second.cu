// SPDX-License-Identifier: Apache-2.0
#include "answers.hpp"

answers second_answers() {
  return ask();
}
