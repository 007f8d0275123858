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


def rope_head(x, position, theta, style):
    half, y = len(x) // 2, list(x)
    for i in range(half):
        angle = position * theta ** (-2 * i / len(x))
        first, second = (2 * i, 2 * i + 1) if style == "interleaved" else (i, i + half)
        a, b = x[first], x[second]
        y[first] = a * math.cos(angle) - b * math.sin(angle)
        y[second] = a * math.sin(angle) + b * math.cos(angle)
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
