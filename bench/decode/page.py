# SPDX-License-Identifier: Apache-2.0
"""The Markdown page of run.py: medians, the smallest and largest, and what divides ours from the peer's."""
import statistics

OURS = "ours, int4"

DIFFERENCES = """Same on both sides: the shape (parameters and bytes are compared before a figure counts), random weights, 4 bits
in groups of 32, inputs of those products made 8 bits in the call, 128 tokens of prompt, then 64 steps of one
token behind them. Different:

- Bytes: ours has a zero point a group (19 bytes for 32 numbers), Q4_0 none (18), Q4_K a least value (18 as
  well, where rows are whole blocks of 256; else Q4_0).
- `kv_b`: ours bf16; the peer takes it apart when it loads, the half that makes keys into Q8_0, and leaves the
  other half in 4 bits.
- The cache: ours float, the peer's f16. The router: float on both sides.
- Ours takes the most likely token of each step, the peer a random one, without looking at the scores.
- Ours runs the prompt once; llama-bench runs one token to warm up and then the prompt.
- Large pages: ours asks for them itself, the peer's malloc is told to."""


DISTURBED = 0.1  # others took more than this share of the processors


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} … {max(values):.2f})"


def ratio(row, ours, name):
    return f"**{statistics.median(ours[name]) / statistics.median(row[name]):.2f}**"


def table(data):
    lines = ["| threads | way | prefill, tokens/s | decode, tokens/s | decode, GB/s | "
             "others | ours / peer: prefill | decode |", "|--:|---|--:|--:|--:|--:|--:|--:|"]
    for row in data["rows"]:
        mine = row["way"] == OURS
        ours = next(r for r in data["rows"] if r["way"] == OURS and r["threads"] == row["threads"])
        size = data["about"]["our_bytes_a_token" if mine else "peer_bytes_a_token"]
        lines.append("| " + " | ".join([
            str(row["threads"]), row["way"] if mine else f"`{row['way']}`", spread(row["prefill"]),
            spread(row["decode"]), f"{size * statistics.median(row['decode']) / 1e9:.1f}",
            f"{max(row['others']):.2f}" + ("~" if max(row["others"]) > DISTURBED else ""),
            *("" if mine else ratio(row, ours, name) for name in ("prefill", "decode"))]) + " |")
    return lines


def text(data):
    about = data["about"]
    return "\n".join([
        f"# Decoding beside ik_llama.cpp, {about['processor']}, {about['date'][:10]}", "",
        f"A model of DeepSeek-V2-Lite's shape, {about['parameters']} parameters. Turns: {about['turns']}, ours "
        f"and the peer one after the other; medians (least … most). {about['processors']} processors, load "
        f"{about['load']:.1f} when it began. Ours: {about['ours']}; ik_llama.cpp: {about['peer']}, its file: "
        f"{about['file']}. **GB/s**: bytes of weights that a token meets (ours "
        f"{about['our_bytes_a_token'] / 1e9:.3f} GB, the peer's {about['peer_bytes_a_token'] / 1e9:.3f} GB) times "
        "tokens/s. **Others**: the largest share of the processors that other programs took "
        f"during a run, its loading among it; beyond {DISTURBED} (~) the row says little, above all on all "
        "processors. Ratios above 1: ours is faster.", "", *table(data), "", DIFFERENCES]) + "\n"
