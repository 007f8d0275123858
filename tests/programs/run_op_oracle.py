# SPDX-License-Identifier: Apache-2.0
"""What the ops should give, in plain loops over lists of lists of Python floats (double)."""
import math
import struct


def gemm(a, b):
    return [[math.fsum(x * y for x, y in zip(row, column)) for column in zip(*b)] for row in a]


def transposed(a):
    return [list(column) for column in zip(*a)]


def softmax_row(x):
    top = max(x)
    if top == -math.inf:
        return [0.0] * len(x)
    e = [math.exp(v - top) for v in x]
    total = math.fsum(e)
    return [v / total for v in e]


def rms_norm_row(x, w, eps):
    r = 1 / math.sqrt(math.fsum(v * v for v in x) / len(x) + eps)
    return [v * r * u for v, u in zip(x, w)]


def layer_norm_row(x, w, bias, eps):
    mean = math.fsum(x) / len(x)
    r = 1 / math.sqrt(math.fsum((v - mean) ** 2 for v in x) / len(x) + eps)
    return [(v - mean) * r * u + c for v, u, c in zip(x, w, bias)]


def silu(x):
    return x / (1 + math.exp(-x))


def gelu(x):
    return x * (1 + math.erf(x / math.sqrt(2))) / 2


def relu(x):
    return max(x, 0.0)


