# SPDX-License-Identifier: Apache-2.0
"""The plots of report.py: shares of the limit by library, the best peer over ours."""
import os
import sys

DEBIAN_PYTHON = "/usr/bin/python3"  # the one that python3-matplotlib serves
OURS = "deepseek"


def ratio(row):
    """Time of the best peer over ours."""
    if not row["ours_us"] or not row["best_peer_us"]:
        return None
    return row["best_peer_us"] / row["ours_us"]


def kinds_of(rows):
    return list(dict.fromkeys(row["case"].split("/")[0] for row in rows))


COLORS = {OURS: "#1f5fa8", "Eigen": "#e07b00", "OpenBLAS": "#2f8f4e", "oneDNN": "#8a4fb0",
          "oneDNN 3": "#c9a0e0", "XNNPACK": "#00909e", "PyTorch": "#e0579a", "ggml": "#b3261e",
          "ik_llama.cpp": "#5c5c5c"}
OTHER = "#b0a080"  # a library without a colour of its own


def best_of_each(row):
    """{library: share}, ours among them."""
    shares = {OURS: row["limit_share"]} if row["limit_share"] else {}
    for peer in row["peers"]:
        shares[peer["library"]] = max(peer["share"], shares.get(peer["library"], 0))
    return shares


def bars(axes, rows, label, limit=True):
    """A group of bars for each row: the share of each library's best way."""
    there = {name for row in rows for name in best_of_each(row)}
    libraries = [name for name in COLORS if name in there] + sorted(there - set(COLORS))
    width = 0.8 / max(1, len(libraries))
    for i, name in enumerate(libraries):
        heights = [best_of_each(row).get(name) or 0 for row in rows]
        places = [x + (i - (len(libraries) - 1) / 2) * width for x in range(len(rows))]
        axes.bar(places, heights, width * 0.94, color=COLORS.get(name, OTHER),
                 label=name)
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
            both = [ratio(r) for r in shown if r["case"] == row["case"]]
            axes.text(max(1, *both, value) * 1.05, y, f"{value:.2f}  {row['best_peer']}",
                      va="center", fontsize=5.5)
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
