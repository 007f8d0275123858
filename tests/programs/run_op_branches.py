# SPDX-License-Identifier: Apache-2.0
"""Cases of run_op: sigmoid, masks over heads, chosen blocks, and their gradients."""
import math

from run_op_cases import Case, normal


def sigmoid(z):
    if z >= 0:
        return 1 / (1 + math.exp(-z))
    return math.exp(z) / (1 + math.exp(z))


def head_mask(g, heads, edge, temperature):
    def one(gate, h):
        if edge == "soft":
            return sigmoid((heads * gate - h) / temperature)
        return float(h < min(max(math.floor(heads * gate + 0.5), 1), heads))
    return [[one(row[0], h) for h in range(heads)] for row in g]


def chosen_blocks(q, k, lse, mask, rule):
    """q [h, n, d], k [g, m, d], lse [h, n], mask [n, m] -> [n, g, count]."""
    group, out = len(q) // len(k), []
    for i in range(len(mask)):
        blocks = i // (rule["ratio"] * rule["windows"]) + 1
        rows = []
        for g, keys in enumerate(k):
            importance = [0.0] * blocks
            for h in range(g * group, (g + 1) * group):
                for e, key in enumerate(keys):
                    if not mask[i][e]:
                        continue
                    dot = math.fsum(a * b for a, b in zip(q[h][i], key))
                    p = math.exp(rule["scale"] * dot - lse[h][i])
                    stands_for = [e] + ([e - 1] if rule["overlap"] and e > 0 else [])
                    for window in stands_for:
                        if window // rule["windows"] < blocks:
                            importance[window // rule["windows"]] += p
            forced = [b < rule["initial"] or b >= blocks - rule["recent"] for b in range(blocks)]
            order = sorted(range(blocks), key=lambda b: (not forced[b], -importance[b], b))
            ids = sorted(order[:rule["count"]])
            rows.append(ids + [-1] * (rule["count"] - len(ids)))
        out.append(rows)
    return out


def cases(kind):
    case = Case("sigmoid", kind, {}, 16)
    x = case.give("x", normal(1, 5, 19) + [[30.0] * 19, [-30.0] * 19])
    case.expect("out", [[sigmoid(v) for v in r] for r in x])
    yield case
    gates = [[0.0], [0.0625], [0.375], [0.5], [0.75], [1.0]]
    for edge in ("hard", "soft"):
        case = Case("head_mask", kind, {"heads": 6, "edge": edge, "temperature": 0.5}, 16, edge)
        g = case.give("g", gates)
        case.expect("out", head_mask(g, 6, edge, 0.5))
        yield case
    for start, everywhere in ((0, False), (5, False), (0, True)):
        case = Case("prefix_topk", kind, {"top_k": 3, "start": start, "everywhere": everywhere}, 0,
                    f"{start} {everywhere}")
        x = case.give("x", normal(1, 6) + [0.5, 0.5, -2.0, 0.5, 3.0])
        ids = []
        for i in range(start, len(x)):
            seen = range(len(x) if everywhere else i + 1)
            best = sorted(sorted(seen, key=lambda j: (-x[j], j))[:3])
            ids.append(best + [-1] * (3 - len(best)))
        case.expect("out_idx", ids, "I64")
        yield case
    for overlap in (False, True):
        rule = {"ratio": 2, "windows": 2, "count": 3, "initial": 1, "recent": 1, "scale": 0.5,
                "overlap": overlap}
        case = Case("block_top_k", kind, rule, 0, str(overlap))
        q, k = case.give("q", normal(1, 4, 20, 3)), case.give("k", normal(2, 2, 10, 3))
        mask = [[int(2 * e + 1 <= i) for e in range(10)] for i in range(20)]
        case.give("mask", mask, "U8")
        lse = case.give("lse", [[0.5] * 20 for _ in range(4)], case.stored)
        case.expect("out_idx", chosen_blocks(q, k, lse, mask, rule), "I64")
        yield case


def gradients():
    from run_op_gradients import case_of
    yield case_of("sigmoid_backward", lambda x: [[sigmoid(v) for v in r] for r in x],
                  {"x": normal(1, 3, 5)}, {"dx": "x"})
    yield case_of("head_mask_backward", lambda g: head_mask(g, 5, "soft", 0.6),
                  {"g": [[0.1], [0.45], [0.8]]}, {"dg": "g"}, {"edge": "soft", "temperature": 0.6})
