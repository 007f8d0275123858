// SPDX-License-Identifier: Apache-2.0
// run_op: what surrounds a gate: noise, jitter, losses of a router, capacity.
#include "run_op/op_rows.hpp"

#include "deepseek/ops/balance_loss.hpp"

namespace run_op {
namespace {

ds::routing_draw read_draw(op_case& in) {
  return {.seed = static_cast<std::uint64_t>(in.integer("seed", 0)),
          .step = static_cast<std::uint64_t>(in.integer("step", 0)),
          .site = static_cast<std::uint32_t>(in.integer("site", 0)),
          .lane = static_cast<std::uint32_t>(in.integer("lane", 0))};
}

struct jitter {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto x = in.read<T, 2>("x");
    auto y = like(x);
    ds::ops::jitter(b, x, y, in.number("amount"), read_draw(in));
    out.add("out", y);
  }
};

struct noisy_logits {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    using A = ds::accumulate_t<T>;
    const auto logits = in.read<A, 2>("logits");
    auto h = like(logits);
    const ds::noise_spec spec{.deviation = in.number("deviation", 0), .draw = read_draw(in)};
    if (!in.gives("raw")) {
      ds::ops::noisy_logits(b, ds::noisy_inputs{logits, ds::none{}}, h, spec);
    } else {
      const auto raw = in.read<A, 2>("raw");
      ds::ops::noisy_logits(b, ds::noisy_inputs{logits, raw}, h, spec);
      if (in.gives("dout")) {
        auto draw = like(raw);
        ds::ops::noisy_logits_backward(b, raw, in.read<A, 2>("dout"), draw, spec);
        out.add("draw", draw);
      }
    }
    out.add("out", h);
  }
};

struct router_z_loss {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto logits = in.read<ds::accumulate_t<T>, 2>("x");
    const double alpha = in.number("alpha", 1);
    auto gradient = like(logits);
    array<double, 1> loss({1});
    loss.data()[0] = ds::ops::router_z_loss(b, logits, alpha);
    ds::ops::router_z_loss_backward(b, logits, gradient, alpha);
    out.add("out", loss);
    out.add("dx", gradient);
  }
};

struct importance_loss {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto weights = in.read<ds::accumulate_t<T>, 2>("weights");
    const auto ids = in.read_ids<2>("ids");
    const index_t experts = in.integer("experts");
    const double alpha = in.number("alpha", 1);
    ds::require(experts <= index_t{1} << 24, error_code::config, "importance_loss: experts is ",
                experts, "; write a number from 1 to 16777216");
    auto gradient = like(weights);
    array<double, 1> loss({1});
    const ds::importance_inputs given{weights, ids};
    loss.data()[0] = ds::ops::importance_loss(b, given, experts, alpha);
    ds::ops::importance_loss_backward(b, given, gradient, experts, alpha);
    out.add("out", loss);
    out.add("dweights", gradient);
  }
};

struct load_loss {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    using A = ds::accumulate_t<T>;
    const auto logits = in.read<A, 2>("logits"), raw = in.read<A, 2>("raw"),
               noisy = in.read<A, 2>("noisy");
    const index_t active = in.integer("top_k");
    const double alpha = in.number("alpha", 1);
    auto dlogits = like(logits), draw = like(raw), dnoisy = like(noisy);
    const ds::load_views given{logits, raw, noisy};
    array<double, 1> loss({1});
    loss.data()[0] = ds::ops::load_loss(b, given, active, alpha);
    ds::ops::load_loss_backward(b, given, ds::load_views{dlogits, draw, dnoisy}, active, alpha);
    out.add("out", loss);
    out.add("dlogits", dlogits);
    out.add("draw", draw);
    out.add("dnoisy", dnoisy);
  }
};

