# SPDX-License-Identifier: Apache-2.0
"""The cases of run_op: inputs rounded to their type, what is expected, how near (in roundoffs)."""
import json
import math
import random

from safetensors import Tensor, round_to

KINDS = ("f64", "f32", "bf16", "f16")
NAN, INF = math.nan, math.inf


class Case:
    def __init__(self, op, kind, attrs, factor=8, note=""):
        self.op, self.kind, self.attrs, self.factor = op, kind, attrs, factor
        self.name = f"{op} {kind} {note}".strip()
        self.tensors, self.expected = {}, {}
        # Never read: an expected result and a scale that are wrong on purpose.
        self.tensors["expected_out"] = Tensor("F32", [1], [NAN])
        self.tensors["scale_x"] = Tensor("F32", [1], [NAN])

    def metadata(self):
        return {"op": self.op, "attrs": json.dumps(self.attrs), "dtype": self.kind}

    @property
    def stored(self):
        return "F64" if self.kind == "f64" else "F32"

    def give(self, name, nested, dtype=None):
        data, shape = flat(nested)
        if dtype is None:
            data = [round_to(self.kind, x) for x in data]
        self.tensors[name] = Tensor(dtype or self.stored, shape, data)
        return nest(data, shape)

    def expect(self, name, nested, dtype=None):
        data, shape = flat(nested)
        self.expected[name] = Tensor(dtype or self.stored, shape, data)


def flat(nested):
    """The numbers of nested lists and the shape; an empty list ends the shape."""
    shape = []
    part = nested
    while isinstance(part, list):
        shape.append(len(part))
        part = part[0] if part else None
    data = nested
    for _ in shape[1:]:
        data = [x for inner in data for x in inner]
    return data, shape


def nest(data, shape):
    if len(shape) <= 1:
        return list(data)
    step = len(data) // shape[0] if shape[0] else 0
    return [nest(data[i * step:(i + 1) * step], shape[1:]) for i in range(shape[0])]


def normal(seed, *shape):
    draw = random.Random(f"{seed} {shape}")
    count = math.prod(shape)
    return nest([draw.gauss(0, 1) for _ in range(count)], list(shape))


def products(oracle, kind):
    for m, k, n in ((1, 1, 1), (3, 5, 2), (17, 33, 9), (2, 0, 3)):
        case = Case("gemm", kind, {}, 16, f"{m} {k} {n}")
        if k == 0:
            case.tensors["a"] = Tensor(case.stored, [m, 0], [])
            case.tensors["b"] = Tensor(case.stored, [0, n], [])
            case.expect("out", [[0.0] * n for _ in range(m)])
        else:
            a, b = case.give("a", normal(1, m, k)), case.give("b", normal(2, k, n))
            case.expect("out", oracle.gemm(a, b))
        yield case
    case = Case("grouped_gemm", kind, {}, 16)
    x, w = case.give("x", normal(1, 5, 3)), case.give("w", normal(2, 3, 3, 4))
    case.give("offsets", [0, 2, 2, 5], "I64")
    case.expect("out", oracle.gemm(x[:2], w[0]) + oracle.gemm(x[2:], w[2]))
    yield case
    case = Case("masked_grouped_gemm", kind, {}, 16)
    x, w = normal(1, 3, 2, 3), case.give("w", normal(2, 3, 3, 4))
    x[0][1] = x[1][0] = x[1][1] = [math.nan] * 3  # rows that are not there
    x = case.give("x", x)
    case.give("counts", [1, 0, 2], "I64")
    none = [0.0] * 4
    case.expect("out", [oracle.gemm(x[0][:1], w[0]) + [none], [none, none],
                        oracle.gemm(x[2], w[2])])
    yield case
    case = Case("add_column_sums", kind, {}, 16)
    case.expect("out", [math.fsum(c) for c in zip(*case.give("x", normal(1, 7, 5)))])
    yield case


