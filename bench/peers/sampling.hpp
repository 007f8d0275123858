// SPDX-License-Identifier: Apache-2.0
// Times the ways of a row against each other: one sample of each in turn, again and again, so that
// a change of the machine meets all of them. Every sample stands between two measurements of the
// limits of the machine on as many threads (limits.hpp), and its share is of the limit of that
// moment.
#pragma once

#include "library.hpp"
#include "support/cases.hpp"

namespace peers {

struct sampling {
  int samples = 7;        // of each way
  double seconds = 0.01;  // the least time of one
};

struct sample {
  double seconds;  // of one call
  double share;    // time that the slower of the two limits allows, over the time taken
  double steady;   // smaller over larger of the limit before and after
};

// result[i] are the samples of all[i].
std::vector<std::vector<sample>> interleaved(const std::vector<way>& all, const bench::work& cost,
                                             int threads, const sampling& how);

}  // namespace peers
