# SPDX-License-Identifier: Apache-2.0
"""Sets the rows of gpu_bench beside those of gpu_peers.py: one Markdown page, one JSON.

usage: report.py OURS.jsonl PEERS.json OUTPUT_FOLDER
A row's time is its hot one where its work passes the L2, else its cold one, as both programs say
in tflops and gbps. ratio: our rate over the best peer's.
"""
import datetime
import json
import pathlib
import subprocess
import sys


def rate(row):
    return row.get("tflops") or row.get("gbps") or 0 if "err" not in row else 0


def joined(ours, peers):
    best = {}
    for row in peers:
        key = (row["op"], row["shape"])
        if rate(row) and rate(row) > rate(best.get(key, {})):
            best[key] = row
    for row in ours:
        peer = best.get((row["op"], row["shape"]), {})
        ratio = rate(row) / rate(peer) if rate(row) and rate(peer) else None
        yield row, peer, ratio


def copy_rate(ours, peers):
    return max((row.get("gbps", 0) for row in ours + peers if row["op"] == "copy"), default=0)


def page(about, ours, peers):
    copy = copy_rate(ours, peers)
    lines = [f"# GPU bench, {about['date']}", "", f"{about['gpu']}. Copy: {copy:.0f} GB/s. "
             "Rates count kept pairs and bytes that must move once.", "",
             "| op | shape | ours cold us | ours hot us | TFLOP/s | GB/s | of copy | best peer | "
             "peer rate | ratio |", "| --- " * 10 + "|"]
    for row, peer, ratio in joined(ours, peers):
        if "err" in row:
            lines.append(f"| {row['op']} | {row['shape']} | {row['err']} |" + " |" * 7)
            continue
        share = f"{row['gbps'] / copy:.2f}" if copy and row["gbps"] else ""
        lines.append(
            f"| {row['op']} | {row['shape']} | {row['cold_us']} | {row['hot_us']} | "
            f"{row['tflops']} | {row['gbps']} | {share} | {peer.get('impl', '')} | "
            f"{rate(peer) or ''} | {f'{ratio:.2f}' if ratio else ''} |")
    return "\n".join(lines) + "\n"


def main():
    ours_file, peers_file, out = (pathlib.Path(a) for a in sys.argv[1:4])
    ours = [json.loads(line) for line in ours_file.read_text().splitlines() if line.strip()]
    peers = json.loads(peers_file.read_text()) if peers_file.exists() else []
    gpu = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version,clocks.max.sm",
                          "--format=csv,noheader"], capture_output=True, text=True)
    about = {"date": datetime.date.today().isoformat(), "gpu": gpu.stdout.strip()}
    out.mkdir(parents=True, exist_ok=True)
    (out / "gpu_bench.json").write_text(
        json.dumps({"machine": about, "ours": ours, "peers": peers}, indent=1) + "\n")
    (out / "gpu_bench.md").write_text(page(about, ours, peers))
    print(out / "gpu_bench.md")


if __name__ == "__main__":
    main()
