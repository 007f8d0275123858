// SPDX-License-Identifier: Apache-2.0
// run_op: what a mixture of experts is made of: gate, plan, permute, combine, balance loss.
#include "run_op/op_rows.hpp"

#include "deepseek/ops/balance_loss.hpp"

namespace run_op {
namespace {

// The library's gate is the softmax gate without groups and without a selection bias.
void require_softmax_gate(op_case& in, index_t experts) {
  const std::string score = in.word("score", "softmax");
  ds::require(score == "softmax" || score == "sigmoid", error_code::config, "gate: score is ",
              ds::escaped(score), "; write softmax or sigmoid");
  ds::require(score == "softmax", error_code::unsupported,
              "gate: this version has no sigmoid gate; supported is score softmax");
  const index_t groups = in.integer("groups", 1), top_groups = in.integer("top_groups", groups);
  ds::require(groups >= 1 && experts % groups == 0 && top_groups >= 1 && top_groups <= groups,
              error_code::config, "gate: groups ", groups, " and top_groups ", top_groups,
              " do not fit ", experts, " experts; groups divides experts, top_groups <= groups");
  ds::require(groups == top_groups, error_code::unsupported,
              "gate: this version chooses among all ", "experts, not from ", top_groups, " of ",
              groups, " groups; supported is groups 1");
  const auto bias = in.read_f64<1>("bias");
  ds::require(bias.extent(0) == experts, error_code::shape_mismatch, "gate: bias",
              ds::shape_string(bias.view()), " for ", experts, " experts; pass one for each");
  for (index_t e = 0; e < experts; ++e) {
    ds::require(bias.data()[e] == 0, error_code::unsupported, "gate: bias[", e, "] is ",
                bias.data()[e],
                "; this version has no selection bias; supported is a bias of zeros");
  }
}

index_t read_choices(op_case& in, index_t most) {
  const index_t k = in.integer("top_k");
  ds::require(k >= 0 && k <= most, error_code::config, in.op(), ": top_k is ", k,
              "; write a number from 0 to ", most);
  return k;
}

struct gate {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x"), w = in.read<T, 2>("w");
    require_softmax_gate(in, w.extent(0));
    const index_t tokens = x.extent(0), k = read_choices(in, w.extent(0));
    array<ds::accumulate_t<T>, 2> scores({tokens, w.extent(0)}), weights({tokens, k});
    array<std::int32_t, 2> ids({tokens, k});
    ds::ops::gemm(b, x, ds::transposed(w.view()), scores);
    const auto norm = in.flag("norm", false) ? ds::renormalize::yes : ds::renormalize::no;
    ds::ops::softmax_gate(b, scores, ds::gate_outputs{weights, ids}, norm);
    ds::ops::scale(b, in.number("scale", 1), weights);
    out.add("out_idx", ids);
    out.add("out", weights);
  }
};

// From logits [n, E] and the gradient of the weights [n, K] to the gradient of the logits.
struct gate_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    using A = ds::accumulate_t<T>;
    auto scores = in.read<A, 2>("logits");
    const auto dweights = in.read<A, 2>("dout");
    ds::require(dweights.extent(1) <= scores.extent(1), error_code::shape_mismatch,
                "gate_backward: dout", ds::shape_string(dweights.view()), " is wider than logits",
                ds::shape_string(scores.view()), "; pass dout[n, top_k]");
    auto weights = like(dweights);
    auto ids = like<std::int32_t>(dweights);
    auto dlogits = like(scores);
    const auto norm = in.flag("norm", false) ? ds::renormalize::yes : ds::renormalize::no;
    ds::ops::softmax_gate(b, scores, ds::gate_outputs{weights, ids}, norm);
    ds::ops::softmax_gate_backward(b, ds::gate_saved{scores, weights, ids}, dweights, dlogits,
                                   norm);
    out.add("dlogits", dlogits);
  }
};

struct expert_plan {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    constexpr index_t most = index_t{1} << 24;
    const auto ids = in.read_ids<2>("ids");
    const index_t experts = in.integer("experts");
    ds::require(experts >= 0 && experts <= most, error_code::config, "expert_plan: experts is ",
                experts, "; write a number from 0 to ", most);
    array<std::int32_t, 1> offsets({experts + 1}), source({ids.size()});
    auto slot = like(ids);
    ds::ops::expert_plan(b, ids, experts, ds::expert_plan_views{offsets, source, slot});
    out.add("out_offsets", offsets);
    out.add("out_source", source);
    out.add("out_slot", slot);
  }
};

struct permute {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x");
    const auto source = in.read_ids<1>("source");
    array<T, 2> y({source.extent(0), x.extent(1)});
    ds::ops::permute(b, x, source, in.integer("top_k"), y);
    out.add("out", y);
  }
};
struct permute_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto dout = in.read<T, 2>("dout");
    const auto slot = in.read_ids<2>("slot");
    array<T, 2> dx({slot.extent(0), dout.extent(1)});
    ds::ops::permute_backward(b, dout, slot, dx);
    out.add("dx", dx);
  }
};

struct combine {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x"), weights = in.read<T, 2>("weights");
    const auto slot = in.read_ids<2>("slot");
    array<T, 2> y({slot.extent(0), x.extent(1)});
    ds::ops::combine(b, x, ds::combine_by{weights, slot}, y);
    out.add("out", y);
  }
};
struct combine_backward {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x"), weights = in.read<T, 2>("weights");
    const auto dout = in.read<T, 2>("dout");
    const auto slot = in.read_ids<2>("slot");
    auto dx = like(x), dweights = like(weights);
    ds::ops::combine_backward(b, ds::combine_inputs{x, weights, slot}, dout,
                              ds::combine_gradients{dx, dweights});
    out.add("dx", dx);
    out.add("dweights", dweights);
  }
};

struct balance_loss {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    using A = ds::accumulate_t<T>;
    const auto probabilities = in.read<A, 2>("x");
    const auto offsets = in.read_ids<1>("offsets");
    const double alpha = in.number("alpha");
    array<double, 1> loss({1});
    auto gradient = like(probabilities);
    loss.data()[0] = ds::ops::balance_loss(b, probabilities, offsets, alpha);
    ds::ops::balance_loss_gradient(b, offsets, gradient, alpha);
    array<float, 1> load({probabilities.extent(1)});
    ds::ops::expert_load(b, offsets, load);
    out.add("out", loss);
    out.add("dx", gradient);
    out.add("out_load", load);
  }
};

}  // namespace

std::span<const op_row> expert_rows() {
  static constexpr op_row rows[] = {row_of<gate>("gate"),
                                    row_of<gate_backward>("gate_backward"),
                                    row_of<expert_plan>("expert_plan"),
                                    row_of<permute>("permute"),
                                    row_of<permute_backward>("permute_backward"),
                                    row_of<combine>("combine"),
                                    row_of<combine_backward>("combine_backward"),
                                    row_of<balance_loss>("balance_loss")};
  return rows;
}

}  // namespace run_op
