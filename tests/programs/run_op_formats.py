# SPDX-License-Identifier: Apache-2.0
"""Cases of run_op: products with int8 channels, symmetric 4-bit groups and mxfp4, scaled columns,
rounding to a grid and its gradient straight through."""
import math

from run_op_cases import Case, flat, nest, normal

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
OFFSETS = [0, 2, 2, 5]


def cut(x, least, most):
    return min(max(x, least), most)


def int8_weights(oracle, w, kind):
    out = []
    single = oracle.float32
    for row in w:
        largest = max(abs(v) for v in row)
        s = single(largest / 127) or 1.0
        divided = (lambda v: v / s) if kind == "f64" else (lambda v: single(v / s))
        out.append([single(cut(round(divided(v)), -127, 127) * s) for v in row])
    return out


def symmetric_weights(oracle, w, group):
    out = []
    for row in oracle.singles(w):
        out.append([])
        for j in range(0, len(row), group):
            part = row[j:j + group]
            s = oracle.bfloat16(oracle.float32(max(abs(v) for v in part) / 7)) or 1.0
            out[-1] += [cut(round(oracle.float32(v / s)), -8, 7) * s for v in part]
    return out


def nearest_e2m1(x):
    code = min(range(8), key=lambda c: (abs(abs(x) - E2M1[c]), c % 2))
    return math.copysign(E2M1[code], x)


def mxfp4_weights(oracle, w):
    out = []
    for row in oracle.singles(w):
        out.append([])
        for j in range(0, len(row), 32):
            part = row[j:j + 32]
            power = math.ceil(math.log2(max(abs(v) for v in part) / 6))
            choices = [[nearest_e2m1(v / 2.0 ** p) * 2.0 ** p for v in part]
                       for p in (power, power - 1)]
            errors = [math.fsum((a - b) ** 2 for a, b in zip(c, part)) for c in choices]
            out[-1] += choices[1] if errors[1] < errors[0] else choices[0]
    return out


def grid(x, log_step, dout, least, most, zero, group):
    """Rounded numbers, and the gradients of x and log_step."""
    y, dx, dlog = [], [], [[0.0] * len(row) for row in log_step]
    for r, row in enumerate(x):
        y.append([])
        dx.append([])
        for k, v in enumerate(row):
            s = math.exp(log_step[r][k // group])
            members = min(len(row), (k // group + 1) * group) - k // group * group
            code = round(v / s) + zero
            inside = least <= code <= most
            kept = cut(code, least, most) - zero
            y[-1].append(kept * s)
            dx[-1].append(dout[r][k] if inside else 0.0)
            slope = kept - v / s if inside else kept
            dlog[r][k // group] += dout[r][k] * slope * s / math.sqrt(members * most)
    return y, dx, dlog


def cases(oracle, kind):
    x, w, experts = normal(1, 5, 150), normal(2, 40, 150), normal(3, 3, 20, 150)
    held = {"int8_weight_gemm": lambda v: int8_weights(oracle, v, kind),
            "int4_symmetric_gemm": lambda v: symmetric_weights(oracle, v, 64),
            "mxfp4_gemm": lambda v: mxfp4_weights(oracle, v)}
    for op, weights in held.items():
        attrs = {"group": 64} if "int4" in op else {}
        case = Case(op, kind, attrs, 64)
        a, b = case.give("x", x), case.give("w", w)
        case.expect("out", oracle.gemm(a, oracle.transposed(weights(b))))
        yield case
        case = Case("grouped_" + op, kind, attrs, 64)
        a, b = case.give("x", x), case.give("w", experts)
        case.give("offsets", OFFSETS, "I64")
        case.expect("out", [row for e in range(3) for row in oracle.gemm(
            a[OFFSETS[e]:OFFSETS[e + 1]], oracle.transposed(weights(b[e])))])
        yield case
    case = Case("scale_columns", kind, {}, 4)
    a, by = case.give("x", normal(4, 3, 7)), case.give("by", normal(5, 7))
    case.expect("out", [[v * s for v, s in zip(row, by)] for row in a])
    yield case
    for attrs in ({"least": -8, "most": 7, "group": 16}, {"least": 0, "most": 255, "zero": 100}):
        group = attrs.get("group", 40)
        # Far from ties, so that every type rounds alike.
        data, shape = flat(normal(6, 3, 40))
        logs = [[math.log(0.25)] * (-(-40 // group)) for _ in range(3)]
        x = nest([0.25 * (math.floor(v / 0.25 + 0.5) + 0.25 * math.tanh(v)) for v in data], shape)
        for op in ("fake_quantize", "fake_quantize_backward"):
            case = Case(op, kind, attrs, 64, f"group {group}")
            a, s = case.give("x", x), case.give("log_step", logs)
            given = normal(7, 3, 40)
            dout = case.give("dout", given) if op.endswith("backward") else given
            y, dx, dlog = grid(a, s, dout, attrs["least"], attrs["most"], attrs.get("zero", 0),
                               group)
            if op.endswith("backward"):
                case.expect("dx", dx)
                case.expect("dlog_step", dlog)
            else:
                case.expect("out", y)
            yield case