def quantized(oracle, kind):
    near = 64 * (2.0 ** 29 if kind == "f64" else 1)  # scales are float
    for per_call in (False, True):
        attrs = {"range": "per_call" if per_call else "per_token"}
        case = Case("quant_gemm", kind, attrs, near, attrs["range"])
        x, w = case.give("x", normal(1, 5, 13)), case.give("w", normal(2, 37, 13))
        case.expect("out", oracle.int8_gemm(x, w, per_call))
        yield case
    case = Case("grouped_quant_gemm", kind, {}, near)
    x, w = case.give("x", normal(3, 5, 9)), case.give("w", normal(4, 3, 6, 9))
    case.give("offsets", [0, 2, 2, 5], "I64")
    case.expect("out", oracle.int8_gemm(x[:2], w[0], False) + oracle.int8_gemm(x[2:], w[2], False))
    yield case


def coded_weights(oracle, kind):
    near = 64
    x, w = normal(1, 5, 150), normal(2, 140, 150)
    experts, offsets = normal(3, 3, 20, 150), [0, 2, 2, 5]
    held = {"fp8_weight_gemm": oracle.fp8_weights,
            "fp8_gemm": lambda v: oracle.fp8_weights(v, float),
            "int4_gemm": lambda v: oracle.int4_weights(v, 64),
            "int4_int8_gemm": lambda v: oracle.int4_weights(v, 64)}
    rounded = {"fp8_gemm": oracle.fp8_values,
               "int4_int8_gemm": lambda v: oracle.signed_byte_values(v, kind)}
    for op, weights in held.items():
        inputs = rounded.get(op, lambda v: v)
        attrs = {"group": 64} if op.startswith("int4") else {}
        case = Case(op, kind, attrs, near)
        a, b = case.give("x", x), case.give("w", w)
        case.expect("out", oracle.gemm(inputs(a), oracle.transposed(weights(b))))
        yield case
        case = Case("grouped_" + op, kind, attrs, near)
        a, b = case.give("x", x), case.give("w", experts)
        case.give("offsets", offsets, "I64")
        case.expect("out", [row for e in range(3) for row in oracle.gemm(
            inputs(a[offsets[e]:offsets[e + 1]]), oracle.transposed(weights(b[e])))])
        yield case
    for scales in ("any", "power_of_two"):
        case = Case("quantize_fp8", kind, {"scales": scales}, 0, scales)
        codes, scale = oracle.fp8_rows(case.give("x", x), scales == "power_of_two")
        case.expect("out_codes", codes, "F32")
        case.expect("out_scale", scale, "F32")
        yield case


def integers(oracle):
    draw = random.Random(5)
    for m, k, n in ((1, 1, 1), (3, 7, 5), (13, 1300, 33)):
        case = Case("int8_gemm", "int8", {}, 0, f"{m} {k} {n}")
        del case.tensors["scale_x"]
        def extreme(rows, columns):
            return [[draw.choice((-128, -127, 127, draw.randint(-128, 127)))
                     for _ in range(columns)] for _ in range(rows)]
        a, b = extreme(m, k), extreme(k, n)
        case.give("a", a, "I8")
        case.give("b", b, "I8")
        case.expect("out", [[sum(x * y for x, y in zip(r, c)) for c in zip(*b)] for r in a], "I64")
        yield case


def rows(oracle, kind):
    case = Case("softmax", kind, {})
    x = case.give("x", normal(1, 6, 19) + [[-INF] * 19, [0.0, -INF] + [1.0] * 17])
    case.expect("out", [oracle.softmax_row(r) for r in x])
    yield case
    for op, extra in (("rmsnorm", False), ("layer_norm", True)):
        case = Case(op, kind, {"eps": 1e-5}, 12)
        x, w = case.give("x", normal(1, 5, 24)), case.give("w", normal(2, 24))
        if extra:
            bias = case.give("bias", normal(3, 24))
            case.expect("out", [oracle.layer_norm_row(r, w, bias, 1e-5) for r in x])
        else:
            case.expect("out", [oracle.rms_norm_row(r, w, 1e-5) for r in x])
        yield case
    for op in ("silu", "gelu", "relu"):
        case = Case(op, kind, {})
        x = case.give("x", normal(4, 5, 21))
        case.expect("out", [[getattr(oracle, op)(v) for v in r] for r in x])
        yield case
    case = Case("swiglu", kind, {})
    gate, up = case.give("gate", normal(1, 4, 17)), case.give("up", normal(2, 4, 17))
    case.expect("out", [[oracle.silu(a) * b for a, b in zip(r, s)] for r, s in zip(gate, up)])
    yield case


