# SPDX-License-Identifier: Apache-2.0
"""Gradients of run_op in double against 4-point differences of the forward formulas."""
import copy
import math

from run_op_cases import Case, flat, nest, normal

STEP = 1e-3
NEAR = 2.0e6  # roundoffs: about 2e-10


def differences(forward, inputs, dout, name):
    """The gradient of sum(dout * forward(inputs)) with respect to one input."""
    weights, _ = flat(dout)
    data, shape = flat(inputs[name])

    def loss(at):
        changed = dict(inputs)
        changed[name] = nest(at, shape)
        return math.fsum(w * y for w, y in zip(weights, flat(forward(**changed))[0]))

    gradient = []
    for i, x in enumerate(data):
        def moved(by):
            at = copy.copy(data)
            at[i] = x + by
            return loss(at)
        near = moved(STEP) - moved(-STEP)
        far = moved(2 * STEP) - moved(-2 * STEP)
        gradient.append((8 * near - far) / (12 * STEP))
    return nest(gradient, shape)


def case_of(op, forward, inputs, wanted, attrs=None, fixed=()):
    """wanted: result name -> input name. fixed: (name, value, dtype), not differentiated."""
    case = Case(op, "f64", attrs or {}, NEAR)
    dout = normal(9, *flat(forward(**inputs))[1])
    case.give("dout", dout)
    for name, value in inputs.items():
        case.give(name, value)
    for name, value, dtype in fixed:
        case.give(name, value, dtype)
    for result, name in wanted.items():
        case.expect(result, differences(forward, inputs, dout, name))
    return case


