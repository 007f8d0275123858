# SPDX-License-Identifier: Apache-2.0
"""Cases of run_op: sinks, merged attentions, compressed windows, hyper-connections, and their
gradients in double against 4-point differences."""
import math

from run_op_cases import INF, Case, normal

OFFSETS = [0, 7, 7, 9, 18]
EPS = 1e-6


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def with_sink(o, lse, sink):
    whole = math.log((math.exp(lse) if lse > -INF else 0) + math.exp(sink))
    keep = math.exp(lse - whole) if lse > -INF else 0
    return [keep * v for v in o], whole


def merged(o1, lse1, o2, lse2):
    shares = [math.exp(s) if s > -INF else 0.0 for s in (lse1, lse2)]
    total = shares[0] + shares[1]
    if total == 0:
        return o1, -INF
    return [(shares[0] * a + shares[1] * b) / total for a, b in zip(o1, o2)], math.log(total)


def compress(kv, gate, ape, overlap, offsets):
    m, out = len(ape), []
    half = len(kv[0]) // 2 if overlap else 0
    for begin, end in zip(offsets, offsets[1:]):
        for first in range(begin, end - m + 1, m):
            entry = []
            for c in range(len(kv[0]) - half):
                seen = [(first + j, half + c, j) for j in range(m)]
                if overlap and first > begin:
                    seen += [(first - m + j, c, j) for j in range(m)]
                e = [math.exp(gate[t][at] + ape[j][at]) for t, at, j in seen]
                entry.append(math.fsum(p * kv[t][at] for p, (t, at, _) in zip(e, seen))
                             / math.fsum(e))
            out.append(entry)
    return out


def sinkhorn(logits, iterations=20, eps=EPS):
    n, m = len(logits), []
    for row in logits:
        e = [math.exp(v) for v in row]
        m.append([v / math.fsum(e) + eps for v in e])
    for step in range(2 * iterations - 1):
        if step % 2 == 0:
            sums = [math.fsum(m[i][j] for i in range(n)) + eps for j in range(n)]
            m = [[m[i][j] / sums[j] for j in range(n)] for i in range(n)]
        else:
            m = [[v / (math.fsum(row) + eps) for v in row] for row in m]
    return m


def hyper_maps(mu, base, scale, n):
    pre, post, mix = [], [], []
    for row in mu:
        z = [v * scale[0 if j < n else 1 if j < 2 * n else 2] + base[j] for j, v in enumerate(row)]
        pre.append([sigmoid(v) + EPS for v in z[:n]])
        post.append([2 * sigmoid(v) for v in z[n:2 * n]])
        mix.append(sinkhorn([z[(2 + i) * n:(3 + i) * n] for i in range(n)]))
    return pre, post, mix


def hyper_read(x, pre):
    return [[math.fsum(p * s[d] for p, s in zip(w, streams)) for d in range(len(streams[0]))]
            for streams, w in zip(x, pre)]


def hyper_write(x, y, post, mix):
    return [[[post[t][j] * y[t][d] + math.fsum(mix[t][i][j] * x[t][i][d] for i in range(len(x[t])))
              for d in range(len(y[t]))] for j in range(len(x[t]))] for t in range(len(x))]


def attention_parts(kind):
    o1, lse1 = normal(1, 2, 5, 3), normal(2, 2, 5)
    lse1[0][1], o1[0][1] = -INF, [0.0] * 3  # a query that saw nothing
    wide = "f64" if kind == "f64" else "f32"
    case = Case("attention_sink", kind, {}, 16)
    o = case.give("o", o1)
    lse = case.give("lse", lse1, case.stored)
    sinks = case.give("sinks", [0.5, -1.0], case.stored)
    pairs = [[with_sink(r, s, a) for r, s in zip(*head)] for *head, a in zip(o, lse, sinks)]
    case.expect("out", [[v for v, _ in head] for head in pairs])
    if kind == wide:
        case.expect("out_lse", [[s for _, s in head] for head in pairs])
    yield case
    case = Case("attention_merge", kind, {}, 16)
    o, lse = case.give("o1", o1), case.give("lse1", lse1, case.stored)
    other = case.give("o2", normal(3, 2, 5, 3))
    other_lse = case.give("lse2", normal(4, 2, 5), case.stored)
    pairs = [[merged(*q) for q in zip(*head)] for head in zip(o, lse, other, other_lse)]
    case.expect("out", [[v for v, _ in head] for head in pairs])
    if kind == wide:
        case.expect("out_lse", [[s for _, s in head] for head in pairs])
    yield case


def windows(kind):
    for overlap in (False, True):
        case = Case("compress", kind, {"overlap": overlap}, 32, str(overlap))
        kv, gate = case.give("kv", normal(1, 18, 6)), case.give("gate", normal(2, 18, 6))
        ape = case.give("ape", normal(3, 4, 6))
        case.give("offsets", OFFSETS, "I64")
        case.expect("out", compress(kv, gate, ape, overlap, OFFSETS))
        yield case
    case = Case("compressed_offsets", kind, {"ratio": 4}, 0)
    case.give("offsets", OFFSETS, "I64")
    case.expect("out", [0, 1, 1, 1, 3], "I64")
    yield case
    case = Case("positions", kind, {"start": 5, "step": 4}, 0, "step")
    case.give("offsets", [0, 2, 2, 5], "I64")
    case.expect("out", [20, 24, 20, 24, 28], "I64")
    yield case


