// SPDX-License-Identifier: Apache-2.0
// How far a result is from plain loops in double, on its first, middle and last rows:
// |got - want| / |want| over a row, the largest of them. Infinite where something is not a number.
#pragma once

#include "task.hpp"

namespace peers {

double error_of(const linear_task& t, const float* got);
double error_of(const product_task& t, const float* got);
double error_of(const attention_task& t, const float* got);
double error_of(const decode_task& t, const float* got);
double error_of(const experts_task& t, const float* got);  // of call 0
double error_of(const rows_task& t, const float* got);
double error_of(const gate_task& t, const float* got);

// What may be lost: sums of k float terms, and what rounding to the type leaves of a row.
double allowed(const linear_task& t);
double allowed(const product_task& t);
double allowed(const attention_task& t);
double allowed(const decode_task& t);
double allowed(const experts_task& t);
double allowed(const rows_task& t);
double allowed(const gate_task& t);

}  // namespace peers