ds::capacity_rule read_capacity(op_case& in, index_t assignments, index_t experts) {
  const std::string order = in.word("order", "position"), then = in.word("then", "pass");
  ds::require(order == "position" || order == "score" || order == "random", error_code::config,
              "expert_capacity: order is ", ds::escaped(order),
              "; write position, score or random");
  ds::require(then == "pass" || then == "reroute", error_code::config, "expert_capacity: then is ",
              ds::escaped(then), "; write pass or reroute");
  const double factor = in.number("factor", 0);
  ds::require(factor >= 0 && factor <= 1e6, error_code::config, "expert_capacity: factor is ",
              factor, "; write a number from 0 (capacity says it) to 1e6");
  const index_t least = in.integer("least", 0), none = -1;
  const index_t given = factor > 0 ? none : in.integer("capacity", none);
  ds::require(factor > 0 || given >= 0, error_code::config, "expert_capacity: factor is ", factor,
              " and capacity ", given, "; write a factor > 0 or a capacity >= 0");
  const bool by_factor = factor > 0 && experts > 0;
  const index_t rows =
      by_factor ? ds::expert_capacity_of(factor, assignments, experts, least) : index_t{0};
  return {.capacity = factor > 0 ? rows : given,
          .order = order == "position" ? ds::drop_order::by_position
                   : order == "score"  ? ds::drop_order::by_score
                                       : ds::drop_order::at_random,
          .then = then == "pass" ? ds::overflow::passes : ds::overflow::rerouted,
          .draw = read_draw(in)};
}

struct expert_capacity {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto scores = in.read<ds::accumulate_t<T>, 2>("scores");
    const auto ids = in.read_ids<2>("ids");
    auto sent = like<std::int32_t>(ids);
    ds::ops::expert_capacity(b, ds::capacity_inputs{scores, ids}, sent,
                             read_capacity(in, ids.size(), scores.extent(1)));
    out.add("out_ids", sent);
  }
};

// How often each of `experts` is chosen.
struct choice_load {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto ids = in.read_ids<2>("ids");
    const index_t experts = in.integer("experts");
    ds::require(experts >= 0 && experts <= index_t{1} << 24, error_code::config,
                "choice_load: experts is ", experts, "; write a number from 0 to 16777216");
    array<ds::accumulate_t<T>, 1> load({experts});
    ds::ops::choice_load(b, ids, load);
    out.add("out", load);
  }
};

// A router's load and bias after a step.
struct move_load {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto counts = in.read<T, 1>("counts");
    auto load = in.read<T, 1>("load");
    ds::ops::move_load(b, counts, in.number("decay"), load);
    out.add("out", load);
  }
};
struct move_bias {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto counts = in.read<T, 1>("counts");
    auto bias = in.read<T, 1>("bias");
    ds::ops::move_bias(b, counts, in.number("step"), bias);
    out.add("out", bias);
  }
};

struct expert_sequences {
  template <class T>
  static void run(const auto& b, op_case& in, results& out) {
    const auto offsets = in.read_ids<1>("offsets"), source = in.read_ids<1>("source"),
               sequences = in.read_ids<1>("sequences");
    ds::require(offsets.extent(0) > 0, error_code::shape_mismatch,
                "expert_sequences: offsets[0]; pass one for each expert and the end");
    array<std::int32_t, 2> starts({offsets.extent(0) - 1, sequences.extent(0)});
    ds::ops::expert_sequences(b, ds::expert_rows{offsets, source, in.integer("top_k")},
                              ds::as_const(sequences.view()), starts);
    out.add("out", starts);
  }
};

}  // namespace

std::span<const op_row> router_rows() {
  static constexpr op_row rows[] = {row_of<jitter>("jitter"),
                                    row_of<noisy_logits>("noisy_logits"),
                                    row_of<router_z_loss>("router_z_loss"),
                                    row_of<importance_loss>("importance_loss"),
                                    row_of<load_loss>("load_loss"),
                                    row_of<expert_capacity>("expert_capacity"),
                                    row_of<choice_load>("choice_load"),
                                    row_of<move_load>("move_load"),
                                    row_of<move_bias>("move_bias"),
                                    row_of<expert_sequences>("expert_sequences")};
  return rows;
}

}  // namespace run_op