def streams(kind):
    case = Case("sinkhorn", kind, {"iterations": 20, "eps": EPS}, 64)
    x = case.give("x", normal(1, 5, 3, 3))
    case.expect("out", [sinkhorn(m) for m in x])
    yield case
    case = Case("hyper_maps", kind, {"streams": 3}, 64)
    mu, base = case.give("mu", normal(1, 4, 15)), case.give("base", normal(2, 15))
    scale = case.give("scale", [0.5, -1.0, 1.5])
    for name, value in zip(("out_pre", "out_post", "out_mix"), hyper_maps(mu, base, scale, 3)):
        case.expect(name, value)
    yield case
    case = Case("hyper_read", kind, {}, 16)
    x, pre = case.give("x", normal(1, 4, 3, 5)), case.give("pre", normal(2, 4, 3))
    case.expect("out", hyper_read(x, pre))
    yield case
    case = Case("hyper_write", kind, {}, 16)
    x, y = case.give("x", normal(1, 4, 3, 5)), case.give("y", normal(2, 4, 5))
    post, mix = case.give("post", normal(3, 4, 3)), case.give("mix", normal(4, 4, 3, 3))
    case.expect("out", hyper_write(x, y, post, mix))
    yield case


def limited(oracle, kind):
    case = Case("swiglu", kind, {"limit": 0.75}, 8, "limit")
    gate, up = case.give("gate", normal(1, 4, 17)), case.give("up", normal(2, 4, 17))
    case.expect("out", [[oracle.silu(min(a, 0.75)) * max(min(b, 0.75), -0.75)
                         for a, b in zip(r, s)] for r, s in zip(gate, up)])
    yield case


def cases(oracle, kind):
    yield from attention_parts(kind)
    yield from windows(kind)
    yield from streams(kind)
    yield from limited(oracle, kind)


def gradients():
    from run_op_gradients import NEAR, case_of, differences
    # The sink's gradient takes o and lse as they are after the sink.
    o, lse, sinks = normal(1, 2, 3, 4), normal(2, 2, 3), [0.3, -0.7]

    def after(sinks):
        return [[with_sink(r, s, a) for r, s in zip(*head)] for *head, a in zip(o, lse, sinks)]
    case = Case("attention_sink_backward", "f64", {}, NEAR)
    dout = case.give("dout", normal(9, 2, 3, 4))
    case.give("o", [[v for v, _ in head] for head in after(sinks)])
    case.give("lse", [[s for _, s in head] for head in after(sinks)])
    case.give("sinks", sinks)
    case.expect("dsinks", differences(lambda sinks: [[v for v, _ in h] for h in after(sinks)],
                                      {"sinks": sinks}, dout, "sinks"))
    yield case
    for overlap in (False, True):
        yield case_of("compress_backward",
                      lambda kv, gate, ape: compress(kv, gate, ape, overlap, [0, 4, 7]),
                      {"kv": normal(1, 7, 4), "gate": normal(2, 7, 4), "ape": normal(3, 2, 4)},
                      {"dkv": "kv", "dgate": "gate", "dape": "ape"}, {"overlap": overlap},
                      (("offsets", [0, 4, 7], "I64"),))
    yield case_of("sinkhorn_backward", lambda x: [sinkhorn(m) for m in x],
                  {"x": normal(1, 2, 3, 3)}, {"dx": "x"})
    yield case_of("hyper_read_backward", hyper_read,
                  {"x": normal(1, 3, 2, 4), "pre": normal(2, 3, 2)}, {"dx": "x", "dpre": "pre"})
    yield case_of("hyper_write_backward", hyper_write,
                  {"x": normal(1, 3, 2, 4), "y": normal(2, 3, 4), "post": normal(3, 3, 2),
                   "mix": normal(4, 3, 2, 2)},
                  {"dx": "x", "dy": "y", "dpost": "post", "dmix": "mix"})
    inputs = {"mu": normal(1, 3, 8), "base": normal(2, 8), "scale": [0.5, -1.0, 1.5]}
    weights = {"dpre": normal(3, 3, 2), "dpost": normal(4, 3, 2), "dmix": normal(5, 3, 2, 2)}
    case = Case("hyper_maps_backward", "f64", {}, NEAR)
    for name, value in (inputs | weights).items():
        case.give(name, value)

    def loss(mu, base, scale):
        total = 0.0
        for weight, maps in zip(weights.values(), hyper_maps(mu, base, scale, 2)):
            for w, v in zip(weight, maps):
                flat = [(a, b) for p, q in zip(w, v) for a, b in
                        (zip(p, q) if isinstance(p, list) else ((p, q),))]
                total += math.fsum(a * b for a, b in flat)
        return [total]
    for name in inputs:
        case.expect("d" + name, differences(loss, inputs, [1.0], name))
    yield case
