# SPDX-License-Identifier: Apache-2.0
"""Cases of run_op: attention under patterns written as text, tables of a run, score modifiers, and
its gradient with them."""
import math

from run_op_cases import NAN, Case, normal
from run_op_gradients import NEAR, case_of


def near(w):
    return lambda q, k: abs(q - k) <= w


def past(rule=lambda q, k: True):
    return lambda q, k: k <= q and rule(q, k)


def text_of(position):
    """The text that a position belongs to, lengths 3, 0, 5, 4."""
    return next((d for d, end in enumerate((3, 3, 8, 12)) if position < end), None)


BLOCKS = [[1, 0, 1], [0, 1, 0], [1, 1, 1]]
IDS = [[0, 5, -1], [-1, -1, -1], [7, 2, 2], [1, 0, 3], [3, 11, 4], [5, -1, 0], [6, 6, 6], [0, 1, 2],
       [8, 3, -1], [9, 10, 11], [2, 4, 8], [11, 0, 5]]

# text, rule(query position, key position), tensors
PATTERNS = (
    ("everyone", lambda q, k: True, ()),
    ("local<2>", near(2), ()),
    ("both<causal, sliding<3>>", past(near(2)), ()),
    ("windowed<4>", lambda q, k: q // 4 == k // 4, ()),
    ("block<3, 1>", lambda q, k: abs(q // 3 - k // 3) <= 1, ()),
    ("both<strided<4>,causal>", past(lambda q, k: (q - k) % 4 == 0), ()),
    ("dilated<2, 3>", lambda q, k: abs(q - k) <= 6 and (q - k) % 3 == 0, ()),
    ("both< causal , fixed<4> >", past(lambda q, k: q // 4 == k // 4 or k % 4 == 3), ()),
    ("fixed<3, 2>", lambda q, k: q // 3 == k // 3 or k % 3 >= 1, ()),
    ("either<local<1>, global_tokens<2>>", lambda q, k: abs(q - k) <= 1 or q < 2 or k < 2, ()),
    ("streaming<1, 3>", past(lambda q, k: k < 1 or q - k < 3), ()),
    ("compressed<2>", lambda q, k: k < (q + 1) // 2, ()),
    # Every block is an edge, a neighbour, or the one that may be drawn.
    ("bigbird<2, 3>", lambda q, k: bird(6, q // 2, k // 2), ()),
    ("both<causal, random_blocks<64, 1>>", past(), ()),
    ("both<causal, documents>", past(lambda q, k: text_of(q) == text_of(k)),
     (("documents", [3, 0, 5, 4], "I64"),)),
    ("either<local<0>, global_set>", lambda q, k: q == k or q in (3, 9) or k in (3, 9),
     (("globals", [3, 9], "I64"),)),
    ("index_set", lambda q, k: k in IDS[q], (("ids", IDS, "I64"),)),
    ("both<causal, shared_set>", past(lambda q, k: k in (1, 4, 6)),
     (("ids", [4, 1, -1, 6], "I64"),)),
    ("given_blocks", lambda q, k: BLOCKS[q // 4][k // 4] != 0, (("blocks", BLOCKS, "U8"),)),
)


def bird(n, i, j):
    """Blocks that the others leave are fewer than the draws, but for what may not be drawn."""
    if i in (0, n - 1) or j in (0, n - 1) or abs(i - j) <= 1:
        return True
    return not (i == 1 and j == n - 2) and not (i == n - 2 and j == 1)


def slope(heads, h):
    power = 2 ** int(math.log2(heads))
    first = 2 ** (-8 / power)
    return first ** (h + 1) if h < power else first ** ((2 * (h - power) + 1) / 2)


def head_of(q, k, v, sees, start, scale, change=lambda s, i, j: s):
    out, lse = [], []
    for i, query in enumerate(q):
        seen = [j for j in range(len(k)) if sees(start + i, j)]
        if not seen:
            out.append([0.0] * len(v[0]))
            lse.append(-math.inf)
            continue
        scores = [change(scale * math.fsum(a * b for a, b in zip(query, k[j])), start + i, j)
                  for j in seen]
        total = math.fsum(math.exp(s) for s in scores)
        out.append([math.fsum(math.exp(s) / total * v[j][d] for s, j in zip(scores, seen))
                    for d in range(len(v[0]))])
        lse.append(math.log(total))
    return out, lse


def attention(case, sees, start, heads, change=lambda h: lambda s, i, j: s, keys=12, queries=12):
    """Gives the tensors of two query heads a key-value head; what nobody sees is NaN."""
    k, v = normal(2, heads // 2, keys, 4), normal(3, heads // 2, keys, 3)
    for j in range(keys):
        if not any(sees(start + i, j) for i in range(queries)):
            for head in range(heads // 2):
                k[head][j], v[head][j] = [NAN] * 4, [NAN] * 3
    q = case.give("q", normal(1, heads, queries, 4))
    k, v = case.give("k", k), case.give("v", v)
    both = [head_of(q[h], k[h // 2], v[h // 2], sees, start, 0.5, change(h)) for h in range(heads)]
    case.expect("out", [o for o, _ in both])
    case.expect("out_lse", [lse for _, lse in both])
    return case


def cases(kind):
    for text, rule, tensors in PATTERNS if kind in ("f64", "f32") else PATTERNS[:3]:
        attrs = {"scale": 0.5, "pattern": text} | ({"block": 4} if "given_blocks" in text else {})
        case = Case("attention", kind, attrs, 24, text)
        for name, value, dtype in tensors:
            case.give(name, value, dtype)
        yield attention(case, rule, 0, 2)
    # The last five queries of twelve positions, and queries from position 4 on.
    yield attention(Case("attention", kind, {"scale": 0.5, "pattern": "streaming<1, 3>"}, 24,
                         "aligned"), past(lambda q, k: k < 1 or q - k < 3), 7, 2, queries=5)
    yield attention(Case("attention", kind, {"scale": 0.5, "pattern": "local<2>", "start": 4}, 24,
                         "start"), near(2), 4, 2, queries=3)
    yield from modifiers(kind)


def modifiers(kind):
    def biased(h, s, i, j, heads):
        return s - slope(heads, h) * abs(i - j)
    for heads in (2, 6):
        yield attention(
            Case("attention", kind, {"scale": 0.5, "pattern": "causal", "alibi": True}, 48,
                 f"alibi {heads}"), past(), 7, heads,
            lambda h, heads=heads: lambda s, i, j: biased(h, s, i, j, heads), queries=5)
    capped = Case("attention", kind, {"scale": 0.5, "pattern": "causal", "soft_cap": 0.75}, 48,
                  "soft cap")
    slopes = [0.25, 0.5]
    capped.give("slopes", slopes, "F64")
    yield attention(
        capped, past(), 0, 2,
        lambda h: lambda s, i, j: 0.75 * math.tanh((s - slopes[h] * abs(i - j)) / 0.75))
    masked = Case("attention", kind, {"scale": 0.5, "soft_cap": 2}, 48, "mask, soft cap")
    masked.give("mask", [[int((i * j) % 3 != 1) for j in range(12)] for i in range(12)], "U8")
    yield attention(masked, lambda q, k: (q * k) % 3 != 1, 0, 2,
                    lambda h: lambda s, i, j: 2 * math.tanh(s / 2))


def gradients():
    def forward(q, k, v):
        return [head_of(q[h], k[0], v[0], past(near(2)), 1, 0.7,
                        lambda s, i, j, h=h: 1.5 * math.tanh((s - slope(2, h) * abs(i - j)) / 1.5)
                        )[0] for h in range(2)]
    yield case_of("attention_backward", forward,
                  {"q": normal(1, 2, 3, 3), "k": normal(2, 1, 4, 3), "v": normal(3, 1, 4, 2)},
                  {"dq": "q", "dk": "k", "dv": "v"},
                  {"scale": 0.7, "pattern": "both<causal, local<2>>", "alibi": True,
                   "soft_cap": 1.5})


def refusals():
    def small(attrs, **tensors):
        case = Case("attention", "f32", attrs)
        for name in ("q", "k", "v"):
            case.give(name, normal(1, 2, 12, 4))
        for name, (value, dtype) in tensors.items():
            case.give(name, value, dtype)
        return case
    for text, word in (("", "no name"), ("both<causal", "no '>'"), ("local<2>>", "text after"),
                       ("local<x>", "no number"), ("both<" * 40, "more than 16 deep")):
        yield f"pattern {text[:20]}", small({"pattern": text}), 2, "config", (word,)
    for text in ("circle", "local", "local<7>", "bigbird<2, 5>", "fixed<2, 64>"):
        yield f"pattern {text}", small({"pattern": text}), 77, "unsupported", ("is not built",)
    yield "bird", small({"pattern": "bigbird<8, 1>"}), 77, "unsupported", ("is not built",)
    yield "blocks of 3", small({"pattern": "bigbird<3, 1>"}), 2, "invalid_argument", \
        ("12 keys are not 5 or more blocks of 3",)
    yield "texts", small({"pattern": "documents"}, documents=([5], "I64")), 2, "shape_mismatch", \
        ("end at 5 for 12 keys",)
    yield "cap", small({"pattern": "causal", "soft_cap": 0}), 2, "invalid_argument", ("cap is 0",)
    yield "slopes", small({"pattern": "causal"}, slopes=([1.0], "F64")), 2, "shape_mismatch", \
        ("slopes of 1 heads for an attention of 2",)
    yield "no mask", small({}), 2, "missing_tensor", ("mask",)
