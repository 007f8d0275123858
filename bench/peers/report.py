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
import os
import pathlib
import shutil
import statistics
import sys

sys.dont_write_bytecode = True  # no folder of it beside the sources
from goals import INSTRUCTION_SETS, goal_of, reached  # noqa: E402

DEBIAN_PYTHON = "/usr/bin/python3"  # the one that python3-matplotlib serves
OURS = "deepseek"
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


def ratio(row):
    """Time of the best peer over ours."""
    if not row["ours_us"] or not row["best_peer_us"]:
        return None
    return row["best_peer_us"] / row["ours_us"]


def share_text(share):
    return f"{share:.2f}" if share else ""


def goal_text(row):
    if row["goal"] is None:
        return ""
    unit = {"share": "", "us": " µs", "GB/s": " GB/s"}[row["goal_of"]]
    return f"{row['goal']}{unit}" + (" ✓" if row["reached"] else " ✗")


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
    return (f"The goals are for {' or '.join(INSTRUCTION_SETS)}; this machine has **{name}**, so none "
            "is set here.")


def kinds_of(rows):
    return list(dict.fromkeys(row["case"].split("/")[0] for row in rows))


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


# ---- plots

COLORS = {OURS: "#1f5fa8", "Eigen": "#e07b00", "OpenBLAS": "#2f8f4e", "oneDNN": "#8a4fb0",
          "ggml": "#b3261e", "ik_llama.cpp": "#5c5c5c"}


def best_of_each(row):
    """{library: share}, ours among them."""
    shares = {OURS: row["limit_share"]} if row["limit_share"] else {}
    for peer in row["peers"]:
        shares[peer["library"]] = max(peer["share"], shares.get(peer["library"], 0))
    return shares


def bars(axes, rows, label, limit=True):
    """A group of bars for each row: the share of each library's best way."""
    libraries = [name for name in COLORS if any(name in best_of_each(row) for row in rows)]
    width = 0.8 / max(1, len(libraries))
    for i, name in enumerate(libraries):
        heights = [best_of_each(row).get(name) or 0 for row in rows]
        places = [x + (i - (len(libraries) - 1) / 2) * width for x in range(len(rows))]
        axes.bar(places, heights, width * 0.94, color=COLORS[name], label=name)
        if name == OURS:
            for x, h in zip(places, heights):
                axes.text(x, h + 0.01, f"{h:.2f}", ha="center", fontsize=6.5)
    axes.set_xticks(range(len(rows)), [label(row) for row in rows], fontsize=7.5)
    if limit:
        axes.axhline(1, color="#888", linewidth=1, linestyle="--")
        axes.set_ylim(0, max(1.12, axes.get_ylim()[1] * 1.05))
    axes.spines[["top", "right"]].set_visible(False)


