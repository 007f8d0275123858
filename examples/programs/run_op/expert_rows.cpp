// SPDX-License-Identifier: Apache-2.0
// run_op: what a mixture of experts is made of: gate, plan, permute, combine, balance loss.
#include "run_op/op_rows.hpp"

#include "deepseek/ops/balance_loss.hpp"
#include "deepseek/ops/noisy_logits.hpp"

namespace run_op {
namespace {

// score, groups, top_groups, scale, norm. Groups are ranked by their best for softmax, by the sum
// of their best two otherwise.
ds::gate_rule read_rule(op_case& in, index_t experts) {
  ds::gate_rule rule;
  const std::string score = in.word("score", "softmax");
  if (score != "softmax") {
    ds::require(score == "sigmoid" || score == "sqrt_softplus", error_code::config, in.op(),
                ": score is ", ds::escaped(score), "; write softmax, sigmoid or sqrt_softplus");
    rule.score = score == "sigmoid" ? ds::gate_score::sigmoid : ds::gate_score::sqrt_softplus;
    rule.group = ds::group_score::best_two;
  }
  rule.groups = in.integer("groups", 1);
  rule.top_groups = in.integer("top_groups", rule.groups);
  const index_t groups = rule.groups, top = rule.top_groups;
  ds::require(groups >= 1 && experts % groups == 0 && top >= 1 && top <= groups, error_code::config,
              in.op(), ": groups ", groups, " and top_groups ", top, " do not fit ", experts,
              " experts; groups divides experts, top_groups <= groups");
  rule.scale = in.number("scale", 1);
  rule.norm = in.flag("norm", false) ? ds::renormalize::yes : ds::renormalize::no;
  const std::string choice = in.word("choice", "top");
  ds::require(choice == "top" || choice == "all", error_code::config, in.op(), ": choice is ",
              ds::escaped(choice), "; write top or all");
  if (choice == "all") rule.choice = ds::gate_choice::all;
  return rule;
}

// The gate with the case's bias, in double, or without one.
void choose(const auto& b, op_case& in, auto& scores, auto& weights, auto& ids) {
  const ds::gate_rule rule = read_rule(in, scores.extent(1));
  const ds::gate_outputs out{weights, ids};
  if (in.gives("bias")) {
    const auto bias = in.read_f64<1>("bias");
    ds::ops::gate(b, scores, bias, out, rule);
  } else {
    ds::ops::gate(b, scores, ds::none{}, out, rule);
  }
}

index_t read_choices(op_case& in, index_t most) {
  const index_t k = in.integer("top_k");
  ds::require(k >= 0 && k <= most, error_code::config, in.op(), ": top_k is ", k,
              "; write a number from 0 to ", most);
  return k;
}

ds::routing_draw read_draw(op_case& in, std::uint32_t lane) {
  return {.seed = static_cast<std::uint64_t>(in.integer("seed", 0)),
          .step = static_cast<std::uint64_t>(in.integer("step", 0)),
          .site = static_cast<std::uint32_t>(in.integer("site", 0)),
          .lane = lane};
}

// What a router may do to its input and to its logits: jitter, noise of a second product w_noise,
// a first softmax with an offset behind it.
template <class X>
void jitter_input(const auto& b, op_case& in, X& x) {
  if (in.has("jitter")) ds::ops::jitter(b, x, x, in.number("jitter"), read_draw(in, 1));
}
template <class T, class X, class S>
void change_logits(const auto& b, op_case& in, const X& x, S& scores) {
  if (in.gives("w_noise")) {
    const auto w = in.read<T, 2>("w_noise");
    auto raw = like(scores);
    ds::ops::gemm(b, x, ds::transposed(w.view()), raw);
    ds::ops::noisy_logits(b, ds::noisy_inputs{scores, raw}, scores, {.draw = read_draw(in, 0)});
  }
  if (in.flag("double_softmax", false)) {
    auto first = like(scores);
    ds::ops::softmax(b, scores, first);
    ds::ops::copy(b, first, scores);
    if (in.gives("offset")) {
      auto offset = in.read<ds::accumulate_t<T>, 1>("offset");
      ds::require_extent(offset.view(), 0, scores.extent(1), "gate: offset");
      const ds::view<const ds::accumulate_t<T>, ds::host, ds::dyn, ds::dyn> rows(
          offset.data(), {scores.extent(0), scores.extent(1)}, {0, 1});
      ds::ops::add(b, rows, scores);
    }
  }
}

struct gate {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    auto x = in.read<T, 2>("x");
    const auto w = in.read<T, 2>("w");
    const index_t tokens = x.extent(0), k = read_choices(in, w.extent(0));
    array<ds::accumulate_t<T>, 2> scores({tokens, w.extent(0)}), weights({tokens, k});
    array<std::int32_t, 2> ids({tokens, k});
    jitter_input(b, in, x);
    ds::ops::gemm(b, x, ds::transposed(w.view()), scores);
    change_logits<T>(b, in, x, scores);
    choose(b, in, scores, weights, ids);
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
    choose(b, in, scores, weights, ids);
    ds::ops::gate_backward(b, ds::gate_saved{scores, weights, ids}, dweights, dlogits,
                           read_rule(in, scores.extent(1)));
    out.add("dlogits", dlogits);
  }
};

// The weights of given ids (-1: none) from finished scores.
struct gate_weights {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto scores = in.read<ds::accumulate_t<T>, 2>("scores");
    const auto ids = in.read_ids<2>("ids");
    auto weights = like<ds::accumulate_t<T>>(ids);
    ds::ops::gate_weights(b, scores, ds::gate_outputs{weights, ids},
                          read_rule(in, scores.extent(1)));
    out.add("out", weights);
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
    index_t sent = 0;  // -1: to no expert
    for (index_t i = 0; i < ids.size(); ++i) sent += ids.data()[i] >= 0 ? 1 : 0;
    array<std::int32_t, 1> offsets({experts + 1}), source({sent});
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

ds::balance_spec<ds::host> read_balance(op_case& in) {
  const std::string count = in.word("count", "assignments"), share = in.word("share", "as_it_is");
  ds::require(count == "assignments" || count == "tokens", error_code::config,
              "balance_loss: count is ", ds::escaped(count), "; write assignments or tokens");
  ds::require(share == "as_it_is" || share == "divided", error_code::config,
              "balance_loss: share is ", ds::escaped(share), "; write as_it_is or divided");
  return {.alpha = in.number("alpha"),
          .groups = in.integer("groups", 0),
          .top_groups = in.integer("top_groups", 1),
          .count = count == "tokens" ? ds::balance_count::tokens : ds::balance_count::assignments,
          .share = share == "divided" ? ds::balance_share::divided : ds::balance_share::as_it_is};
}

struct balance_loss {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    using A = ds::accumulate_t<T>;
    const auto scores = in.read<A, 2>("x");
    const auto ids = in.read_ids<2>("ids");
    auto spec = read_balance(in);
    array<std::int32_t, 1> sequences;
    if (in.gives("offsets")) {
      sequences = in.read_ids<1>("offsets");
      spec.sequences = ds::as_const(sequences.view());
    }
    const ds::balance_inputs given{scores, ids};
    array<double, 1> loss({1});
    auto gradient = like(scores);
    loss.data()[0] = ds::ops::balance_loss(b, given, spec);
    ds::ops::balance_loss_backward(b, given, gradient, spec);
    out.add("out", loss);
    out.add("dx", gradient);
  }
};

// How many rows each expert gets: offsets [E + 1] of a plan.
struct expert_load {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto offsets = in.read_ids<1>("offsets");
    ds::require(offsets.extent(0) > 0, error_code::shape_mismatch,
                "expert_load: offsets[0]; pass one for each expert and the end");
    array<float, 1> load({offsets.extent(0) - 1});
    ds::ops::expert_load(b, offsets, load);
    out.add("out", load);
  }
};

}  // namespace

std::span<const op_row> expert_rows() {
  static constexpr op_row rows[] = {row_of<gate>("gate"),
                                    row_of<gate_backward>("gate_backward"),
                                    row_of<gate_weights>("gate_weights"),
                                    row_of<expert_plan>("expert_plan"),
                                    row_of<permute>("permute"),
                                    row_of<permute_backward>("permute_backward"),
                                    row_of<combine>("combine"),
                                    row_of<combine_backward>("combine_backward"),
                                    row_of<balance_loss>("balance_loss"),
                                    row_of<expert_load>("expert_load")};
  return rows;
}

}  // namespace run_op
