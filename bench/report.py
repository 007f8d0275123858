#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns the JSON files of the benches into one Markdown page and plots.

usage: bench/report.py FOLDER [--keep bench/results/DATE-machine]

Writes FOLDER/report.md and FOLDER/*.png; --keep copies both into another folder, to be committed.
Exit status 1: a case failed, or attention's time does not grow with the length as it should.
Without matplotlib the page has no plots (Debian: python3-matplotlib).
"""
import argparse
import glob
import json
import math
import os
import shutil
import statistics
import sys

DEBIAN_PYTHON = "/usr/bin/python3"  # the one that python3-matplotlib serves
STEADY = 0.85  # samples between whose two measurements of the limit the machine changed more are bad
LEAST_SAMPLES = 3
FIT_FROM = 1024  # tokens; shorter sequences are mostly edges
# fixed: n (128 + n / 64) keys, between linear and quadratic at these lengths (keys of its own block
# of 256, and 8 of each block before).
SLOPES = {"causal": 2, "local": 1, "block": 1, "random": 1, "union": 1, "local+block": 1,
          "local+random": 1, "block+random": 1, "dilated": 1, "strided": 2,
          "fixed": 1.5, "global": 1, "streaming": 1, "bigbird": 1, "documents": 1, "alibi": 2,
          "soft_cap": 2}
SLOPE_TOLERANCE = 0.2
DENSE = "causal"  # kept tiles of a pattern are compared with its tiles
PRODUCTS = ("gemm", "gemm_backward", "grouped_gemm", "grouped_gemm_backward", "quant_gemm",
            "attention", "attention_backward")
OURS, EIGEN, OPENBLAS, REFERENCE = "cpu", "eigen", "openblas", "reference"
COLOR = {"ours": "#1f5fa8", "ours2": "#8fb8e0", EIGEN: "#e07b00", OPENBLAS: "#2f8f4e"}


class Case:
    """One op on one backend by one implementation at one shape and number of threads."""

    def __init__(self, name, samples):
        self.op, self.backend, self.implementation, self.shape, threads = name.split("/")
        self.threads = int(threads.split(":")[1])
        steady = [s for s in samples if s["steady"] >= STEADY]
        self.disturbed = len(steady) < min(LEAST_SAMPLES, len(samples))
        kept = samples if self.disturbed else steady
        self.dropped = len(samples) - len(kept)
        times = sorted(s["seconds"] for s in kept)
        self.seconds = statistics.median(times)
        self.best, self.worst = times[0], times[-1]
        for key, counter in (("share", "share"), ("flops", "flop/s"), ("bytes", "bytes/s"),
                             ("limit_flops", "limit flop/s"), ("limit_bytes", "limit bytes/s")):
            setattr(self, key, statistics.median(s[counter] for s in kept))

    @property
    def by_memory(self):
        arithmetic = self.flops / self.limit_flops if self.limit_flops else 0
        return self.bytes / self.limit_bytes > arithmetic if self.limit_bytes else False


def read(folder):
    """All cases by their parts, the context of the newest file, and what failed."""
    samples, failures, contexts = {}, [], []
    for path in sorted(glob.glob(os.path.join(folder, "*.json"))):
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        contexts.append(data["context"])
        for run in data["benchmarks"]:
            if run.get("error_occurred"):
                failures.append((run["name"], run.get("error_message", "")))
            elif run.get("run_type") == "iteration":
                samples.setdefault(run["name"], []).append(run)
    if not samples:
        sys.exit(f"report: {folder} holds no results of the benches; run `make bench` first")
    cases = {}
    for name, runs in samples.items():
        case = Case(name, runs)
        cases[case.op, case.shape, case.backend, case.implementation, case.threads] = case
    return cases, max(contexts, key=lambda c: c["date"]), sorted(set(failures)), contexts


def time_text(case):
    if case is None:
        return ""
    t = case.seconds
    for unit, size in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if t >= size:
            break
    value = t / size
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {unit}" + ("~" if case.disturbed else "")


def rate_text(case):
    value, unit = (case.bytes, "GB/s") if case.by_memory else (case.flops, "Gflop/s")
    return f"{value / 1e9:.3g} {unit}"


def share_text(case):
    return f"{case.share:.2f}" if case else ""


def ordered(keys):
    return list(dict.fromkeys(keys))


def first(cases, op, shape, backend, threads):
    return next((c for c in cases.values() if (c.op, c.shape, c.backend, c.threads) ==
                 (op, shape, backend, threads)), None)


def op_table(cases, op):
    """One row for each shape, implementation of ours and number of threads."""
    lines = ["| shape | ours | threads | time | best … worst | rate | share of limit | bound by "
             "| reference | Eigen | OpenBLAS | peer / ours | reference / ours |",
             "|---|---|--:|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|"]
    mine = sorted((c for c in cases.values() if c.op == op and c.backend == OURS),
                  key=lambda c: list(cases).index((c.op, c.shape, c.backend, c.implementation, 1)))
    for case in mine:
        peers = [first(cases, op, case.shape, EIGEN, 1) if case.threads == 1 else None,
                 first(cases, op, case.shape, OPENBLAS, case.threads)]
        reference = first(cases, op, case.shape, REFERENCE, 1)
        fastest = min((p.seconds for p in peers if p), default=None)
        peer_text = [f"{time_text(p)} ({share_text(p)})" if p else "" for p in peers]
        spread = f"{case.best / case.seconds:.2f} … {case.worst / case.seconds:.2f}"
        lines.append("| " + " | ".join([
            case.shape, case.implementation, str(case.threads), f"**{time_text(case)}**", spread,
            rate_text(case), f"**{share_text(case)}**",
            "memory" if case.by_memory else "arithmetic", time_text(reference), *peer_text,
            f"{fastest / case.seconds:.2f}" if fastest else "",
            f"{reference.seconds / case.seconds:.1f}" if reference else ""]) + " |")
    return lines


def scaling(cases):
    """{op: {pattern: [(tokens, case)]}} of the benches that vary the length."""
    found = {}
    for case in cases.values():
        if case.op.endswith("_scaling"):
            pattern, tokens = case.shape.split("_n")
            found.setdefault(case.op, {}).setdefault(pattern, []).append((int(tokens), case))
    for patterns in found.values():
        for points in patterns.values():
            points.sort(key=lambda p: p[0])
    return found


def work(case):
    """All pairs of the tiles that are visited."""
    return case.flops * case.seconds


def slope(points, of=lambda case: case.seconds):
    """Least squares in the logarithms of length and time, or of what else grows."""
    fit = [(math.log(n), math.log(of(c))) for n, c in points if n >= FIT_FROM]
    if len(fit) < 2:
        return math.nan
    mx = sum(x for x, _ in fit) / len(fit)
    my = sum(y for _, y in fit) / len(fit)
    return sum((x - mx) * (y - my) for x, y in fit) / sum((x - mx) ** 2 for x, _ in fit)


def as_expected(pattern, value):
    return abs(value - SLOPES[pattern]) <= SLOPE_TOLERANCE


def tile_rate(patterns, pattern):
    """Work per second over that of dense attention at the largest length both have."""
    rates = [{n: c.flops for n, c in patterns.get(p, [])} for p in (pattern, DENSE)]
    shared = max(rates[0].keys() & rates[1].keys(), default=None)
    return "" if shared is None else f"{rates[0][shared] / rates[1][shared]:.2f}"


def scaling_section(found):
    lines, wrong = [], []
    if not found:
        return lines, wrong
    lines += ["## Attention's time against the length of the sequence", "",
              "One head of 64, one thread. The slope is that of a straight line through logarithm "
              f"of time against logarithm of length, from {FIT_FROM} tokens: 1 is linear, 2 "
              f"quadratic (tolerance {SLOPE_TOLERANCE}). Tile rate: tiles of 64 queries by 64 keys "
              f"that are visited, per second, over those of {DENSE}, at the largest length. Tiles: "
              "the slope of their number, which where queries draw among earlier blocks grows a "
              "little faster than the length until the draws no longer meet.", "",
              "PLOT attention_scaling.png", ""]
    for op, patterns in found.items():
        lengths = ordered(n for points in patterns.values() for n, _ in points)
        lines += [f"### {op}", "",
                  "| pattern | " + " | ".join(str(n) for n in lengths) +
                  " | slope | tiles | expected | | tile rate |",
                  "|---|" + "--:|" * (len(lengths) + 3) + "---|--:|"]
        for pattern, points in patterns.items():
            times = {n: time_text(c) for n, c in points}
            value = slope(points)
            good = as_expected(pattern, value)
            if not good:
                wrong.append(f"{op} {pattern}: slope {value:.2f}, expected {SLOPES[pattern]}")
            lines.append(f"| {pattern} | " + " | ".join(times.get(n, "") for n in lengths) +
                         f" | **{value:.2f}** | {slope(points, work):.2f} | {SLOPES[pattern]} | "
                         f"{'as expected' if good else '**not as expected**'} "
                         f"| {tile_rate(patterns, pattern)} |")
        lines.append("")
    return lines, wrong


def machine_table(context, contexts):
    caches = ", ".join(f"L{c['level']} {c['type'].lower()} {c['size'] // 1024} KiB"
                       for c in context.get("caches", []))
    loads = [c["load_avg"][0] for c in contexts if c.get("load_avg")]
    rows = [("date", context["date"]), ("processor", context.get("processor", "")),
            ("processors", f"{context['num_cpus']}, {context['mhz_per_cpu']} MHz as reported"),
            ("caches", caches), ("load when the benches began",
                                 f"{min(loads):.2f} to {max(loads):.2f}" if loads else ""),
            ("deepseek", context.get("deepseek", "")), ("compiler", context.get("compiler", "")),
            ("instructions", context.get("instruction_set", "")),
            ("Eigen", context.get("eigen", "")),
            ("OpenBLAS", context.get("openblas", "not linked")),
            ("kernels OpenBLAS chose", context.get("openblas_kernels", "")),
            ("repetitions", f"{context.get('repetitions', '')}, each at least "
                            f"{context.get('min_time', '')} s")]
    return ["| | |", "|---|---|"] + [f"| {k} | {v} |" for k, v in rows if v]


READING = f"""Each case is checked against the reference before it is timed. Every repetition stands
between two measurements of what the machine can do at that moment with as many threads: the rate of
multiply-adds in registers, and the rate at which memory is read (or read and written) over as many
bytes as the case touches. **Share of limit** is the time that the slower of the two would take for
the same work, divided by the time taken; 1 is the most to hope for (a little above 1 where several
streams of memory are faster than the one of the measurement). **Bound by** says which of the two it
was. Times are medians; repetitions between whose two measurements the machine changed by more than
{(1 - STEADY) * 100:.0f} % are dropped, and where too few remain all count and the time is marked ~.
**Best … worst** are relative to the median. In the columns of the peers the share is in
parentheses. **Peer / ours**: time of the faster peer over ours, above 1 means that ours is faster;
**reference / ours**: likewise for the plain loops of the reference backend on one thread."""


def page(cases, context, failures, contexts):
    found = scaling(cases)
    lines = [f"# Benches on {context.get('processor', 'this machine')}, {context['date'][:10]}", "",
             *machine_table(context, contexts), "", READING, ""]
    if failures:
        lines += ["## Failed", ""] + [f"- `{n}`: {m}" for n, m in failures] + [""]
    lines += ["## Share of the limit", "", "PLOT share_products.png", "PLOT share_rows.png",
              "PLOT gemm.png", ""]
    section, wrong = scaling_section(found)
    lines += section + ["## All ops", ""]
    for op in ordered(c.op for c in cases.values() if not c.op.endswith("_scaling")):
        lines += [f"### {op}", "", *op_table(cases, op), ""]
    return lines, wrong


def largest_cases(cases, products):
    """For each op and implementation of ours, its largest shape: what the overview shows. Attention
    shows each pattern, gemm one prompt."""
    shown = {}
    for case in cases.values():
        if case.backend != OURS or case.threads != 1 or case.op.endswith("_scaling"):
            continue
        if (case.op in PRODUCTS) != products:
            continue
        pattern = case.shape.split("_t")[0] if case.op.startswith("attention") else ""
        key = case.op, case.implementation, pattern
        if key not in shown or case.flops * case.seconds + case.bytes * case.seconds > \
                shown[key].flops * shown[key].seconds + shown[key].bytes * shown[key].seconds:
            shown[key] = case
    if products:
        return sorted(shown.values(), key=lambda c: PRODUCTS.index(c.op))
    return sorted(shown.values(), key=lambda c: -c.share)


def plot_shares(plt, cases, products, path):
    shown = largest_cases(cases, products)
    if not shown:
        return False
    figure, axes = plt.subplots(figsize=(9.5, 1.8 + 0.36 * len(shown)))
    labels, seen = [], set()

    def mark(label, *args, draw=axes.barh, **more):
        draw(*args, label=label if label not in seen else None, **more)
        seen.add(label)

    for y, case in enumerate(reversed(shown)):
        two = cases.get((case.op, case.shape, OURS, case.implementation, 2))
        mark("ours, 1 thread", y + 0.19, case.share, 0.36, color=COLOR["ours"])
        if two:
            mark("ours, 2 threads", y - 0.19, two.share, 0.36, color=COLOR["ours2"])
        for name, backend, shape in (("Eigen, 1 thread", EIGEN, "D"),
                                     ("OpenBLAS, 1 thread", OPENBLAS, "s")):
            peer = first(cases, case.op, case.shape, backend, 1)
            if peer:
                mark(name, peer.share, y + 0.19, draw=axes.scatter, color=COLOR[backend],
                     marker=shape, s=34, zorder=3, edgecolor="white", linewidth=0.6)
        kind = f" ({case.implementation})" if case.implementation not in ("simd", "flash") else ""
        labels.append(f"{case.op}{kind}  {case.shape}")
    axes.set_yticks(range(len(shown)), labels, fontsize=8)
    axes.axvline(1, color="#888", linewidth=1, linestyle="--")
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlim(0, max(1.08, axes.get_xlim()[1]))
    axes.set_xlabel("share of the limit measured beside it (1: as fast as the machine allows)")
    axes.set_title("Products and attention: share of the limit" if products else
                   "Row-wise and element-wise ops, the largest shape of each: share of the limit",
                   fontsize=11)
    axes.grid(axis="x", color="#ddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    by_label = dict(zip(*reversed(axes.get_legend_handles_labels())))
    order = ["ours, 1 thread", "ours, 2 threads", "Eigen, 1 thread", "OpenBLAS, 1 thread"]
    order = [name for name in order if name in by_label]
    figure.legend([by_label[name] for name in order], order, loc="lower center", ncol=4,
                  fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.28 / figure.get_figheight(), 1, 1))
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return True


def plot_gemm(plt, cases, path):
    shapes = ordered(c.shape for c in cases.values()
                     if c.op == "gemm" and c.shape.endswith("_n2048_k2048"))
    if not shapes:
        return False
    kinds = [("OpenBLAS", OPENBLAS, None, COLOR[OPENBLAS]), ("Eigen", EIGEN, None, COLOR[EIGEN]),
             ("ours", OURS, "plain", COLOR["ours2"]),
             ("ours, packed weights", OURS, "packed", COLOR["ours"])]
    figure, axes = plt.subplots(figsize=(8.5, 4.2))
    for i, (label, backend, implementation, color) in enumerate(kinds):
        picked = [next((c for c in cases.values() if c.op == "gemm" and c.shape == s and
                        c.backend == backend and c.threads == 1 and
                        implementation in (None, c.implementation)), None) for s in shapes]
        if not any(picked):
            continue
        places = [x + (i - 1.5) * 0.2 for x in range(len(shapes))]
        values = [c.share if c else 0 for c in picked]
        axes.bar(places, values, 0.19, label=label, color=color)
        for x, c in zip(places, picked):
            if c:
                axes.text(x, c.share + 0.01, f"{c.share:.2f}", ha="center", fontsize=7)
    axes.set_xticks(range(len(shapes)), [s.split("_")[0][1:] for s in shapes])
    axes.set_xlabel("rows of x: tokens at once (weights 2048 x 2048, float)")
    axes.set_ylabel("share of the limit")
    axes.axhline(1, color="#888", linewidth=1, linestyle="--")
    axes.set_title("gemm on one thread: share of the limit, from one token to a prompt", fontsize=11)
    axes.set_ylim(0, max(1.08, axes.get_ylim()[1]))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="lower center", ncol=4, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return True


def plot_scaling(plt, found, path):
    if not found:
        return False
    figure, panels = plt.subplots(1, len(found), figsize=(6.4 * len(found), 6), squeeze=False,
                                  sharey=True)
    colors = {"causal": "#b3261e", "local": "#1f5fa8", "block": "#2f8f4e", "random": "#e07b00"}
    names = {"causal": "dense causal", "local": "local, 128 either side",
             "block": "blocks of 128 with neighbours", "random": "4 random blocks of 64"}
    for axes, (op, patterns) in zip(panels[0], found.items()):
        for pattern, points in patterns.items():
            axes.loglog([n for n, _ in points], [c.seconds * 1e3 for _, c in points], "o-",
                        color=colors.get(pattern), markersize=4, linewidth=1.6,
                        label=f"{names.get(pattern, pattern)}: slope {slope(points):.2f}")
        lengths = sorted({n for points in patterns.values() for n, _ in points})
        axes.set_xticks(lengths, [str(n) for n in lengths])
        axes.minorticks_off()
        axes.set_xlabel("length of the sequence, tokens")
        axes.set_title("backward" if "backward" in op else "forward", fontsize=11)
        axes.grid(color="#e4e4e4", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False, loc="upper center", ncol=2,
                    bbox_to_anchor=(0.5, -0.13))
    panels[0][0].set_ylabel("time, ms (one head of 64, one thread)")
    figure.suptitle("Attention: time against length (slope 1 is linear, 2 quadratic)", fontsize=12)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return True


def plot_all(cases, folder):
    """The plots that there is data for."""
    try:
        import matplotlib
        matplotlib.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError:
        if os.path.exists(DEBIAN_PYTHON) and sys.executable != DEBIAN_PYTHON:
            os.execv(DEBIAN_PYTHON, [DEBIAN_PYTHON, *sys.argv])
        print(f"report: no plots: {sys.executable} has no matplotlib (Debian: "
              "python3-matplotlib)", file=sys.stderr)
        return {}
    def at(name):
        return os.path.join(folder, name)
    plots = {
        "share_products.png": plot_shares(plt, cases, True, at("share_products.png")),
        "share_rows.png": plot_shares(plt, cases, False, at("share_rows.png")),
        "gemm.png": plot_gemm(plt, cases, at("gemm.png")),
        "attention_scaling.png": plot_scaling(plt, scaling(cases), at("attention_scaling.png")),
    }
    return {name for name, made in plots.items() if made}


CAPTIONS = {"share_products.png": "Share of the limit of products and attention",
            "share_rows.png": "Share of the limit of row-wise and element-wise ops",
            "gemm.png": "Share of the limit of gemm by number of rows",
            "attention_scaling.png": "Time of attention against the length of the sequence"}


def with_plots(lines, plots):
    out = []
    for line in lines:
        if not line.startswith("PLOT "):
            out.append(line)
        elif line[5:] in plots:
            out += [f"![{CAPTIONS[line[5:]]}]({line[5:]})", ""]
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", help="where the benches wrote their *.json")
    parser.add_argument("--keep", metavar="FOLDER", help="copy the page and the plots there")
    arguments = parser.parse_args()
    cases, context, failures, contexts = read(arguments.folder)
    plots = plot_all(cases, arguments.folder)
    lines, wrong = page(cases, context, failures, contexts)
    target = os.path.join(arguments.folder, "report.md")
    with open(target, "w", encoding="utf-8") as file:
        file.write("\n".join(with_plots(lines, plots)).rstrip() + "\n")
    print(f"report: {target}, {len(cases)} cases, {len(plots)} plots")
    if arguments.keep:
        os.makedirs(arguments.keep, exist_ok=True)
        for name in ["report.md", *sorted(plots)]:
            shutil.copyfile(os.path.join(arguments.folder, name),
                            os.path.join(arguments.keep, name))
        print(f"report: kept in {arguments.keep}")
    for name, message in failures:
        print(f"report: {name} {message}", file=sys.stderr)
    for text in wrong:
        print(f"report: {text}", file=sys.stderr)
    return 1 if failures or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
