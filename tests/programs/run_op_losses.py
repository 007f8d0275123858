# SPDX-License-Identifier: Apache-2.0
"""Cases of run_op: distillation, contrastive, preference, task weights, elastic weights, masks;
their gradients in double against 4-point differences."""
import math

from run_op_cases import Case, normal


def distilled(student, teacher, targets, temperature, hard):
    from run_op_oracle import softmax_row
    rows = [i for i, t in enumerate(targets) if t >= 0]
    soft = ce = 0.0
    for i in rows:
        p = softmax_row([v / temperature for v in teacher[i]])
        q = softmax_row([v / temperature for v in student[i]])
        soft += temperature ** 2 * math.fsum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q))
        ce -= math.log(softmax_row(student[i])[targets[i]])
    ce, soft = ce / len(rows), soft / len(rows)
    return hard * ce + (1 - hard) * soft, ce, soft


def contrasted(scores):
    n = len(scores)
    columns = list(zip(*scores))
    lse = [math.log(math.fsum(math.exp(v) for v in r)) for r in scores + columns]
    return (math.fsum(lse) - 2 * math.fsum(scores[i][i] for i in range(n))) / (2 * n)


def preferred(rewards, pairs, margin, centering):
    total = 0.0
    for w, l in pairs:
        total += math.log1p(math.exp(margin - rewards[w] + rewards[l]))
        total += centering * (rewards[w] + rewards[l]) ** 2
    return total / len(pairs)


def unit(x):
    norms = [math.sqrt(math.fsum(v * v for v in r)) for r in x]
    return [[v / n for v in r] for r, n in zip(x, norms)]


def cases(kind):
    exact = kind == "f64"
    case = Case("distillation", kind, {"temperature": 2, "hard": 0.3}, 64)
    s, t = case.give("student", normal(1, 4, 9)), case.give("teacher", normal(2, 4, 9))
    targets = [2, -100, 8, 0]
    case.give("targets", targets, "I64")
    for name, value in zip(("out", "out_hard", "out_soft"), distilled(s, t, targets, 2, 0.3)):
        case.expect(name, [value], "F64")
    yield case
    case = Case("distillation", kind, {}, 64, "no targets")
    s, t = case.give("student", [[1.0, 2.0, 3.0]]), case.give("teacher", [[3.0, 1.0, 0.0]])
    case.expect("out", [2.073816329 if not exact else distilled(s, t, [0], 2, 0)[0]], "F64")
    yield case
    case = Case("contrastive", kind, {}, 64)
    case.expect("out", [contrasted(case.give("scores", normal(3, 5, 5)))], "F64")
    yield case
    case = Case("unit_rows", kind, {}, 16)
    case.expect("out", unit(case.give("x", normal(4, 3, 7))))
    yield case
    case = Case("preference", kind, {"margin": 0.5, "centering": 0.1}, 64)
    pairs = [[0, 3], [2, 1], [4, 0]]
    rewards = case.give("rewards", normal(5, 5))
    case.give("pairs", pairs, "I64")
    case.expect("out", [preferred(rewards, pairs, 0.5, 0.1)], "F64")
    case.expect("out_accuracy", [sum(rewards[w] > rewards[l] for w, l in pairs) / 3], "F64")
    yield case
    case = Case("uncertainty_weights", kind, {}, 16)
    losses = case.give("losses", [0.5, 2.0, 1.25])
    s, a = case.give("log_variances", [0.25, -0.5, 0.0]), case.give("factors", [1.0, 0.5, 1.0])
    weights = [f * math.exp(-v) for f, v in zip(a, s)]
    case.expect("out", [math.fsum(w * l + v / 2 for w, l, v in zip(weights, losses, s))], "F64")
    case.expect("out_weights", weights)
    case.expect("dlog_variances", [0.5 - w * l for w, l in zip(weights, losses)])
    yield case
    case = Case("elastic_weights", kind, {"lambda": 2, "decay": 0.5, "factor": 0.25}, 64)
    w, a = case.give("w", normal(6, 9)), case.give("anchor", normal(7, 9))
    f = case.give("fisher", [abs(v) for v in normal(8, 9)])
    dw = [2 * g * (x - y) for g, x, y in zip(f, w, a)]
    case.expect("out", [math.fsum(g * (x - y) ** 2 for g, x, y in zip(f, w, a))], "F64")
    case.expect("dw", dw)
    case.expect("out_fisher", [0.5 * g + 0.25 * d * d for g, d in zip(f, dw)])
    yield case
    case = Case("n_of_m_mask", kind, {}, 0)
    case.give("x", [[1.0, -2.0, 0.5, -1.0, 3.0, 3.0, 3.0, -4.0]])
    case.expect("out", [[1, 1, 0, 0, 1, 0, 0, 1]], "I64")
    yield case
    case = Case("apply_mask", kind, {}, 0)
    x, mask = case.give("x", normal(9, 2, 3)), [[1, 0, 1], [0, 0, 2]]
    case.give("mask", mask, "U8")
    case.expect("out", [[v if m else 0.0 for v, m in zip(*r)] for r in zip(x, mask)])
    yield case


def gradients():
    from run_op_gradients import NEAR, case_of, differences
    case = Case("distillation", "f64", {"temperature": 3, "hard": 0.3}, NEAR, "gradient")
    s, t, targets = normal(1, 4, 6), normal(2, 4, 6), [2, -100, 5, 0]
    case.give("student", s)
    case.give("teacher", t)
    case.give("targets", targets, "I64")
    case.expect("dstudent", differences(lambda s: [distilled(s, t, targets, 3, 0.3)[0]], {"s": s},
                                        [1.0], "s"))
    yield case
    case = Case("contrastive", "f64", {}, NEAR, "gradient")
    scores = case.give("scores", normal(3, 4, 4))
    case.expect("dscores", differences(lambda s: [contrasted(s)], {"s": scores}, [1.0], "s"))
    yield case
    case = Case("preference", "f64", {"margin": 0.5, "centering": 0.1}, NEAR, "gradient")
    rewards, pairs = case.give("rewards", normal(5, 5)), [[0, 3], [2, 1], [0, 2]]
    case.give("pairs", pairs, "I64")
    case.expect("drewards", differences(lambda r: [preferred(r, pairs, 0.5, 0.1)],
                                        {"r": rewards}, [1.0], "r"))
    yield case
    yield case_of("unit_rows", unit, {"x": normal(4, 3, 5)}, {"dx": "x"})
