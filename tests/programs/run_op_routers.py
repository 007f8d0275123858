# SPDX-License-Identifier: Apache-2.0
"""Cases of run_op around a gate: noise and jitter from Philox written apart, capacity, losses of a
router and their gradients in double against 4-point differences."""
import math

from run_op_cases import Case, normal
from run_op_gradients import NEAR, differences

ROUTING = 0x524F5554
MASK = 0xFFFFFFFF


def philox(key, counter):
    """Philox4x32-10."""
    (k0, k1), (c0, c1, c2, c3) = key, counter
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK, (p0 >> 32) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def word(i, seed, step, site, lane):
    key = (seed & MASK, (seed >> 32) ^ ROUTING)
    return philox(key, (i // 4, lane, site, step))[i % 4]


def uniform(i, *at):
    return (word(i, *at) >> 8) * 2.0 ** -24


def gauss(i, *at):
    a, b = word(i // 2 * 2, *at), word(i // 2 * 2 + 1, *at)
    radius = math.sqrt(-2 * math.log((a + 1) * 2.0 ** -32))
    turn = 2 * math.pi * b * 2.0 ** -32
    return radius * (math.cos(turn) if i % 2 == 0 else math.sin(turn))


def softplus(z):
    return math.log1p(math.exp(z))


def jittered(x, amount, *at):
    wide = len(x[0])
    return [[v * (1 + amount * (2 * uniform(t * wide + i, *at) - 1)) for i, v in enumerate(row)]
            for t, row in enumerate(x)]


def noisy(z, raw, *at):
    wide = len(z[0])
    return [[v + gauss(t * wide + e, *at) * softplus(r) for e, (v, r) in enumerate(zip(a, b))]
            for t, (a, b) in enumerate(zip(z, raw))]


def cv2(v):
    mean = math.fsum(v) / len(v)
    return math.fsum((x - mean) ** 2 for x in v) / len(v) / mean ** 2


def z_loss(z):
    return math.fsum(math.log(math.fsum(map(math.exp, row))) ** 2 for row in z) / len(z)


def importance(weights, ids, experts):
    sums = [0.0] * experts
    for ws, es in zip(weights, ids):
        for w, e in zip(ws, es):
            if e >= 0:
                sums[e] += w
    return sums


def load(z, raw, h, k):
    sums = [0.0] * len(z[0])
    for clean, deviation, noise in zip(z, raw, h):
        for e in range(len(sums)):
            kth = sorted((v for j, v in enumerate(noise) if j != e), reverse=True)[k - 1]
            sums[e] += (1 + math.erf((clean[e] - kth) / softplus(deviation[e]) / 2 ** 0.5)) / 2
    return sums


def places(ids, room, priority):
    """-1 where no room is left; priority(t, k): larger first, then choice rank, then token."""
    asked = sorted(((-priority(t, k), k, t) for t, row in enumerate(ids) for k in range(len(row))))
    left, sent = {}, [[-1] * len(row) for row in ids]
    for _, k, t in asked:
        e = ids[t][k]
        if left.setdefault(e, room) > 0:
            left[e] -= 1
            sent[t][k] = e
    return sent


def routers(oracle, kind):
    at = {"seed": 2 ** 33 + 5, "step": 3, "site": 7}
    where = (at["seed"], 3, 7)
    case = Case("jitter", kind, {"amount": 0.25, "lane": 2} | at, 8)
    x = case.give("x", normal(1, 5, 6))
    case.expect("out", jittered(x, 0.25, *where, 2))
    yield case
    case = Case("noisy_logits", kind, at, 16)
    z, raw = case.give("logits", normal(1, 5, 6)), case.give("raw", normal(2, 5, 6))
    case.expect("out", noisy(z, raw, *where, 0))
    case.factor = 2.0 ** 30 if kind == "f64" else 16  # the normal numbers are float
    yield case
    if kind == "f64":
        inputs, dout = {"raw": normal(2, 5, 6)}, normal(9, 5, 6)
        case = Case("noisy_logits", kind, at, 2.0 ** 30, "gradient")
        case.give("logits", normal(1, 5, 6))
        case.give("raw", inputs["raw"])
        case.give("dout", dout)
        case.expect("draw", differences(lambda raw: noisy(normal(1, 5, 6), raw, *where, 0), inputs,
                                        dout, "raw"))
        yield case
    x, w, noise = normal(1, 6, 8), normal(2, 8, 8), normal(3, 8, 8)
    if kind == "f64":  # elsewhere rounding may choose other experts
        case = Case("gate", kind, {"top_k": 2, "score": "softmax", "norm": True, "jitter": 0.01,
                                   "scale": 1} | at, 2.0 ** 30, "noisy")
        x, w, noise = case.give("x", x), case.give("w", w), case.give("w_noise", noise)
        moved = jittered(x, 0.01, *where, 1)
        h = noisy(oracle.gemm(moved, oracle.transposed(w)),
                  oracle.gemm(moved, oracle.transposed(noise)), *where, 0)
        chosen = [oracle.top_k(row, 2) for row in h]
        case.expect("out_idx", chosen, "I64")
        case.expect("out", [oracle.softmax_row([row[e] for e in es]) for row, es in zip(h, chosen)])
        yield case
        # Logits of one token; the weights of the double softmax are known apart from this program.
        case = Case("gate", kind, {"top_k": 2, "double_softmax": True}, 4e7, "double softmax")
        case.give("x", [[1.0]])
        case.give("w", [[v] for v in [.2, -.1, .5, .3, -.4, .9, 0, .1]])
        case.expect("out_idx", [[5, 2]], "I64")
        case.expect("out", [[.139693362, .129176367]])
        yield case
        case = Case("gate", kind, {"top_k": 8, "choice": "all"}, 64, "all")
        logits = oracle.gemm(case.give("x", x), oracle.transposed(case.give("w", w)))
        case.expect("out_idx", [list(range(8))] * 6, "I64")
        case.expect("out", [oracle.softmax_row(row) for row in logits])
        yield case
    ids = [[0, 1], [1, 0], [0, 2], [0, 1], [2, 0]]
    for order in ("position", "score", "random"):
        attrs = {"capacity": 2, "order": order, "lane": 1} | at
        case = Case("expert_capacity", kind, attrs, 0, order)
        scores = case.give("scores", [[.1, .2, .3], [.5, .4, .1], [.7, .2, .1], [.6, .3, .1],
                                      [.25, .5, .75]])
        case.give("ids", ids, "I64")
        rank = {"position": lambda t, k: 0, "score": lambda t, k: scores[t][ids[t][k]],
                "random": lambda t, k: word(2 * t + k, *where, 1)}[order]
        case.expect("out_ids", places(ids, 2, rank), "I64")
        yield case
    case = Case("expert_capacity", kind, {"factor": 1.25, "then": "reroute"}, 0, "reroute")
    case.give("scores", [[.1, .9, .0, .4]] * 10)  # C = 7: tokens 7, 8, 9 go on to expert 3
    case.give("ids", [[1, 0]] * 10, "I64")
    case.expect("out_ids", [[1, 0]] * 7 + [[3, 2]] * 3, "I64")
    yield case
    case = Case("expert_plan", kind, {"experts": 3}, 0, "dropped")
    case.give("ids", [[2, -1], [-1, 2], [0, 2]], "I64")
    case.expect("out_offsets", [0, 1, 1, 4], "I64")
    case.expect("out_source", [4, 0, 3, 5], "I64")
    case.expect("out_slot", [[1, -1], [-1, 2], [0, 3]], "I64")
    yield case
    case = Case("gate_weights", kind, {"norm": True, "scale": 2}, 8)
    s = case.give("scores", [[.5, .25, .25], [.625, .125, .25]])
    case.give("ids", [[0, -1], [2, 0]], "I64")
    total = s[1][2] + s[1][0]
    case.expect("out", [[2.0, 0.0], [2 * s[1][2] / total, 2 * s[1][0] / total]])
    yield case
    case = Case("choice_load", kind, {"experts": 4}, 0)
    case.give("ids", ids, "I64")
    case.expect("out", [5.0, 3.0, 2.0, 0.0])
    yield case
    case = Case("move_load", kind, {"decay": 0.5}, 0)
    case.give("counts", [4.0, 0.0, 0.0, 12.0])
    case.give("load", [0.5, 0.25, 0.0, 0.25])
    case.expect("out", [0.375, 0.125, 0.0, 0.5])
    yield case
    case = Case("move_bias", kind, {"step": 0.25}, 0)
    case.give("counts", [5.0, 3.0, 4.0, 4.0])
    case.give("bias", [0.5, 0.5, 0.5, 0.5])
    case.expect("out", [0.25, 0.75, 0.5, 0.5])
    yield case
    case = Case("expert_sequences", kind, {"top_k": 2}, 0)
    case.give("offsets", [0, 3, 3, 7], "I64")
    case.give("source", [0, 3, 8, 1, 5, 6, 9], "I64")
    case.give("sequences", [0, 2, 2, 5], "I64")
    case.expect("out", [[0, 2, 2, 3], [0, 0, 0, 0], [0, 1, 1, 4]], "I64")
    yield case


def router_losses(kind):
    """Values in every type; the gradients in double."""
    ids = [[0, 1], [1, -1], [2, 0]]
    positive = [[abs(v) for v in row] for row in normal(3, 3, 2)]
    h = [[.9, .1, -.4, .5], [-.2, .3, .8, 0.0], [.6, -.7, .2, -.1]]
    values = {
        "router_z_loss": ({"alpha": 0.5}, {"x": normal(1, 3, 4)}, lambda x: 0.5 * z_loss(x), ()),
        "importance_loss": ({"alpha": 0.5, "experts": 4}, {"weights": positive},
                            lambda weights: 0.5 * cv2(importance(weights, ids, 4)),
                            (("ids", ids, "I64"),)),
        "load_loss": ({"alpha": 0.5, "top_k": 2},
                      {"logits": normal(4, 3, 4), "raw": [[abs(v) for v in row]
                                                          for row in normal(5, 3, 4)], "noisy": h},
                      lambda logits, raw, noisy: 0.5 * cv2(load(logits, raw, noisy, 2)), ())}
    names = {"x": "dx", "weights": "dweights", "logits": "dlogits", "raw": "draw",
             "noisy": "dnoisy"}
    for op, (attrs, inputs, loss, more) in values.items():
        case = Case(op, kind, attrs, 64 if kind in ("f64", "f32") else 4)
        given = {name: case.give(name, value) for name, value in inputs.items()}
        for name, value, dtype in more:
            case.give(name, value, dtype)
        case.expect("out", [loss(**given)], "F64")
        yield case
        if kind != "f64":
            continue
        case = Case(op, kind, attrs, NEAR, "gradient")
        for name, value in inputs.items():
            case.give(name, value)
        for name, value, dtype in more:
            case.give(name, value, dtype)
        for name in inputs:
            case.expect(names[name],
                        differences(lambda **moved: [loss(**moved)], inputs, [1.0], name))
        yield case


def refusals():
    def places_of(**attrs):
        case = Case("expert_capacity", "f32", attrs)
        case.give("scores", normal(1, 3, 4))
        case.give("ids", [[0, 1], [3, 2], [1, 0]], "I64")
        return case
    yield "no capacity", places_of(), 2, "config", ("capacity",)
    yield "capacity", places_of(capacity=-1), 2, "config", ("factor is 0 and capacity -1",)
    yield "order", places_of(capacity=1, order="rank"), 2, "config", ("rank", "position, score")
    yield "then", places_of(capacity=1, then="drop"), 2, "config", ("drop", "pass or reroute")
    case = places_of(capacity=1)
    case.give("ids", [[0, 1], [3, 4], [1, 0]], "I64")
    yield "capacity ids", case, 2, "index_range", ("ids[1, 1] is 4", "0 .. 3")
    case = Case("gate", "f32", {"top_k": 2, "choice": "all"})
    case.give("x", normal(1, 2, 4))
    case.give("w", normal(1, 8, 4))
    yield "not all", case, 2, "invalid_argument", ("2 active experts of 8",)
    case = Case("load_loss", "f32", {"top_k": 5})
    for name in ("logits", "raw", "noisy"):
        case.give(name, normal(1, 2, 4))
    yield "load", case, 2, "invalid_argument", ("5 active experts of 4",)
    case = Case("jitter", "f32", {"amount": 2})
    case.give("x", normal(1, 2, 4))
    yield "jitter", case, 2, "invalid_argument", ("amount is 2",)
