// SPDX-License-Identifier: Apache-2.0
// Several tasks, one model: how much each loss counts. A weighting is asked once a step with the
// tasks' losses and says by what each task's gradient is multiplied:
//   fixed_task_weights    what was written
//   uncertainty_weights   learned: ops/uncertainty_weights.hpp, moved by plain gradient descent
// Use the weights as `scale` of the tasks' gradients (cross_entropy_gradient_spec::scale ...), or
// scale the outputs' gradients before backward; gradients of shared layers then add up.
// Errors: invalid_argument (numbers of tasks and losses that differ, a weight or lr that is
// negative or not finite), nonfinite (a loss).
#pragma once

#include "deepseek/core/tensor.hpp"
#include "deepseek/ops/uncertainty_weights.hpp"

#include <cmath>
#include <vector>

namespace deepseek {

struct task_weighting {
  double total = 0;
  std::vector<double> weights;
};

namespace detail {
inline void require_tasks(const std::vector<double>& losses, std::size_t tasks) {
  require(losses.size() == tasks, error_code::invalid_argument, "multi_task: ", losses.size(),
          " losses for ", tasks, " tasks; pass one loss a task");
  for (std::size_t k = 0; k < tasks; ++k) {
    require(std::isfinite(losses[k]), error_code::nonfinite, "multi_task: loss ", k, " is ",
            losses[k], "; the weights were left as they are");
  }
}
inline void require_task_number(const char* what, double value) {
  require(std::isfinite(value) && value >= 0, error_code::invalid_argument, "multi_task: ", what,
          " is ", value, "; pass a finite number >= 0");
}
}  // namespace detail

class fixed_task_weights {
 public:
  explicit fixed_task_weights(std::vector<double> weights) : weights_(std::move(weights)) {
    for (const double w : weights_) detail::require_task_number("a weight", w);
  }

  template <class B>
  task_weighting operator()(const B&, const std::vector<double>& losses) const {
    detail::require_tasks(losses, weights_.size());
    task_weighting out{0, weights_};
    for (std::size_t k = 0; k < losses.size(); ++k) out.total += weights_[k] * losses[k];
    return out;
  }

 private:
  std::vector<double> weights_;
};

enum class task_loss { likelihood, squared_error };

class uncertainty_weights {
 public:
  explicit uncertainty_weights(const std::vector<task_loss>& tasks, double lr = 0.01)
      : s_({static_cast<index_t>(tasks.size())}),
        factors_({static_cast<index_t>(tasks.size())}),
        lr_(lr) {
    detail::require_task_number("lr", lr);
    for (std::size_t k = 0; k < tasks.size(); ++k) {
      factors_.data()[k] = tasks[k] == task_loss::likelihood ? 1 : 0.5;
    }
  }

  // The weights for these losses; then s moves by lr times its gradient.
  template <class B>
  task_weighting operator()(const B& b, const std::vector<double>& losses) {
    const index_t n = s_.size();
    detail::require_tasks(losses, static_cast<std::size_t>(n));
    task_weighting out{0, std::vector<double>(losses.size())};
    list ds({n});
    out.total = ops::uncertainty_weights(
        b,
        task_inputs{view<const double, host, dyn>(losses.data(), {n}), s_.view(), factors_.view()},
        task_outputs{view<double, host, dyn>(out.weights.data(), {n}), ds.view()});
    for (index_t k = 0; k < n; ++k) s_.data()[k] -= lr_ * ds.data()[k];
    return out;
  }
  const double* log_variances() const { return s_.data(); }

 private:
  using list = tensor<double, host, dyn>;
  list s_, factors_;
  double lr_;
};

}  // namespace deepseek
