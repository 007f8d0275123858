// SPDX-License-Identifier: Apache-2.0
// run_op: losses beyond cross entropy, what joins them, and the masks of pruned weights.
#include "run_op/op_rows.hpp"

namespace run_op {
namespace {

array<double, 1> one(double value) {
  array<double, 1> out({1});
  out.data()[0] = value;
  return out;
}

struct distillation {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto student = in.read<T, 2>("student"), teacher = in.read<T, 2>("teacher");
    const ds::distillation_spec spec{
        .temperature = in.number("temperature", 2),
        .hard = in.number("hard", 0),
        .ignore = static_cast<std::int32_t>(in.integer("ignore", -100))};
    if (in.gives("targets")) {
      const auto targets = in.read_ids<1>("targets");
      write(b, ds::distillation_inputs{student, teacher, targets}, spec, out);
    } else {
      write(b, ds::distillation_inputs{student, teacher, ds::none{}}, spec, out);
    }
  }
  template <class Inputs>
  static void write(const auto& b, const Inputs& given, const ds::distillation_spec& spec,
                    results& out) {
    auto dstudent = like(given.student);
    const auto r = ds::ops::distillation(b, given, spec);
    ds::ops::distillation_gradient(b, given, dstudent, {.of = spec});
    out.add("out", one(r.mean));
    out.add("out_hard", one(r.hard));
    out.add("out_soft", one(r.soft));
    out.add("dstudent", dstudent);
  }
};

struct contrastive {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto scores = in.read<T, 2>("scores");
    auto dscores = like(scores);
    out.add("out", one(ds::ops::contrastive(b, scores)));
    ds::ops::contrastive_gradient(b, scores, dscores);
    out.add("dscores", dscores);
  }
};

struct unit_rows {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x");
    auto y = like(x);
    array<ds::accumulate_t<T>, 1> norms({x.extent(0)});
    const ds::unit_outputs made{y, norms};
    ds::ops::unit_rows(b, x, made, in.number("eps", 1e-12));
    out.add("out", y);
    if (!in.gives("dout")) return;
    auto dx = like(x);
    ds::ops::unit_rows_backward(b, made, in.read<T, 2>("dout"), dx);
    out.add("dx", dx);
  }
};

struct preference {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto rewards = in.read<T, 1>("rewards");
    const auto pairs = in.read_ids<2>("pairs");
    const ds::preference_spec spec{.margin = in.number("margin", 0),
                                   .centering = in.number("centering", 0)};
    auto drewards = like(rewards);
    const auto r = ds::ops::preference(b, rewards, pairs, spec);
    ds::ops::preference_gradient(b, rewards, pairs, drewards, spec);
    out.add("out", one(r.mean));
    out.add("out_accuracy", one(r.accuracy));
    out.add("drewards", drewards);
  }
};

struct uncertainty_weights {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto losses = in.read_f64<1>("losses");
    const auto s = in.read<T, 1>("log_variances");
    auto weights = like<ds::accumulate_t<T>>(s), dlog_variances = like<ds::accumulate_t<T>>(s);
    out.add("out", one(ds::ops::uncertainty_weights(
                       b, ds::task_inputs{losses, s, in.read_f64<1>("factors")},
                       ds::task_outputs{weights, dlog_variances})));
    out.add("out_weights", weights);
    out.add("dlog_variances", dlog_variances);
  }
};

struct elastic_weights {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto w = in.read<T, 1>("w"), anchor = in.read<T, 1>("anchor");
    auto fisher = in.read<T, 1>("fisher");
    auto dw = like(w);
    const double lambda = in.number("lambda", 1);
    const ds::elastic_inputs given{w, anchor, fisher};
    out.add("out", one(ds::ops::elastic_penalty(b, given, lambda)));
    ds::ops::elastic_gradient(b, given, dw, {.lambda = lambda});
    out.add("dw", dw);
    ds::ops::fisher_update(b, dw, fisher,
                           {.decay = in.number("decay", 1), .factor = in.number("factor", 1)});
    out.add("out_fisher", fisher);
  }
};

struct apply_mask {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    auto w = in.read<T, 2>("x");
    ds::ops::apply_mask(b, in.read_mask<2>("mask"), w);
    out.add("out", w);
  }
};
struct n_of_m_mask {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto w = in.read<T, 2>("x");
    auto mask = like<std::uint8_t>(w);
    ds::ops::n_of_m_mask(b, w, mask, {.n = in.integer("n", 2), .m = in.integer("m", 4)});
    out.add("out", mask);
  }
};

}  // namespace

std::span<const op_row> loss_rows() {
  static constexpr op_row rows[] = {row_of<distillation>("distillation"),
                                    row_of<contrastive>("contrastive"),
                                    row_of<unit_rows>("unit_rows"),
                                    row_of<preference>("preference"),
                                    row_of<uncertainty_weights>("uncertainty_weights"),
                                    row_of<elastic_weights>("elastic_weights"),
                                    row_of<apply_mask>("apply_mask"),
                                    row_of<n_of_m_mask>("n_of_m_mask")};
  return rows;
}

}  // namespace run_op