def cases(oracle):
    a, b, x = normal(1, 3, 5), normal(2, 5, 4), normal(3, 4, 6)
    w, c = normal(4, 6), normal(5, 6)
    yield case_of("gemm_backward", oracle.gemm, {"a": a, "b": b}, {"da": "a", "db": "b"})
    stack = normal(6, 3, 6, 2)
    yield case_of("grouped_gemm_backward",
                  lambda x, w: oracle.gemm(x[:1], w[0]) + oracle.gemm(x[1:], w[2]),
                  {"x": x, "w": stack}, {"dx": "x", "dw": "w"},
                  fixed=(("offsets", [0, 1, 1, 4], "I64"),))
    places = [normal(7, 2, 6), normal(8, 2, 6), normal(9, 2, 6)]
    none = [0.0, 0.0]
    yield case_of("masked_grouped_gemm_backward",
                  lambda x, w: [oracle.gemm(x[0][:1], w[0]) + [none], [none, none],
                                oracle.gemm(x[2], w[2])],
                  {"x": places, "w": stack}, {"dx": "x", "dw": "w"},
                  fixed=(("counts", [1, 0, 2], "I64"),))
    yield case_of("rmsnorm_backward", lambda x, w: [oracle.rms_norm_row(r, w, 1e-5) for r in x],
                  {"x": x, "w": w}, {"dx": "x", "dw": "w"}, {"eps": 1e-5})
    norm = case_of("layer_norm_backward",
                   lambda x, w, bias: [oracle.layer_norm_row(r, w, bias, 1e-5) for r in x],
                   {"x": x, "w": w, "bias": c}, {"dx": "x", "dw": "w", "dbias": "bias"},
                   {"eps": 1e-5})
    del norm.tensors["bias"]  # its gradient does not need it
    yield norm
    for op in ("silu", "gelu", "relu"):
        yield case_of(f"{op}_backward", lambda x: [[getattr(oracle, op)(v) for v in r] for r in x],
                      {"x": x}, {"dx": "x"})
    yield case_of("swiglu_backward",
                  lambda gate, up: [[oracle.silu(g) * u for g, u in zip(r, s)]
                                    for r, s in zip(gate, up)],
                  {"gate": x, "up": normal(7, 4, 6)}, {"dgate": "gate", "dup": "up"})
    softmax = case_of("softmax_backward", lambda x: [oracle.softmax_row(r) for r in x], {"x": x},
                      {"dx": "x"})
    del softmax.tensors["x"]
    softmax.give("y", [oracle.softmax_row(r) for r in x])
    yield softmax
    pos = [2, 5, 1, 9]
    turned = case_of("rope",
                     lambda x: [[oracle.rope_head(r, p, 100.0, "half") for r, p in zip(h, pos)]
                                for h in x], {"x": normal(8, 2, 4, 6)}, {"out": "x"},
                     {"theta": 100.0, "style": "half", "turn": "inverse"},
                     (("pos", pos, "I64"),))
    turned.tensors["x"] = turned.tensors.pop("dout")  # the gradient is the turn back of dout
    yield turned
    mask = [[1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 1, 1]]
    yield case_of("attention_backward",
                  lambda q, k, v: [oracle.attention_head(q[i], k[0], v[0], mask, 0.7)[0]
                                   for i in range(2)],
                  {"q": normal(1, 2, 3, 3), "k": normal(2, 1, 4, 3), "v": normal(3, 1, 4, 2)},
                  {"dq": "q", "dk": "k", "dv": "v"}, {"scale": 0.7}, (("mask", mask, "U8"),))
    def shown(q, k, w):  # hidden scores do not count
        return [[max(v, -1e9) * (v > -1e9) for v in r] for r in oracle.indexer(q, k, w, 0.5)]
    yield case_of("lightning_indexer_backward", shown,
                  {"q": normal(1, 3, 2, 4), "k": normal(2, 5, 4), "w": normal(3, 3, 2)},
                  {"dq": "q", "dk": "k", "dw": "w"}, {"scale": 0.5})
    table = case_of("embedding_backward", lambda table: [table[i] for i in (2, 0, 2)],
                    {"table": x}, {"dtable": "table"}, fixed=(("ids", [2, 0, 2], "I64"),))
    yield table
    targets = [3, -100, 0, 5]
    entropy = case_of("cross_entropy_gradient",
                      lambda logits: [math.fsum(-math.log(oracle.softmax_row(r)[t])
                                                for r, t in zip(logits, targets) if t >= 0) / 3],
                      {"logits": x}, {}, {"factor": 2.0}, (("targets", targets, "I64"),))
    del entropy.tensors["dout"]
    entropy.expect("dlogits", differences(
        lambda logits: [math.fsum(-math.log(oracle.softmax_row(r)[t])
                                  for r, t in zip(logits, targets) if t >= 0) / 3],
        {"logits": x}, [2.0], "logits"))
    yield entropy
    chosen = [oracle.top_k(r, 2) for r in x]
    yield case_of("top_k_backward", lambda x: [[r[i] for i in c] for r, c in zip(x, chosen)],
                  {"x": x}, {"dx": "x"}, fixed=(("ids", chosen, "I64"),))
    _, source, slot = oracle.plan([[2, 0], [1, 2], [2, 3], [0, 1]], 4)
    back = case_of("permute_backward", lambda x: [x[s // 2] for s in source], {"x": x}, {"dx": "x"},
                   fixed=(("slot", nest(slot, [4, 2]), "I64"),))
    del back.tensors["x"]
    yield back
    yield case_of("combine_backward",
                  lambda x, weights: [[math.fsum(weights[t][k] * x[slot[2 * t + k]][d]
                                                 for k in range(2)) for d in range(3)]
                                      for t in range(4)],
                  {"x": normal(1, 8, 3), "weights": normal(2, 4, 2)},
                  {"dx": "x", "dweights": "weights"}, fixed=(("slot", nest(slot, [4, 2]), "I64"),))
    bias = [.1, -.3, 0, .4, .2, -.2]
    for score, groups, norm in (("softmax", 1, False), ("softmax", 1, True), ("softmax", 3, False),
                                ("sigmoid", 3, True), ("sigmoid", 1, False),
                                ("sqrt_softplus", 1, True)):
        attrs = {"score": score, "groups": groups, "top_groups": (groups + 1) // 2, "norm": norm,
                 "scale": 1.5}
        chosen_ids = [oracle.gate_choice(oracle.gate_scores(r, score), bias, 2, score, groups,
                                         attrs["top_groups"]) for r in x]

        def gate(logits, score=score, norm=norm, chosen_ids=chosen_ids):
            return [oracle.gate_weights(oracle.gate_scores(r, score), ids, 1.5, norm)
                    for r, ids in zip(logits, chosen_ids)]
        yield case_of("gate_backward", gate, {"logits": x}, {"dlogits": "logits"}, attrs,
                      (("bias", bias, "F64"),))
    yield from balances()


def balances():
    """L = alpha / B sum over sequences of sum_d f_d P_d; f is a constant."""
    ids, alpha = [[2, 0], [1, 2], [2, 3], [0, 1]], 0.1
    for groups, top, count, share, starts in ((0, 1, "assignments", "as_it_is", [0, 4]),
                                              (0, 1, "assignments", "divided", [0, 1, 4]),
                                              (2, 1, "assignments", "as_it_is", [0, 4]),
                                              (2, 2, "tokens", "divided", [0, 2, 4])):
        size = 4 // groups if groups else 1

        def loss(x, size=size, top=top, count=count, share=share, starts=starts):
            total = 0.0
            for first, end in zip(starts, starts[1:]):
                for d in range(4 // size):
                    met = [[i // size for i in ids[t]].count(d) for t in range(first, end)]
                    hits = sum(met) if count == "assignments" else sum(m > 0 for m in met)
                    f = 4 // size * hits / ((2 if count == "assignments" else top) * (end - first))
                    p = math.fsum(math.fsum(x[t][d * size:(d + 1) * size]) /
                                  (math.fsum(x[t]) if share == "divided" else 1.0)
                                  for t in range(first, end)) / (end - first)
                    total += f * p
            return [alpha * total / (len(starts) - 1)]
        x = [[abs(v) + 0.1 for v in r] for r in normal(1, 4, 4)]
        case = case_of("balance_loss", loss, {"x": x}, {},
                       {"alpha": alpha, "groups": groups, "top_groups": top, "count": count,
                        "share": share}, (("ids", ids, "I64"), ("offsets", starts, "I64")))
        del case.tensors["dout"]
        case.expect("out", loss(x))
        case.expect("dx", differences(loss, {"x": x}, [1.0], "x"))
        yield case
    load = Case("expert_load", "f64", {}, 0)
    load.give("offsets", [0, 3, 3, 8], "I64")
    load.expect("out", [3, 0, 5], "F32")
    yield load
