# SPDX-License-Identifier: Apache-2.0
"""What each row of the bench shall reach on a machine with AVX-512, VNNI and bf16 products.

A goal is a number and what it counts: "share" of the limit measured beside it, "us" of one call at
most, "GB/s" read and written at least, "GFLOP/s" of all threads at least.
"""
import re

INSTRUCTION_SETS = ("avx512 with vnni and bf16",)

# rows of x: share of the limit; the last counts for more rows too
GEMM = {
    "f32": {1: .97, 8: .86, 32: .94, 128: .91, 512: .94},
    "bf16": {1: .97, 8: .87, 32: .93, 128: .94},
    "f16": {1: .95, 8: .80, 32: .88},
    "int8": {1: .96, 8: .86, 32: .93, 128: .94},
    "int4": {1: .94, 8: .40, 32: .55, 128: .65, 512: .70},
}
GEMM_TWO_THREADS = {**GEMM, "f32": {1: .99, 8: .94, 32: .92, 128: .91, 512: .93}}
# heads of so many elements: GFLOP/s a core, of the pairs that are seen; causal: CAUSAL of it
ATTENTION = {"f32": {64: 190, 128: 200}, "bf16": {64: 320, 128: 340}}
CAUSAL = .9
# one query against a long cache: share of the limit; a latent one is limited by arithmetic
DECODE = {"gqa": .85, "mla": .60}
# tokens: share of the limit
EXPERTS = {
    "f32": {1: .97, 32: .90, 512: .90},
    "bf16": {1: .96, 32: .90, 512: .88},
    "int8": {1: .95, 32: .87, 512: .83},
    "int4": {1: .96, 32: .68, 512: .58},
}
GATE_US = {"t512_e64_k6": 45, "t512_e256_k8": 95}
ROW_WISE_GBS = 27  # at the size of memory


def of_rows(table, count):
    return table[max(known for known in table if known <= count)]


def goal_of(case, instruction_set, threads=1):
    """(number, what it counts), or (None, None) where none is set."""
    if instruction_set not in INSTRUCTION_SETS:
        return None, None
    kind, size = case.split("/")
    if kind.startswith("gemm_"):
        table = GEMM if threads == 1 else GEMM_TWO_THREADS
        return of_rows(table[kind[5:]], int(re.match(r"m(\d+)_", size)[1])), "share"
    if kind.startswith("attention_"):
        pattern, dim = re.match(r"(\w+)_d(\d+)_", size).groups()
        rate = ATTENTION[kind[10:]][int(dim)] * (CAUSAL if pattern == "causal" else 1)
        return rate * threads, "GFLOP/s"
    if kind.startswith("decode_"):
        return DECODE[size[:3]], "share"
    if kind.startswith("experts_"):
        return of_rows(EXPERTS[kind[8:]], int(re.match(r"t(\d+)_", size)[1])), "share"
    if kind == "gate" and threads == 1:
        return GATE_US[size], "us"
    if kind in ("softmax", "rms_norm") and size.startswith("memory"):
        return ROW_WISE_GBS, "GB/s"
    return None, None


def reached(row):
    """True, False, or None without a goal."""
    if row["goal"] is None or row["ours_us"] is None:
        return None
    if row["goal_of"] == "us":
        return row["ours_us"] <= row["goal"]
    value = {"share": "limit_share", "GB/s": "ours_gbs", "GFLOP/s": "ours_gflops"}[row["goal_of"]]
    return row[value] >= row["goal"]