def elements(kind):
    case = Case("add", kind, {}, 2)
    x, y = case.give("x", normal(1, 3, 9)), case.give("y", normal(2, 3, 9))
    case.expect("out", [[a + b for a, b in zip(r, s)] for r, s in zip(x, y)])
    yield case
    case = Case("scale", kind, {"factor": 0.5}, 2)
    case.expect("out", [[v / 2 for v in r] for r in case.give("x", normal(1, 3, 9))])
    yield case
    case = Case("fill", kind, {"value": 1.5}, 0)
    case.give("x", normal(1, 3, 9))
    case.expect("out", [[1.5] * 9] * 3)
    yield case
    case = Case("copy", kind, {}, 0)
    case.expect("out", case.give("x", normal(1, 3, 9)))
    yield case
    case = Case("dropout", kind, {"rate": 0}, 0)
    case.expect("out", case.give("x", normal(1, 3, 9)))
    yield case
    case = Case("sum_of_squares", kind, {}, 1)
    x = case.give("x", normal(1, 3, 9))
    case.expect("out", [math.fsum(v * v for r in x for v in r)], "F64")
    yield case
    for value, finite in ((1.0, 1), (NAN, 0), (INF, 0)):
        case = Case("all_finite", kind, {}, 0, str(value))
        case.give("x", [[1.0, value]])
        case.expect("out", [finite], "I64")
        yield case


