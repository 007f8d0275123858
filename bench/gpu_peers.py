#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times the side-by-side peers of the CUDA backend on one GPU with the torch that is installed there (written for 2.11+cu130).
usage: gpu_peers.py [--out FILE] [--limit SECONDS] [group ...]   groups: mem gemm attn decode mla moe quant gate (default: all)
The two halves "mem gemm moe quant gate" and "attn decode mla" take up to ten minutes each; past --limit no new row starts. One JSON row
per peer is printed, the table so far goes to --out (gpu_peers.json) each time. cold_us: median, L2 flushed before each call; hot_us: mean over CUDA-graph replays of
back-to-back calls (sustained clocks, L2 warm); tflops/gbps are of hot_us when the work exceeds the L2, else of cold_us.
A peer that this build lacks gives a row with "err" and the run goes on. Inputs are random normal, never zeros.
"""

import json, os, sys, time, torch, torch._dynamo, torch.nn.functional as F
from torch.nn.attention import sdpa_kernel, SDPBackend as B
from torch.nn.attention.flex_attention import flex_attention, create_block_mask

dev, bf, f8, i8 = "cuda", torch.bfloat16, torch.float8_e4m3fn, torch.int8


def option(name, default):
    return sys.argv.pop(sys.argv.index(name) + 1) if name in sys.argv else default


T0, LIMIT, FILE = time.time(), float(option("--limit", "540")), option("--out", "gpu_peers.json")
GROUPS = [a for a in sys.argv[1:] if not a.startswith("--")]
ROWS, FLUSH = [], torch.empty(256 << 20, dtype=torch.int32, device=dev)
torch.manual_seed(0)


def rn(*s, dt=bf):
    return (
        torch.randn(*s, device=dev, dtype=torch.float32).to(dt)
        if dt != i8
        else torch.randint(-127, 128, s, device=dev, dtype=i8)
    )


def bench(fn):
    ev = lambda: torch.cuda.Event(enable_timing=True)
    for _ in range(3):
        fn()
    torch.cuda.synchronize()
    a, b = ev(), ev()
    a.record()
    fn()
    b.record()
    torch.cuda.synchronize()
    est = max(a.elapsed_time(b), 1e-3)
    n = int(min(30, max(6, 300 / est)))
    t = []
    for _ in range(n):
        FLUSH.zero_()
        a, b = ev(), ev()
        a.record()
        fn()
        b.record()
        t.append((a, b))
    torch.cuda.synchronize()
    cold = sorted(x.elapsed_time(y) for x, y in t)[n // 2]
    reps = int(min(50, max(3, 100 / est)))
    try:
        g = torch.cuda.CUDAGraph()
        with torch.cuda.graph(g):
            for _ in range(reps):
                fn()
        go = g.replay
    except Exception:
        torch.cuda.synchronize()
        go = lambda: [fn() for _ in range(reps)]
    go()
    torch.cuda.synchronize()
    a, b = ev(), ev()
    a.record()
    go()
    go()
    b.record()
    torch.cuda.synchronize()
    return cold * 1e3, a.elapsed_time(b) / (2 * reps) * 1e3


def row(op, impl, shape, fn, flop=0.0, byt=0.0):
    r = dict(op=op, impl=impl, shape=shape)
    if time.time() - T0 > LIMIT:
        r["err"] = "skipped: time limit"
    else:
        try:
            c, h = bench(fn)
            u = h if byt > 2e8 or flop > 2e11 else c
            r.update(cold_us=round(c, 1), hot_us=round(h, 1))
            if flop:
                r["tflops"] = round(flop / u / 1e6, 1)
            if byt:
                r["gbps"] = round(byt / u / 1e3, 1)
        except Exception as e:
            r["err"] = f"{type(e).__name__}: {e}".split("\n")[0][:140]
        torch.cuda.empty_cache()
    ROWS.append(r)
    print(json.dumps(r), flush=True)
    save()


def save():  # after each row: a run that is cut short leaves what it had
    with open(FILE, "w") as out:
        json.dump(ROWS, out, indent=0)


def cmp(f):
    torch._dynamo.reset()
    return torch.compile(
        f, dynamic=False
    )  # lambdas of one line share a code object: reset, or the recompile limit bites


def mem():
    x, y = rn(1 << 30, dt=bf), torch.empty(1 << 30, dtype=bf, device=dev)
    row("copy", "torch", "2^30 bf16", lambda: y.copy_(x), byt=4 * 2**30)
    del x, y
    for n, c in [(16384, 4096), (8192, 7168), (4096, 16384), (2048, 131072)]:
        x, w = rn(n, c), rn(c)
        nb = 4.0 * n * c
        for nm, f in [
            ("softmax", lambda v: torch.softmax(v, -1)),
            ("rms_norm", lambda v: F.rms_norm(v, (c,), w, 1e-6)),
            ("silu_mul", lambda v: F.silu(v[:, : c // 2]) * v[:, c // 2 :]),
        ]:
            b = nb if nm != "silu_mul" else 3.0 * n * c
            row(nm, "eager", f"{n}x{c} bf16", lambda: f(x), byt=b)
            g = cmp(f)
            row(nm, "compile", f"{n}x{c} bf16", lambda: g(x), byt=b)


def gemm():
    for m, n, k in [
        (8192, 8192, 8192),
        (4096, 4096, 4096),
        (4096, 7168, 16384),
        (4096, 4096, 7168),
        (4096, 24576, 1536),
        (128, 7168, 16384),
        (64, 4096, 7168),
        (1, 8192, 8192),
    ]:
        fl, sh = 2.0 * m * n * k, f"{m}x{n}x{k}"
        a, b = rn(m, k), rn(n, k)
        row("gemm_bf16", "matmul", sh, lambda: a @ b.t(), fl, 2.0 * (m * k + n * k + m * n))
        q, w, by = a.to(f8), b.to(f8), float(m * k + n * k + 2 * m * n)
        s1 = torch.ones((), device=dev)
        row(
            "gemm_fp8",
            "tensorwise",
            sh,
            lambda: torch._scaled_mm(q, w.t(), s1, s1, out_dtype=bf, use_fast_accum=True),
            fl,
            by,
        )
        row(
            "gemm_fp8",
            "tensorwise-slowacc",
            sh,
            lambda: torch._scaled_mm(q, w.t(), s1, s1, out_dtype=bf, use_fast_accum=False),
            fl,
            by,
        )
        ra, rb = torch.rand(m, 1, device=dev) + 0.5, torch.rand(1, n, device=dev) + 0.5
        row(
            "gemm_fp8",
            "rowwise",
            sh,
            lambda: torch._scaled_mm(q, w.t(), ra, rb, out_dtype=bf, use_fast_accum=True),
            fl,
            by,
        )
        sa = (torch.rand(k // 128, m, device=dev) + 0.5).t()
        sb = (torch.rand((n + 127) // 128, k // 128, device=dev) + 0.5).t()

        def blk():
            S = F.ScalingType
            return F.scaled_mm(
                q, w.t(), sa, S.BlockWise1x128, sb, S.BlockWise128x128, output_dtype=bf
            )

        row("gemm_fp8", "block1x128_128x128", sh, blk, fl, by)
        if m > 16:
            x8, w8 = rn(m, k, dt=i8), rn(n, k, dt=i8)
            row(
                "gemm_int8",
                "_int_mm",
                sh,
                lambda: torch._int_mm(x8, w8.t()),
                fl,
                float(m * k + n * k + 4 * m * n),
            )
        del a, b, q, w


def attn():
    for Bz, H, S, D in [(4, 16, 8192, 128), (1, 64, 8192, 128), (4, 16, 8192, 64)]:
        q, k, v = (rn(Bz, H, S, D) for _ in range(3))
        sh = f"B{Bz} H{H} S{S} D{D}"
        full = 4.0 * Bz * H * S * S * D
        W = 1024
        for nm, be in [
            ("flash2", B.FLASH_ATTENTION),
            ("cudnn", B.CUDNN_ATTENTION),
            ("efficient", B.EFFICIENT_ATTENTION),
        ]:
            for ca in (False, True):

                def f(be=be, ca=ca):
                    with sdpa_kernel(be):
                        return F.scaled_dot_product_attention(q, k, v, is_causal=ca)

                row(
                    "attn",
                    nm,
                    sh + (" causal" if ca else " full"),
                    f,
                    full * ((S + 1) / (2 * S) if ca else 1),
                )
        if D == 64 or H == 64:
            continue
        nb = S // 128
        keep = torch.rand(nb, nb, device=dev) < 0.25
        keep |= torch.eye(nb, dtype=torch.bool, device=dev)
        i = torch.arange(nb, device=dev)
        bird = (
            keep & (torch.rand(nb, nb, device=dev) < 0.3)
            | ((i[:, None] - i[None]).abs() < 3)
            | (i[None] < 2)
            | (i[:, None] < 2)
        )
        wf = (W * S - W * (W - 1) / 2) / S / S
        masks = dict(
            full=(None, 1.0),
            causal=(lambda b, h, x, y: x >= y, (S + 1) / (2 * S)),
            window1024=(lambda b, h, x, y: (x >= y) & (x - y < W), wf),
            chunk1024=(lambda b, h, x, y: x // W == y // W, W / S),
            random25=(lambda b, h, x, y: keep[x // 128, y // 128], keep.float().mean().item()),
            bigbird=(lambda b, h, x, y: bird[x // 128, y // 128], bird.float().mean().item()),
        )
        for nm, (mm, fr) in masks.items():
            bm = create_block_mask(mm, None, None, S, S, device=dev, _compile=True) if mm else None
            for tma in (False, True):
                g = cmp(
                    lambda q, k, v, bm: flex_attention(
                        q, k, v, block_mask=bm, kernel_options={"USE_TMA": tma}
                    )
                )
                row(
                    "attn",
                    f"flex{'-tma' if tma else ''}",
                    f"{sh} {nm}",
                    lambda: g(q, k, v, bm),
                    full * fr,
                )
        del q, k, v


def decode():
    for Bz, Hq, Hk, S, D in [(64, 32, 8, 8192, 128), (8, 32, 8, 32768, 128)]:
        q, k, v = rn(Bz, Hq, 1, D), rn(Bz, Hk, S, D), rn(Bz, Hk, S, D)
        by, fl, sh = (
            4.0 * Bz * Hk * S * D,
            4.0 * Bz * Hq * S * D,
            f"B{Bz} Hq{Hq} Hkv{Hk} S{S} D{D} q1",
        )
        for nm, be in [("flash2", B.FLASH_ATTENTION), ("cudnn", B.CUDNN_ATTENTION)]:

            def f(be=be):
                with sdpa_kernel(be):
                    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

            row("decode", nm, sh, f, fl, by)
        g = cmp(lambda q, k, v: flex_attention(q, k, v, enable_gqa=True))
        row("decode", "flex", sh, lambda: g(q, k, v), fl, by)
        del q, k, v


def mla():
    H, S = 128, 4096
    q, k, v = rn(1, H, S, 192), rn(1, H, S, 192), rn(1, H, S, 128)
    fl = 2.0 * H * S * S * 320 / 2

    def f():
        with sdpa_kernel(B.CUDNN_ATTENTION):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    row("mla_prefill", "cudnn", "B1 H128 S4096 192/128 causal", f, fl)
    bm = create_block_mask(lambda b, h, x, y: x >= y, None, None, S, S, device=dev, _compile=True)
    g = cmp(lambda q, k, v, bm: flex_attention(q, k, v, block_mask=bm))
    row("mla_prefill", "flex", "B1 H128 S4096 192/128 causal", lambda: g(q, k, v, bm), fl)
    del q, k, v
    for Bz, S in [(1, 4096), (1, 32768), (128, 4096), (32, 16384), (16, 32768)]:
        q, kv = rn(Bz, H, 576), rn(Bz, S, 576)
        d = cmp(
            lambda q, kv: torch.bmm(
                torch.softmax(torch.bmm(q, kv.transpose(1, 2)).float() * 576**-0.5, -1).to(bf),
                kv[..., :512],
            )
        )
        row(
            "mla_decode",
            "bmm-compile",
            f"B{Bz} H128 S{S} 576/512",
            lambda: d(q, kv),
            2.0 * Bz * H * S * 1088,
            2.0 * Bz * S * 576,
        )
        del q, kv
    q, kv = rn(256, H, 576), rn(65536, 576)
    idx = torch.randint(0, 65536, (256, 2048), device=dev)
    d = cmp(
        lambda q, kv, ix: (
            lambda t: torch.bmm(
                torch.softmax(torch.bmm(q, t.transpose(1, 2)).float() * 576**-0.5, -1).to(bf),
                t[..., :512],
            )
        )(kv[ix])
    )
    row(
        "dsa_sparse",
        "gather-bmm-compile",
        "q256 H128 topk2048 576/512",
        lambda: d(q, kv, idx),
        2.0 * 256 * H * 2048 * 1088,
    )
    qi, ki, w = rn(2048, 64, 128), rn(8192, 128), rn(2048, 64)
    d2 = cmp(
        lambda q, k, w: (torch.relu(q.view(-1, 128) @ k.t()).view(2048, 64, -1) * w[..., None]).sum(
            1, dtype=torch.float32
        )
    )
    row(
        "dsa_indexer",
        "matmul-compile",
        "q2048 kv8192 H64 D128",
        lambda: d2(qi, ki, w),
        2.0 * 2048 * 8192 * 64 * 128,
    )


def moe():
    gm = getattr(F, "grouped_mm", None) or torch._grouped_mm
    for E, rows_, n, k in [
        (32, 32768, 4096, 7168),
        (32, 32768, 7168, 2048),
        (256, 16384, 4096, 7168),
        (256, 1024, 4096, 7168),
        (8, 32768, 4096, 7168),
    ]:
        w = torch.randn(E, n, k, device=dev, dtype=bf).transpose(1, 2)
        x = rn(rows_, k)
        fl, by = 2.0 * rows_ * n * k, 2.0 * (E * n * k + rows_ * (n + k))
        for bal in ("uniform", "skewed"):
            p = torch.ones(E) if bal == "uniform" else torch.arange(1, E + 1).float() ** -0.8
            r = 16 if rows_ >= 64 * E else 1
            c = (p / p.sum() * rows_ / r).floor().long() * r
            c[0] += rows_ - c.sum()
            offs = c.cumsum(0).to(dev, torch.int32)
            sh = f"E{E} rows{rows_} N{n} K{k} {bal}"
            row("grouped_gemm", "bf16", sh, lambda: gm(x, w, offs=offs), fl, by)
            if E <= 32:
                x8, w8 = x.to(f8), w.transpose(1, 2).to(f8).transpose(1, 2)
                sx, sw = torch.rand(rows_, device=dev), torch.rand(E, n, device=dev)
                row(
                    "grouped_gemm",
                    "fp8-rowwise",
                    sh,
                    lambda: torch._scaled_grouped_mm(
                        x8, w8, sx, sw, offs=offs, out_dtype=bf, use_fast_accum=True
                    ),
                    fl,
                    by / 2,
                )
        del w, x


def quant():
    for m, n, k in [(1, 8192, 8192), (16, 8192, 8192), (64, 8192, 8192), (256, 8192, 8192)]:
        wq = torch.randint(0, 256, (n, k // 2), device=dev, dtype=torch.uint8)
        x = rn(m, k)

        def f(p=torch._convert_weight_to_int4pack(wq, 8), z=rn(k // 128, n, 2)):
            return torch._weight_int4pack_mm(x, p, 128, z)

        row(
            "w4a16",
            "tinygemm g128",
            f"{m}x{n}x{k}",
            f,
            2.0 * m * n * k,
            n * k / 2 + n * k / 128 * 4,
        )

    def q128(x):
        y = x.float().view(x.shape[0], -1, 128)
        s = y.abs().amax(-1, True).clamp(min=1e-4) / 448
        return (y / s).to(f8).view(x.shape), s.squeeze(-1)

    x, g = rn(16384, 7168), cmp(q128)
    row("quant_1x128_fp8", "compile", "16384x7168", lambda: g(x), byt=16384 * 7168 * 3.03)


def gate():
    for t, e, k in [(8192, 256, 8), (128, 256, 8), (65536, 64, 6)]:
        x = rn(t, e, dt=torch.float32)
        row("topk", "torch", f"{t}x{e} k{k}", lambda: torch.topk(x, k), byt=4.0 * t * e)

        def ds(x):
            s = x.sigmoid()
            g = s.view(t, 8, -1).topk(2, -1)[0].sum(-1)
            m = torch.zeros_like(g).scatter_(1, g.topk(4, -1)[1], 1.0)
            return (s * m.repeat_interleave(e // 8, 1)).topk(k, -1)

        h = cmp(ds)
        row("gate_group_limited", "compile", f"{t}x{e} g8/4 k{k}", lambda: h(x), byt=4.0 * t * e)
        ids = torch.randint(0, e, (t * k,), device=dev, dtype=torch.int32)
        row(
            "moe_sort",
            "torch.sort stable",
            f"{t * k} ids<{e}",
            lambda: torch.sort(ids, stable=True),
        )
        row("moe_hist", "bincount", f"{t * k} ids<{e}", lambda: torch.bincount(ids, minlength=e))
    for n, c, k in [(64, 65536, 2048), (2048, 8192, 2048), (256, 131072, 2048)]:
        x = rn(n, c, dt=torch.float32)
        row(
            "topk",
            "torch",
            f"{n}x{c} k{k}",
            lambda: torch.topk(x, k, sorted=False),
            byt=4.0 * n * c,
        )


if __name__ == "__main__":
    print(
        json.dumps(
            dict(
                gpu=torch.cuda.get_device_name(),
                torch=torch.__version__,
                cudnn=torch.backends.cudnn.version(),
            )
        ),
        flush=True,
    )
    with torch.no_grad():
        for g in GROUPS or ["mem", "gemm", "attn", "decode", "mla", "moe", "quant", "gate"]:
            try:
                globals()[g]()
            except Exception as e:
                ROWS.append(dict(op=g, err=f"{type(e).__name__}: {e}"[:200]))
                print(json.dumps(ROWS[-1]), flush=True)
            torch._dynamo.reset()
            torch.cuda.empty_cache()
    save()
