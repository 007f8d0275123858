// SPDX-License-Identifier: Apache-2.0
#include "answers.hpp"

answers first_answers() {
  return ask();
}