def indexing(oracle, kind):
    case = Case("hadamard", kind, {}, 12)
    case.expect("out", [oracle.hadamard_row(r) for r in case.give("x", normal(1, 3, 32))])
    yield case
    for n, m, h, d in ((1, 1, 1, 1), (5, 9, 3, 8), (3, 40, 13, 16), (6, 4, 2, 3)):
        case = Case("lightning_indexer", kind, {"scale": 0.25}, 64, f"{n} {m} {h} {d}")
        q, w = case.give("q", normal(1, n, h, d)), case.give("w", normal(2, n, h))
        k = case.give("k", normal(3, m, d))
        case.expect("out", oracle.indexer(q, k, w, 0.25))
        yield case
        case = Case("indexer_topk", kind, {"top_k": 6}, 64, f"{n} {m} {h} {d}")
        q, w = case.give("q", normal(1, n, h, d)), case.give("w", normal(2, n, h))
        k = case.give("k", normal(3, m, d))
        scores = oracle.indexer(q, k, w, 1)
        case.expect("out_idx", oracle.selection(scores, 6), "I64")
        case.expect("out_scores", scores)
        yield case
    for h, hk, n, m, d in ((1, 1, 1, 1, 1), (4, 2, 5, 9, 8), (3, 1, 40, 70, 4)):
        case = Case("attention_weights", kind, {"scale": 0.3}, 64, f"{h} {hk} {n} {m} {d}")
        q, k = case.give("q", normal(1, h, n, d)), case.give("k", normal(2, hk, m, d))
        mask = [[int(j <= i + m - n and (i, j) != (0, 0)) for j in range(m)] for i in range(n)]
        case.give("mask", mask, "U8")
        one_hot = [[float(i == j) for j in range(m)] for i in range(m)]
        heads = [oracle.attention_head(q[i], k[i * hk // h], one_hot, mask, 0.3)[0]
                 for i in range(h)]
        case.expect("out", [[math.fsum(c) / h for c in zip(*rows)] for rows in zip(*heads)])
        yield case
    case = Case("kl_divergence", kind, {}, 64)
    logits = case.give("logits", normal(1, 4, 11))
    p = case.give("p", [oracle.softmax_row(r) for r in normal(2, 3, 11)] + [[0.0] * 11])
    case.expect("out", [math.fsum(oracle.kl_row(a, b) for a, b in zip(p, logits)) / 4], "F64")
    case.expect("dlogits", [[(q * math.fsum(a) - x) / 4 for q, x in zip(oracle.softmax_row(b), a)]
                            for a, b in zip(p, logits)])
    yield case
    for power_of_two in (False, True):
        case = Case("dequantize_fp8", kind, {"power_of_two": power_of_two}, 1, str(power_of_two))
        x = case.give("x", [[v * 10.0 ** (4 * i - 6) for v in r]
                            for i, r in enumerate(normal(1, 3, 130))])
        both = [oracle.through_fp8(r, power_of_two) for r in x]
        case.expect("out", [[round_to(kind, v) for v in r] for r, _ in both])
        case.expect("out_scale", [s for _, s in both], "F32")
        yield case
    # Whole numbers: many equal scores, the lower position first.
    case = Case("indexer_topk", kind, {"top_k": 20}, 0, "ties")
    draw = random.Random(11)
    whole = lambda *shape: nest([float(draw.randint(-1, 1)) for _ in range(math.prod(shape))],
                                list(shape))
    q, k, w = case.give("q", whole(7, 2, 4)), case.give("k", whole(30, 4)), case.give("w", whole(7, 2))
    scores = oracle.indexer(q, k, w, 1)
    case.expect("out_idx", oracle.selection(scores, 20), "I64")
    case.expect("out_scores", scores)
    yield case


def attention(oracle, kind):
    for h, hk, n, m, d, dv in ((2, 1, 5, 7, 4, 3), (4, 2, 9, 9, 6, 8), (1, 1, 70, 70, 3, 2)):
        scale = 0.3
        case = Case("attention", kind, {"scale": scale}, 24, f"{h} {hk} {n} {m} {d} {dv}")
        mask = [[int((i * 7 + j * 3) % 5 != 0 and j <= i and j != 2) for j in range(m)]
                for i in range(n)]
        mask[1] = [0] * m  # a query that sees nothing
        k, v = normal(2, hk, m, d), normal(3, hk, m, dv)
        for head in range(hk):  # nobody sees key 2: what it holds must not matter
            k[head][2], v[head][2] = [NAN] * d, [NAN] * dv
        q, k, v = case.give("q", normal(1, h, n, d)), case.give("k", k), case.give("v", v)
        case.give("mask", mask, "U8")
        both = [oracle.attention_head(q[i], k[i * hk // h], v[i * hk // h], mask, scale)
                for i in range(h)]
        case.expect("out", [o for o, _ in both])
        case.expect("out_lse", [lse for _, lse in both])
        yield case
    # Keys 0 .. 6 in pages 3, 0, 4, 1 of two rows; the other rows must not matter.
    case = Case("attention", kind, {"scale": 0.5, "page_size": 2}, 24, "pages")
    pages = [3, 0, 4, 1]
    q, keys, values = case.give("q", normal(1, 2, 3, 4)), normal(2, 7, 4), normal(3, 7, 4)
    rows = [[[NAN] * 4 for _ in range(10)] for _ in range(2)]
    for t in range(7):
        row = pages[t // 2] * 2 + t % 2
        rows[0][row], rows[1][row] = keys[t], values[t]
    case.give("pages", pages, "I64")
    k, v = case.give("k", [rows[0]])[0], case.give("v", [rows[1]])[0]
    order = [pages[t // 2] * 2 + t % 2 for t in range(7)]
    mask = [[int(j <= i + 4) for j in range(7)] for i in range(3)]
    case.give("mask", mask, "U8")
    both = [oracle.attention_head(q[i], [k[t] for t in order], [v[t] for t in order], mask, 0.5)
            for i in range(2)]
    case.expect("out", [o for o, _ in both])
    case.expect("out_lse", [lse for _, lse in both])
    yield case
    for style in ("interleaved", "half"):
        case = Case("rope", kind, {"theta": 10000.0, "style": style}, 8, style)
        x, pos = case.give("x", normal(1, 3, 4, 8)), [0, 3, 1000, 2]
        case.give("pos", pos, "I64")
        case.expect("out", [[oracle.rope_head(r, p, 1e4, style) for r, p in zip(head, pos)]
                            for head in x])
        yield case


def scaled_rope(oracle, kind):
    d, pos = 16, [0, 3, 1000, 2]
    settings = {
        "linear": ({"factor": 4.0}, [10000 ** (-2 * i / d) / 4 for i in range(d // 2)], 1),
        "dynamic_ntk": ({"factor": 2.0, "original_length": 500, "length": 1001},
                        [(10000 * (2 * 1001 / 500 - 1) ** (d / (d - 2))) ** (-2 * i / d)
                         for i in range(d // 2)], 1),
        "llama3": ({"factor": 8.0, "original_length": 900},
                   oracle.llama3(d, 10000, 8, 1, 4, 900), 1),
        "yarn": ({"factor": 40.0, "original_length": 700, "mscale": 1.0},
                 oracle.yarn(d, 10000, 40, 32, 1, 700), 0.1 * math.log(40) + 1)}
    for name, (attrs, frequencies, amplitude) in settings.items():
        case = Case("rope", kind, {"theta": 10000.0, "scaling": name} | attrs, 16, name)
        x = case.give("x", normal(1, 3, 4, d))
        case.give("pos", pos, "I64")
        case.expect("out", [[oracle.rope_head(r, p, 1e4, "interleaved", frequencies, amplitude)
                             for r, p in zip(head, pos)] for head in x])
        yield case


def latent(oracle, kind):
    for h, n, m, dn, dr, dc, dv in ((3, 5, 7, 4, 2, 6, 3), (2, 1, 70, 3, 4, 8, 5),
                                    (1, 9, 9, 2, 2, 1, 1)):
        case = Case("mla", kind, {"scale": 0.3}, 64, f"{h} {n} {m} {dn} {dr} {dc} {dv}")
        mask = [[int((i * 7 + j * 3) % 5 != 0 and j <= i + m - n and j != 2) for j in range(m)]
                for i in range(n)]
        if n > 1:
            mask[1] = [0] * m  # a query that sees nothing
        c, pe = normal(2, m, dc), normal(3, m, dr)
        c[2], pe[2] = [NAN] * dc, [NAN] * dr  # nobody sees key 2
        qn, qp = case.give("q_nope", normal(1, h, n, dn)), case.give("q_pe", normal(4, h, n, dr))
        c, pe = case.give("c_kv", c), case.give("k_pe", pe)
        uk, uv = case.give("w_uk", normal(5, h, dn, dc)), case.give("w_uv", normal(6, h, dv, dc))
        case.give("mask", mask, "U8")
        heads = [oracle.mla_head(qn[i], qp[i], c, pe, uk[i], uv[i], mask, 0.3) for i in range(h)]
        case.expect("out", [o for o, _ in heads])
        case.expect("out_lse", [lse for _, lse in heads])
        yield case
    case = Case("sum_heads", kind, {}, 16)
    x = case.give("x", normal(1, 3, 4, 5))
    case.expect("out", [[math.fsum(column) for column in zip(*token)] for token in x])
    yield case


def experts(oracle, kind):
    for score, groups, norm in (("softmax", 1, False), ("softmax", 1, True), ("softmax", 4, False),
                                ("sigmoid", 1, True), ("sigmoid", 4, True), ("sigmoid", 2, False),
                                ("sqrt_softplus", 1, True)):
        attrs = {"groups": groups, "top_groups": (groups + 1) // 2, "top_k": 3, "score": score,
                 "scale": 2.5, "norm": norm}
        case = Case("gate", kind, attrs, 64, f"{score} {groups} {norm}")
        x, w = case.give("x", normal(1, 6, 8)), case.give("w", normal(2, 8, 8))
        bias = [0.0] * 8 if score == "softmax" else [0, .3, -.2, 0, .5, -.6, .1, .2]
        case.give("bias", bias, "F64")
        ids, weights = oracle.gate(x, w, bias, attrs)
        case.expect("out_idx", ids, "I64")
        case.expect("out", weights)
        yield case
    # Logits of one token; the values are known apart from these programs.
    logits = [.2, -.1, .5, .3, -.4, .9, 0, .1]
    case = Case("gate", "f64", {"groups": 4, "top_groups": 2, "top_k": 3, "score": "sigmoid",
                                "scale": 2.5, "norm": True}, 4e7, "golden")
    if kind == "f64":
        case.give("x", [[1.0]])
        case.give("w", [[z] for z in logits])
        case.give("bias", [0, .3, -.2, 0, .5, -.6, .1, .2], "F64")
        case.expect("out_idx", [[1, 7, 6]], "I64")
        case.expect("out", [[.791701354, .874965312, .833333333]])
        yield case
    ids = [[2, 0], [1, 2], [2, 3]]
    offsets, source, slot = oracle.plan(ids, 5)
    case = Case("expert_plan", kind, {"experts": 5}, 0)
    case.give("ids", ids, "I64")
    case.expect("out_offsets", offsets, "I64")
    case.expect("out_source", source, "I64")
    case.expect("out_slot", nest(slot, [3, 2]), "I64")
    yield case
    case = Case("permute", kind, {"top_k": 2}, 0)
    x = case.give("x", normal(1, 3, 4))
    case.give("source", source, "I64")
    case.expect("out", [x[s // 2] for s in source])
    yield case
    case = Case("combine", kind, {}, 4)
    x, weights = case.give("x", normal(1, 6, 4)), case.give("weights", normal(2, 3, 2))
    case.give("slot", nest(slot, [3, 2]), "I64")
    case.expect("out", [[math.fsum(weights[t][c] * x[slot[2 * t + c]][d] for c in range(2))
                         for d in range(4)] for t in range(3)])
    yield case


def tokens(oracle, kind):
    case = Case("embedding", kind, {}, 0)
    table = case.give("table", normal(1, 6, 5))
    case.give("ids", [3, 0, 3], "I64")
    case.expect("out", [table[3], table[0], table[3]])
    yield case
    case = Case("cross_entropy", kind, {"ignore": -1}, 16)
    logits, targets = case.give("logits", normal(1, 4, 9)), [2, -1, 8, 0]
    case.give("targets", targets, "I64")
    losses = [0.0 if t < 0 else -math.log(oracle.softmax_row(r)[t])
              for r, t in zip(logits, targets)]
    case.expect("out", losses)
    case.expect("out_mean", [sum(losses) / 3], "F64")
    case.expect("out_counted", [3], "I64")
    case.factor = 16 if kind in ("f64", "f32") else 1
    yield case
    case = Case("top_k", kind, {"top_k": 4}, 0)
    x = case.give("x", [[1.0, 3.0, 3.0, -2.0, 0.5, 3.0]] + normal(2, 3, 6))
    chosen = [oracle.top_k(r, 4) for r in x]
    case.expect("out_idx", chosen, "I64")
    case.expect("out", [[r[i] for i in c] for r, c in zip(x, chosen)])
    yield case
    case = Case("positions", kind, {"start": 5}, 0)
    case.give("offsets", [0, 2, 2, 5], "I64")
    case.expect("out", [5, 6, 5, 6, 7], "I64")
    yield case
    case = Case("place_rows", kind, {}, 0)
    x, y = case.give("x", normal(3, 2, 3)), case.give("y", normal(4, 5, 3))
    case.give("first", [2], "I64")
    case.expect("out", y[:2] + x + y[4:])
    yield case
    case = Case("next_tokens", kind, {"last": -100}, 0)
    case.give("ids", [3, 1, 4, 1, 5], "I64")
    case.give("offsets", [0, 2, 2, 5], "I64")
    case.expect("out", [1, -100, 1, 5, -100], "I64")
    yield case


def optimizers(oracle, kind):
    common = {"lr": 0.01, "wd": 0.1, "beta1": 0.9, "beta2": 0.95}
    for op, attrs in (("adamw", common | {"eps": 1e-8}), ("lion", common),
                      ("sgd", {"lr": 0.01, "wd": 0.1, "momentum": 0.9}),
                      ("amf", {"lr": 0.01, "beta1": 0.9, "beta2": 0.95, "momentum": 0.9,
                               "eps": 1e-8})):
        case = Case(op, kind, attrs, 64)
        p, g = case.give("p", normal(1, 21)), case.give("g", normal(2, 4, 21))
        case.expect("out", getattr(oracle, op)(p, g, **attrs))
        if op == "lion":
            case.attrs = attrs | {"eps": 1e-8}
        yield case


def cases(oracle):
    import run_op_branches
    import run_op_compressed
    import run_op_formats
    import run_op_gradients
    import run_op_routers
    import run_op_patterns
    import run_op_losses
    import run_op_windows
    for kind in KINDS:
        yield from products(oracle, kind)
        yield from rows(oracle, kind)
        yield from elements(kind)
        yield from attention(oracle, kind)
        yield from scaled_rope(oracle, kind)
        yield from latent(oracle, kind)
        yield from indexing(oracle, kind)
        yield from experts(oracle, kind)
        yield from tokens(oracle, kind)
        yield from run_op_compressed.cases(oracle, kind)
        yield from run_op_routers.routers(oracle, kind)
        yield from run_op_routers.router_losses(kind)
        yield from run_op_patterns.cases(kind)
        yield from run_op_branches.cases(kind)
        yield from run_op_losses.cases(kind)
        yield from run_op_windows.cases(kind)
    for kind in ("f64", "f32"):
        yield from optimizers(oracle, kind)
        yield from quantized(oracle, kind)
        yield from coded_weights(oracle, kind)
        yield from run_op_formats.cases(oracle, kind)
    yield from integers(oracle)
    yield from run_op_gradients.cases(oracle)
    yield from run_op_compressed.gradients()
    yield from run_op_patterns.gradients()
    yield from run_op_branches.gradients()
    yield from run_op_losses.gradients()
    yield from run_op_windows.gradients()


def small_softmax(kind):
    case = Case("softmax", kind, {})
    case.give("x", [[0.0, 1.0]])
    return case


def changed(case, **what):
    for name, value in what.items():
        setattr(case, name, value)
    return case


def refusals():
    """name, case, status, code, words of the message."""
    import run_op_patterns
    import run_op_routers
    import run_op_windows
    yield from run_op_patterns.refusals()
    yield from run_op_routers.refusals()
    yield from run_op_windows.refusals()
    x = small_softmax
    case = changed(x("f32"), op="soft_max")
    yield "unknown op", case, 2, "invalid_argument", ("soft_max", "softmax")
    yield "unknown dtype", changed(x("f32"), kind="f8"), 2, "dtype", ("f8", "bf16")
    yield "int8 softmax", changed(x("f32"), kind="int8"), 77, "unsupported", ("int8",)
    yield "attrs", changed(x("f32"), attrs={"axis": 1}), 2, "config", ("axis",)
    yield "attrs no object", changed(x("f32"), attrs=[1]), 2, "config", ("object",)
    case = x("f32")
    case.tensors["y"] = case.tensors.pop("x")
    yield "missing", case, 2, "missing_tensor", ('"x"',)
    case = x("f32")
    case.tensors["bias"] = case.tensors["x"]
    yield "unexpected", case, 2, "unexpected_tensor", ("bias",)
    case = x("f32")
    case.tensors["x"] = Tensor("F32", [2], [0.0, 1.0])
    yield "rank", case, 2, "shape_mismatch", ("x[2]", "expected 2")
    case = x("f32")
    case.tensors["x"] = Tensor("I64", [1, 2], [0, 1])
    yield "stored type", case, 2, "dtype", ("I64", "F32")
    case = x("f32")
    case.tensors["x"] = Tensor("F64", [1, 2], [0, 1])
    yield "stored wider", case, 2, "dtype", ("F64", "F32")
    case = Case("rope", "f32", {"theta": 1e4, "scaling": "yarn"})
    case.give("x", normal(1, 1, 2, 4))
    case.give("pos", [0, 1], "I64")
    yield "yarn", case, 2, "invalid_argument", ("original_length",)
    yield "scaling", changed(case, attrs={"theta": 1e4, "scaling": "ntk"}), 2, "config", ("llama3",)
    case = Case("mla", "f32", {})
    for name, shape in (("q_nope", (1, 2, 3)), ("q_pe", (1, 2, 2)), ("c_kv", (4, 5)),
                        ("k_pe", (3, 2)), ("w_uk", (1, 3, 5)), ("w_uv", (1, 3, 5))):
        case.give(name, normal(1, *shape))
    case.give("mask", [[1] * 4] * 2, "U8")
    yield "mla rows", case, 2, "shape_mismatch", ("k_pe[3, 2]", "c_kv[4, 5]")
    case = Case("gemm", "f32", {})
    case.give("a", normal(1, 2, 3))
    case.give("b", normal(1, 4, 2))
    yield "inner", case, 2, "shape_mismatch", ("[4, 2]", "[2, 3]")
    case = Case("rmsnorm", "f32", {})
    case.give("x", normal(1, 2, 3))
    case.give("w", normal(1, 3))
    yield "no eps", case, 2, "config", ("eps",)
    yield "bad eps", changed(case, attrs={"eps": -1}), 2, "invalid_argument", ("eps is -1",)
    yield "text eps", changed(case, attrs={"eps": "1"}), 2, "config", ("eps", "number")
    case = Case("embedding", "f32", {})
    case.give("ids", [0, 6], "I64")
    case.give("table", normal(1, 6, 2))
    yield "id", case, 2, "index_range", ("6",)
    case.give("ids", [0, 1 << 40], "I64")
    yield "wide id", case, 2, "index_range", ("1099511627776",)
    case = Case("grouped_gemm", "f32", {})
    case.give("x", normal(1, 4, 2))
    case.give("w", normal(1, 2, 2, 2))
    case.give("offsets", [0, 9, 4], "I64")
    yield "offsets", case, 2, "offsets", ("offsets[3]",)
    for count in (-1, 3):
        case = Case("masked_grouped_gemm", "f32", {})
        case.give("x", normal(1, 2, 2, 2))
        case.give("w", normal(1, 2, 2, 2))
        case.give("counts", [2, count], "I64")
        yield "counts", case, 2, "index_range", (f"counts[1] is {count}",)
    for attrs, code, word in (({"score": "other"}, "config", "other"),
                              ({"groups": 3}, "config", "groups 3"),
                              ({"groups": 2, "top_groups": 3}, "config", "top_groups 3"),
                              ({"groups": 8, "top_groups": 1}, "invalid_argument",
                               "2 active experts of the 1"),
                              ({"top_k": 9}, "config", "top_k is 9"),
                              ({"top_k": 1.5}, "config", "whole")):
        case = Case("gate", "f32", {"top_k": 2, "score": "softmax", "scale": 1} | attrs)
        case.give("x", normal(1, 2, 4))
        case.give("w", normal(1, 8, 4))
        case.give("bias", [0.0] * 8, "F64")
        yield f"gate {attrs}", case, 2, code, (word,)
    case = Case("gate", "f32", {"top_k": 2, "score": "sigmoid", "scale": 1})
    case.give("x", normal(1, 2, 4))
    case.give("w", normal(1, 8, 4))
    case.give("bias", [0.0] * 7, "F64")
    yield "gate bias", case, 2, "shape_mismatch", ("bias[7]", "expected 8")
    case = Case("indexer_topk", "f32", {"top_k": -1})
    for name, shape in (("q", (2, 1, 3)), ("k", (4, 3)), ("w", (2, 1))):
        case.give(name, normal(1, *shape))
    yield "no keys", case, 2, "config", ("top_k is -1",)
    case = Case("hadamard", "f32", {})
    case.give("x", normal(1, 2, 6))
    yield "not a power", case, 2, "config", ("6", "power of two")
    case = Case("attention", "f32", {"scale": 1})
    for name, shape in (("q", (3, 4, 2)), ("k", (2, 5, 2)), ("v", (2, 5, 2))):
        case.give(name, normal(1, *shape))
    case.give("mask", [[1] * 5] * 4, "U8")
    yield "heads", case, 2, "shape_mismatch", ("3 heads", "2")
    case = Case("attention", "f32", {"scale": 1})
    for name in ("q", "k", "v"):
        case.give(name, normal(1, 1, 4, 2))
    case.give("mask", [[1] * 5] * 4, "U8")
    yield "mask", case, 2, "shape_mismatch", ("mask[4, 5]",)