def yarn(d, base, s, fast, slow, original):
    """The frequencies of d rotated elements."""
    def corr(turns):
        return d * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))
    low, high = max(math.floor(corr(fast)), 0), min(math.ceil(corr(slow)), d - 1)
    high += 0.001 if low == high else 0
    out = []
    for i in range(d // 2):
        ramp = min(max((i - low) / (high - low), 0), 1)
        plain = base ** (-2 * i / d)
        out.append(plain / s * ramp + plain * (1 - ramp))
    return out


def llama3(d, base, s, low, high, original):
    out = []
    for i in range(d // 2):
        plain = base ** (-2 * i / d)
        wave = 2 * math.pi / plain
        t = min(max((original / wave - low) / (high - low), 0), 1)
        out.append((1 - t) * plain / s + t * plain)
    return out


def rope_head(x, position, theta, style, frequencies=None, amplitude=1):
    half, y = len(x) // 2, list(x)
    for i in range(half):
        angle = position * (frequencies[i] if frequencies else theta ** (-2 * i / len(x)))
        first, second = (2 * i, 2 * i + 1) if style == "interleaved" else (i, i + half)
        a, b = x[first], x[second]
        y[first] = amplitude * (a * math.cos(angle) - b * math.sin(angle))
        y[second] = amplitude * (a * math.sin(angle) + b * math.cos(angle))
    return y


def attention_head(q, k, v, mask, scale):
    out, lse = [], []
    for i, query in enumerate(q):
        seen = [j for j in range(len(k)) if mask[i][j]]
        if not seen:
            out.append([0.0] * len(v[0]))
            lse.append(-math.inf)
            continue
        scores = [scale * math.fsum(a * b for a, b in zip(query, k[j])) for j in seen]
        top = max(scores)
        total = math.fsum(math.exp(s - top) for s in scores)
        p = [math.exp(s - top) / total for s in scores]
        out.append([math.fsum(w * v[j][d] for w, j in zip(p, seen)) for d in range(len(v[0]))])
        lse.append(top + math.log(total))
    return out, lse


def mla_head(q_nope, q_pe, c, pe, w_uk, w_uv, mask, scale):
    """One head by its definition: keys [w_uk c; pe] and values w_uv c are formed."""
    def expand(w, x):
        return [math.fsum(a * b for a, b in zip(row, x)) for row in w]
    k = [expand(w_uk, x) + y for x, y in zip(c, pe)]
    v = [expand(w_uv, x) for x in c]
    return attention_head([a + b for a, b in zip(q_nope, q_pe)], k, v, mask, scale)


def top_k(row, k):
    return sorted(range(len(row)), key=lambda i: (-row[i], i))[:k]


def gate_scores(logits, score):
    if score == "softmax":
        return softmax_row(logits)
    if score == "sigmoid":
        return [1 / (1 + math.exp(-z)) for z in logits]
    return [math.sqrt(math.log1p(math.exp(z))) for z in logits]


def gate_choice(s, bias, k, score, groups, top_groups):
    """The k best of s + bias in the top groups: by their best (softmax) or best two added."""
    ranked = [u + v for u, v in zip(s, bias)]
    size = len(s) // groups
    counted = 1 if score == "softmax" else 2
    values = [sum(sorted(ranked[g * size:(g + 1) * size])[-counted:]) for g in range(groups)]
    kept = top_k(values, top_groups)
    return top_k([r if i // size in kept else -math.inf for i, r in enumerate(ranked)], k)


def gate_weights(s, chosen, scale, norm):
    total = math.fsum(s[i] for i in chosen) if norm else 1.0
    return [scale * s[i] / total for i in chosen]


def hadamard_row(x):
    n = len(x)
    return [math.fsum(v if bin(i & j).count("1") % 2 == 0 else -v for j, v in enumerate(x))
            / math.sqrt(n) for i in range(n)]


def indexer(q, k, w, scale):
    """scale sum_h w ReLU(q_h . k) for causal pairs, the last query at the last key, else -inf."""
    return [[scale * math.fsum(weight * relu(math.fsum(a * b for a, b in zip(head, key)))
                               for head, weight in zip(query, w[i]))
             if j <= i + len(k) - len(q) else -math.inf for j, key in enumerate(k)]
            for i, query in enumerate(q)]


def kl_row(p, logits):
    q = softmax_row(logits)
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q) if a > 0)


def through_fp8(row, power_of_two):
    """A row through e4m3 codes, one scale for 128 neighbours: its numbers and the scales."""
    codes = sorted(s * (f * 2.0 ** -9 if e == 0 else (8 + f) * 2.0 ** (e - 10))
                   for e in range(16) for f in range(8) for s in (1, -1) if (e, f) != (15, 7))
    out, scales = [], []
    for first in range(0, len(row), 128):
        tile = row[first:first + 128]
        scale = float32(float32(max([1e-4] + [abs(x) for x in tile])) / 448)
        if power_of_two:
            mantissa, exponent = math.frexp(scale)
            scale = 2.0 ** (exponent - 1 if mantissa == 0.5 else exponent)
        scales.append(scale)
        for x in tile:
            x = float32(float32(x) / scale)
            # Ties go to the code whose last bit is 0: an even multiple of its step.
            step = lambda c: 2.0 ** (max(math.frexp(abs(c))[1], -5) - 4) if c else 2.0 ** -9
            best = min(codes, key=lambda c: (abs(c - x), (abs(c) / step(c)) % 2))
            out.append(float32(best * scale))
    return out, scales


def selection(scores, k):
    """The best k above -inf of each row, best first, filled up with -1."""
    chosen = [[j for j in top_k(row, k) if row[j] > -math.inf] for row in scores]
    return [c + [-1] * (k - len(c)) for c in chosen]


def gate(x, w, bias, attrs):
    ids, weights = [], []
    for logits in gemm(x, transposed(w)):
        s = gate_scores(logits, attrs["score"])
        chosen = gate_choice(s, bias, attrs["top_k"], attrs["score"], attrs["groups"],
                             attrs["top_groups"])
        ids.append(chosen)
        weights.append(gate_weights(s, chosen, attrs["scale"], attrs["norm"]))
    return ids, weights


def adamw(p, g, lr, wd, beta1, beta2, eps):
    p, m, v = list(p), [0.0] * len(p), [0.0] * len(p)
    for t, row in enumerate(g, 1):
        for i, x in enumerate(row):
            m[i] = beta1 * m[i] + (1 - beta1) * x
            v[i] = beta2 * v[i] + (1 - beta2) * x * x
            p[i] -= lr * wd * p[i]
            p[i] -= lr * (m[i] / (1 - beta1 ** t)) / (math.sqrt(v[i] / (1 - beta2 ** t)) + eps)
    return p


def lion(p, g, lr, wd, beta1, beta2):
    p, m = list(p), [0.0] * len(p)
    for row in g:
        for i, x in enumerate(row):
            direction = beta1 * m[i] + (1 - beta1) * x
            p[i] -= lr * wd * p[i]
            p[i] -= lr * ((direction > 0) - (direction < 0))
            m[i] = beta2 * m[i] + (1 - beta2) * x
    return p


def sgd(p, g, lr, wd, momentum):
    p, buffer = list(p), [0.0] * len(p)
    for row in g:
        for i, x in enumerate(row):
            buffer[i] = momentum * buffer[i] + x
            p[i] -= lr * wd * p[i]
            p[i] -= lr * buffer[i]
    return p


def amf(p, g, lr, beta1, beta2, momentum, eps):
    p, m, v, buffer = list(p), [0.0] * len(p), [0.0] * len(p), [0.0] * len(p)
    for t, row in enumerate(g, 1):
        for i, x in enumerate(row):
            m[i] = beta1 * m[i] + (1 - beta1) * x
            v[i] = beta2 * v[i] + (1 - beta2) * x * x
            step = (m[i] / (1 - beta1 ** t)) / (math.sqrt(v[i] / (1 - beta2 ** t)) + eps)
            buffer[i] = momentum * buffer[i] + lr * step
            p[i] -= buffer[i]
    return p


def plan(ids, experts):
    """offsets, source, slot of a stable counting sort by expert."""
    flat = [(e, t * len(row) + c) for t, row in enumerate(ids) for c, e in enumerate(row)]
    order = sorted(range(len(flat)), key=lambda i: flat[i][0])
    offsets = [sum(1 for e, _ in flat if e < x) for x in range(experts + 1)]
    slot = [0] * len(flat)
    for row, assignment in enumerate(order):
        slot[assignment] = row
    return offsets, order, slot


def float32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def int8_gemm(x, w, per_call):
    """x [m][k] and w [n][k] as 8-bit codes; w by channel, x by row or by call."""
    low, high = min(min(map(min, x)), 0.0), max(max(map(max, x)), 0.0)
    out = []
    for row in x:
        if not per_call:
            low, high = min(min(row), 0.0), max(max(row), 0.0)
        s = float32((high - low) / 255)
        zero = min(max(round(-low / s), 0), 255)
        codes = [min(max(round(v / s) + zero, 0), 255) - zero for v in row]
        out.append([])
        for channel in w:
            t = float32(max(map(abs, channel)) / 127)
            out[-1].append(s * t * sum(c * round(v / t) for c, v in zip(codes, channel)))
    return out


def singles(rows):
    return [[float32(v) for v in row] for row in rows]


def e4m3(x):
    """The nearest e4m3 number, ties to the even fraction, saturating."""
    if x == 0:
        return 0.0
    unit = 2.0 ** max(math.frexp(abs(x))[1] - 4, -9)  # 3 bits behind the first
    return math.copysign(min(round(abs(x) / unit) * unit, 448.0), x)


def fp8_scale(values, power_of_two):
    scale = float32(max(max(map(abs, values)), float32(1e-4)) / 448)
    if not power_of_two:
        return scale
    fraction, exponent = math.frexp(scale)
    return 2.0 ** (exponent - 1 if fraction == 0.5 else exponent)


def fp8_rows(x, power_of_two=False):
    """codes as numbers, scales: one for 128 neighbours."""
    codes, scales = [], []
    for row in singles(x):
        scales.append([fp8_scale(row[j:j + 128], power_of_two) for j in range(0, len(row), 128)])
        codes.append([e4m3(float32(v / scales[-1][k // 128])) for k, v in enumerate(row)])
    return codes, scales


def fp8_values(x):
    codes, scales = fp8_rows(x)
    return [[q * s[k // 128] for k, q in enumerate(row)] for row, s in zip(codes, scales)]


def signed_byte_values(x, kind):
    """Rows as signed bytes with one float scale each stand for them."""
    divided = (lambda v, s: v / s) if kind == "f64" else (lambda v, s: float32(v / s))
    out = []
    for row in x:
        s = float32(max(abs(v) for v in row) / 127) or 1.0
        out.append([min(max(round(divided(v, s)), -127), 127) * s for v in row])
    return out


def fp8_weights(w, number=float32):
    """w [n][k] as blocks of 128 x 128 hold it; number: what a code times its scale becomes."""
    out = []
    for i in range(0, len(w), 128):
        block = singles(w[i:i + 128])
        scales = [fp8_scale([v for row in block for v in row[j:j + 128]], False)
                  for j in range(0, len(w[0]), 128)]
        out += [[number(e4m3(float32(v / scales[k // 128])) * scales[k // 128])
                 for k, v in enumerate(row)] for row in block]
    return out


def bfloat16(x):
    bits, = struct.unpack("<I", struct.pack("<f", x))
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def int4_weights(w, group):
    """w [n][k] as groups of 4-bit codes hold it."""
    out = []
    for row in singles(w):
        out.append([])
        for j in range(0, len(row), group):
            part = row[j:j + group]
            low, high = min(min(part), 0.0), max(max(part), 0.0)
            s = bfloat16(float32(float32(high / 15) - float32(low / 15))) or 1.0
            zero = min(max(round(float32(-low / s)), 0), 15)
            out[-1] += [(min(max(round(float32(v / s)) + zero, 0), 15) - zero) * s for v in part]
    return out
