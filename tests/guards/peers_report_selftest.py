# SPDX-License-Identifier: Apache-2.0
"""The page of `make bench-peers` is tested: medians, the best peer, goals, and what is left out.

usage: peers_report_selftest.py PROJECT_FOLDER
"""
import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(sys.argv[1]) / "bench" / "peers"))
import goals  # noqa: E402
import report  # noqa: E402

FULL = goals.INSTRUCTION_SETS[0]


def way(library, us, share, steady=None, **more):
    return {"library": library, "version": "1", "way": "w", "error": 1e-6, "allowed": 1e-5, "us": us,
            "share": share, "steady": steady or [1.0] * len(us), **more}


def sampled(case, ways, instruction_set=FULL, threads=1):
    return {"case": case, "threads": threads, "instruction_set": instruction_set, "processor": "p",
            "flops": 1e6, "bytes": 2.7e6, "ways": ways}


def expect(what, got, wanted):
    if got != wanted:
        sys.exit(f"peers_report_selftest: {what}: got {got!r}, wanted {wanted!r}")


def main():
    ours = way("deepseek", [10, 12, 11, 90], [.97, .81, .9, .1], [1, 1, .9, .5])
    slow, fast = way("ggml", [30] * 4, [.3] * 4), way("oneDNN", [20] * 4, [.5] * 4)
    wrong = way("Eigen", [], [], failure="wrong result")
    row = report.row_of(sampled("gemm_f32/m8_n5632_k2048", [ours, slow, fast, wrong]))
    expect("our median without what was disturbed", (row["ours_us"], row["disturbed"]), (11, False))
    expect("the best peer", (row["best_peer"], row["best_peer_us"]), ("oneDNN w", 20))
    expect("its goal", (row["goal"], row["goal_of"], row["reached"]), (.86, "share", True))
    expect("a peer that is wrong", [f["library"] for f in row["failures"]], ["Eigen"])
    expect("all right peers", [p["library"] for p in row["peers"]], ["oneDNN", "ggml"])

    shaky = report.row_of(sampled("gemm_int4/m512_n1_k1", [way("deepseek", [4, 6, 8], [.5] * 3,
                                                               [.5, .5, .9])]))
    expect("too few steady samples count all", (shaky["ours_us"], shaky["disturbed"]), (6, True))
    expect("a goal that is missed", (shaky["goal"], shaky["reached"]), (.70, False))
    expect("no peer", shaky["best_peer"], None)

    other = report.row_of(sampled("gemm_f32/m1_n1_k1", [ours], "avx2 with fma"))
    expect("no goal on another machine", (other["goal"], other["reached"]), (None, None))
    gate = report.row_of(sampled("gate/t512_e64_k6", [way("deepseek", [44] * 3, [.5] * 3)]))
    expect("a goal in time", (gate["goal"], gate["reached"]), (45, True))
    norm = report.row_of(sampled("rms_norm/memory_8192x2048", [way("deepseek", [101] * 3, [.5] * 3)]))
    expect("a goal in bytes", (norm["goal"], norm["reached"]), (27, False))
    causal = report.row_of({**sampled("attention_bf16/causal_d64_s2048",
                                      [way("deepseek", [100] * 3, [.5] * 3)], threads=2),
                            "flops": 57e6})
    expect("a goal in operations", (causal["goal"], causal["ours_gflops"], causal["reached"]),
           (576, 570, False))
    two = goals.goal_of("gemm_f32/m1_n5632_k2048", FULL, threads=2)
    expect("two threads have goals of their own", two, (.99, "share"))
    many = {"t1": .96, "t32": .68, "t512": .58}
    expect("experts", {t: goals.goal_of(f"experts_int4/{t}_e64_k6", FULL)[0] for t in many}, many)

    data = report.summary({"about": {"date": "2026-11-29", "load": 0, "samples": 3, "seconds": 1},
                           "samples": [sampled("gate/t512_e64_k6", [ours, slow, wrong], "neon")]})
    text = report.page(data, [])
    for needed in ("neon", "| ggml | 1 |", "2.73", "Eigen w: wrong result"):
        expect(f"the page says {needed}", needed in text, True)
    print("peers_report_selftest: passed")


if __name__ == "__main__":
    main()
