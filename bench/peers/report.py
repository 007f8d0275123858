#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns the samples of run.py into peers.json, one Markdown page and plots.

usage: bench/peers/report.py SAMPLES.json FOLDER [--keep bench/results/DATE-machine]

FOLDER gets peers.json (rows {case, threads, ours_us, best_peer, best_peer_us, limit_share, goal}
and the times of all peers), peers.md and *.png; --keep copies them into another folder, to be
committed. Without matplotlib the page has no plots (Debian: python3-matplotlib).
"""
import argparse
import json
import pathlib
import shutil
import statistics
import sys

sys.dont_write_bytecode = True  # no folder of it beside the sources
from goals import INSTRUCTION_SETS, goal_of, reached  # noqa: E402
from plots import OURS, kinds_of, plotted, ratio  # noqa: E402

STEADY = 0.84  # samples between whose two limits the machine changed more are dropped,
LEAST = 3      # if so many remain


def medians(way):
    """{us, share, disturbed} of a way that was timed."""
    kept = [i for i, steady in enumerate(way["steady"]) if steady is not None and steady >= STEADY]
    disturbed = len(kept) < min(LEAST, len(way["us"]))
    if disturbed:
        kept = range(len(way["us"]))
    return {"library": way["library"], "way": way["way"],
            "us": statistics.median(way["us"][i] for i in kept),
            "share": statistics.median(way["share"][i] for i in kept), "disturbed": disturbed}


def row_of(sampled):
    """One row of peers.json."""
    timed = sorted((medians(w) for w in sampled["ways"] if w["us"]), key=lambda w: w["us"])
    ours = next((w for w in timed if w["library"] == OURS), None)
    best = next((w for w in timed if w["library"] != OURS), None)
    goal, counts = goal_of(sampled["case"], sampled.get("instruction_set"), sampled["threads"])
    row = {"case": sampled["case"], "threads": sampled["threads"],
           "ours_us": ours and ours["us"],
           "best_peer": best and f"{best['library']} {best['way']}",
           "best_peer_us": best and best["us"], "limit_share": ours and ours["share"],
           "goal": goal, "goal_of": counts, "disturbed": any(w["disturbed"] for w in timed),
           "best_peer_share": best and best["share"],
           "peers": [w for w in timed if w["library"] != OURS],
           "failures": [{k: w[k] for k in ("library", "way", "failure", "error", "allowed")}
                        for w in sampled["ways"] if "failure" in w]}
    row["ours_gbs"] = ours and sampled["bytes"] / ours["us"] / 1e3
    row["ours_gflops"] = ours and sampled["flops"] / ours["us"] / 1e3
    row["reached"] = reached(row)
    return row


def summary(data):
    """What peers.json holds."""
    first = next((s for s in data["samples"] if s["ways"]), {})
    libraries = {}
    for sampled in data["samples"]:
        for way in sampled["ways"]:
            if way["version"]:
                libraries.setdefault(way["library"], way["version"])
    return {"about": {**data["about"], "processor": first.get("processor"),
                      "instruction_set": first.get("instruction_set"), "libraries": libraries},
            "rows": [row_of(sampled) for sampled in data["samples"]]}


# ---- the page

def text_of(us):
    if us is None:
        return ""
    return f"{us / 1e3:.2f} ms" if us >= 1e4 else f"{us:.0f} µs" if us >= 100 else f"{us:.1f} µs"


def share_text(share):
    return f"{share:.2f}" if share else ""


def goal_text(row):
    if row["goal"] is None:
        return ""
    unit = {"share": "", "us": " µs", "GB/s": " GB/s",
            "GFLOP/s": " GFLOP/s"}[row["goal_of"]]
    return f"{row['goal']:.4g}{unit}" + (" ✓" if row["reached"] else " ✗")


def table(rows):
    lines = ["| size | threads | ours | share of limit | best peer | its time | its share | "
             "peer / ours | goal |", "|---|--:|--:|--:|---|--:|--:|--:|--:|"]
    for row in rows:
        r = ratio(row)
        lines.append("| " + " | ".join([
            row["case"].split("/")[1], str(row["threads"]),
            text_of(row["ours_us"]) + ("~" if row["disturbed"] else ""),
            f"**{share_text(row['limit_share'])}**" if row["limit_share"] else "",
            row["best_peer"] or "", text_of(row["best_peer_us"]),
            share_text(row["best_peer_share"]), f"**{r:.2f}**" if r else "", goal_text(row)]) + " |")
    return lines


def all_peers(rows):
    lines = ["| case | threads | peer | time | over ours |", "|---|--:|---|--:|--:|"]
    for row in rows:
        for peer in row["peers"]:
            over = f"{peer['us'] / row['ours_us']:.2f}" if row["ours_us"] else ""
            lines.append(f"| {row['case']} | {row['threads']} | {peer['library']} {peer['way']} | "
                         f"{text_of(peer['us'])} | {over} |")
    return lines


READING = f"""Each row is one process that holds ours and every peer that does the row. Each way's first
result is compared with plain loops in double on three rows, ours and the peers' alike; one that is
off by more than its type loses is not timed. Then one sample of each way in turn, again and again.
Every sample stands between two measurements of what the machine does at that moment on as many
threads: the row's arithmetic in registers, and a sweep through memory. **Share of limit**: the time
that the slower of the two needs for the row's work (weights once in the row's type, also for a peer
that stores them larger), over the time taken. Times are medians; samples between whose limits the
machine changed by more than {(1 - STEADY) * 100:.0f} % are dropped, ~ marks a row where fewer than
{LEAST} were left and all count. Weights are cold: calls go through copies that no cache holds.
**Peer / ours** above 1: ours is faster. Experts: 64, 6 of them, 2048 → 1408 → 2048. Attention: one
sequence of 2048, 16 heads; work is that of visible pairs."""


def failures(rows):
    lines = []
    for row in rows:
        for f in row["failures"]:
            wrong = f"; error {f['error']:.2g}, allowed {f['allowed']:.2g}" if f["error"] else ""
            lines.append(f"- {row['case']}, {row['threads']} threads: {f['library']} {f['way']}: "
                         f"{f['failure']}{wrong}")
    return ["## Left out", "", *lines, ""] if lines else []


def goals_line(data):
    name = data["about"]["instruction_set"]
    if name in INSTRUCTION_SETS:
        held = [row["reached"] for row in data["rows"] if row["reached"] is not None]
        return f"Goals reached: {sum(held)} of {len(held)}."
    return (f"The goals are for {' or '.join(INSTRUCTION_SETS)}; this machine has **{name}**, so "
            "none is set here.")


def page(data, plots):
    about, rows = data["about"], data["rows"]
    lines = [f"# Peers on {about['processor']}, {about['date'][:10]}", "",
             f"Instruction set of ours: {about['instruction_set']}. {about['samples']} samples of at "
             f"least {about['seconds']} s each; load when it began {about['load']:.1f}.", "",
             "| library | version |", "|---|---|",
             *[f"| {name} | {version} |" for name, version in about["libraries"].items()], "",
             goals_line(data), "", READING, ""]
    for name, caption in plots:
        lines += [f"![{caption}]({name})", ""]
    for kind in kinds_of(rows):
        lines += [f"## {kind}", "", *table([r for r in rows if r["case"].startswith(kind + "/")]),
                  ""]
    return "\n".join([*lines, *failures(rows), "## All peers", "", *all_peers(rows)]) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("samples", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--keep", type=pathlib.Path)
    options = parser.parse_args()
    if not options.samples.exists():
        sys.exit(f"report: there is no {options.samples}; run `make bench-peers` first")
    data = summary(json.loads(options.samples.read_text()))
    options.folder.mkdir(parents=True, exist_ok=True)
    made = plotted(data["rows"], options.folder)
    (options.folder / "peers.json").write_text(json.dumps(data, indent=1) + "\n")
    (options.folder / "peers.md").write_text(page(data, made))
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        for name in ["peers.json", "peers.md", *(name for name, _ in made)]:
            shutil.copy(options.folder / name, options.keep / name)
    print(options.folder / "peers.md")


if __name__ == "__main__":
    main()