def panels(plt, groups, path, title):
    """groups: (heading, rows, label of a row)."""
    groups = [g for g in groups if g[1]]
    if not groups:
        return False
    columns = 2 if len(groups) > 1 else 1
    lines = -(-len(groups) // columns)
    figure, all_axes = plt.subplots(lines, columns, figsize=(6.2 * columns, 2.9 * lines + 0.9),
                                    squeeze=False)
    flat = [axes for line in all_axes for axes in line]
    for axes, (heading, rows, label) in zip(flat, groups):
        bars(axes, rows, label)
        axes.set_title(heading, fontsize=9.5)
        axes.set_ylabel("share of the limit", fontsize=8)
    for axes in flat[len(groups):]:
        axes.set_visible(False)
    known = {}
    for axes in flat:
        known.update(dict(zip(*reversed(axes.get_legend_handles_labels()))))
    figure.legend(known.values(), known.keys(), loc="lower center", ncol=len(known), fontsize=8,
                  frameon=False)
    figure.suptitle(title, fontsize=11)
    figure.tight_layout(rect=(0, 0.45 / figure.get_figheight(), 1, 1))
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True


def of_kind(rows, kind, threads=1, size=""):
    return [r for r in rows if r["case"].startswith(kind + "/") and r["threads"] == threads and
            size in r["case"]]


SHOWN_SIZE = "n5632_k2048"


def plot_gemm(plt, rows, path):
    sizes = [r["case"].split("_", 2)[2] for r in rows if r["case"].startswith("gemm_")]
    size = SHOWN_SIZE if SHOWN_SIZE in sizes else (sizes or [""])[0]
    groups = [(f"weights in {kind[5:]}, {size}", of_kind(rows, kind, size=size),
               lambda r: "M = " + r["case"].split("/")[1].split("_")[0][1:])
              for kind in kinds_of(rows) if kind.startswith("gemm_")]
    return panels(plt, groups, path, "y = x Wᵀ on one thread, weights cold: share of the limit")


def plot_experts(plt, rows, path):
    groups = [(f"experts in {kind[8:]}", of_kind(rows, kind),
               lambda r: "tokens: " + r["case"].split("/")[1].split("_")[0][1:])
              for kind in kinds_of(rows) if kind.startswith("experts_")]
    return panels(plt, groups, path, "64 experts, 6 of a token, on one thread: share of the limit")


def plot_attention(plt, rows, path):
    groups = [(f"attention, {kind.split('_')[1]}, {threads} thread{'s' * (threads > 1)}",
               of_kind(rows, kind, threads),
               lambda r: " ".join(r["case"].split("/")[1].split("_")[:2]))
              for kind in kinds_of(rows) if kind.startswith("attention_") for threads in (1, 2)]
    return panels(plt, groups, path, "Attention of 2048 tokens, 16 heads: share of the limit")


def plot_ratios(plt, rows, path):
    """Every case: time of the best peer over ours, a bar for one thread and a dot for two."""
    shown = [r for r in rows if ratio(r)]
    if not shown:
        return False
    cases = list(dict.fromkeys(r["case"] for r in reversed(shown)))
    figure, axes = plt.subplots(figsize=(9, 1.4 + 0.15 * len(cases)))
    for row in shown:
        value, y = ratio(row), cases.index(row["case"])
        color = COLORS[OURS] if value >= 1 else "#b3261e"
        if row["threads"] == 1:
            axes.barh(y, value - 1, 0.76, left=1, color=color, alpha=0.85)
            axes.text(max(value, 1) * 1.04, y, f"{value:.2f}  {row['best_peer']}", va="center",
                      fontsize=5.5)
        else:
            axes.scatter(value, y, 13, color=color, edgecolor="black", linewidth=0.5, zorder=3)
    axes.set_yticks(range(len(cases)), cases, fontsize=5.5)
    axes.set_xscale("log")
    low, high = min(ratio(r) for r in shown), max(ratio(r) for r in shown)
    axes.set_xlim(min(0.5, low * 0.9), high * 2.2)
    ticks = [t for t in (0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32) if low / 2 <= t <= high * 2]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks], fontsize=7)
    axes.minorticks_off()
    axes.axvline(1, color="#444", linewidth=1)
    axes.set_ylim(-0.7, len(cases) - 0.3)
    axes.set_xlabel("time of the best peer over ours: bars 1 thread, dots 2 threads "
                    "(right of 1: ours is faster)", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True


PLOTS = (("peers_gemm.png", "Share of the limit of products by library", plot_gemm),
         ("peers_experts.png", "Share of the limit of experts by library", plot_experts),
         ("peers_attention.png", "Share of the limit of attention by library", plot_attention),
         ("peers_ratio.png", "Time of the best peer over ours, all rows", plot_ratios))


def plotted(rows, folder):
    """[(name, caption)] of the plots that there is data for."""
    try:
        import matplotlib
        matplotlib.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError:
        if os.path.exists(DEBIAN_PYTHON) and sys.executable != DEBIAN_PYTHON:
            os.execv(DEBIAN_PYTHON, [DEBIAN_PYTHON, *sys.argv])
        print(f"report: no plots: {sys.executable} has no matplotlib (Debian: python3-matplotlib)",
              file=sys.stderr)
        return []
    return [(name, caption) for name, caption, plot in PLOTS if plot(plt, rows, folder / name)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("samples", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--keep", type=pathlib.Path)
    options = parser.parse_args()
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
