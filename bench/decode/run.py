#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Decoding of V2-Lite's shape in 4 bits: `generate` of this library and a peer's llama-bench in turn.

usage: bench/decode/run.py FOLDER --ours build/bin/generate --peer LLAMA_BENCH --model FILE.gguf
                           [--way "-mla 3 -rtr 1"]... [--threads 1 2] [--turns 3]

FILE.gguf comes from make_gguf.py. Each turn runs ours, then every way of the peer, as processes of
their own: 128 tokens of prompt, then 64 steps of one token behind them. FOLDER gets decode.json and
decode.md. Exit status 1: the two models have not the same parameters, or a program failed.
"""
import argparse
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys

sys.dont_write_bytecode = True  # no folder of it beside the sources
import page  # noqa: E402
import shape  # noqa: E402

PROMPT, STEPS = 128, 64
WAYS = ["-mla 3 -fa 1 -fmoe 1 -rtr 1"]
# The peer takes its memory from malloc: so it gets large pages, which our tensors ask for anyhow.
LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def clocks():
    """Seconds: of the wall, of all processors at work, of this process's children."""
    ticks = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    busy = sum(map(int, ticks[:3] + ticks[5:8])) / os.sysconf("SC_CLK_TCK")
    mine = os.times()
    return mine.elapsed, busy, mine.children_user + mine.children_system


def output_of(command, **environment):
    """What it said, and the share of the processors that other programs took meanwhile."""
    before = clocks()
    done = subprocess.run(command, capture_output=True, text=True, check=False,
                          env={**os.environ, **environment})
    wall, busy, mine = (after - then for after, then in zip(clocks(), before))
    if done.returncode != 0:
        sys.exit(f"decode: {' '.join(command)} ended with {done.returncode}: {done.stderr[-500:]}")
    return done, max(0.0, busy - mine) / max(wall * os.cpu_count(), 1e-9)


def number(pattern, text):
    found = re.search(pattern, text)
    if not found:
        sys.exit(f"decode: {pattern!r} is not in what generate says:\n{text}")
    return found[1]


def run_ours(options, threads):
    """{prefill, decode} in tokens/s, and others' share, after a look at what model it was."""
    done, others = output_of([options.ours, "--random", "v2_lite", "--quantize", "int4", "--prompt-tokens",
                      str(PROMPT), "--tokens", str(STEPS + 1), "--threads", str(threads)])
    said = done.stderr
    same("bytes of our weights in MiB", number(r"weights +(\S+) MiB", said),
         f"{shape.stored(shape.OURS) / 2**20:.1f}")
    same("billions of our parameters", number(r"([\d.]+ of [\d.]+) billion", said),
         f"{shape.active_parameters() / 1e9:.2f} of {shape.parameters() / 1e9:.2f}")
    return {"others": others, **{name: float(number(rf"{name} +\d+ tokens, (\S+) tokens/s", said))
                                 for name in ("prefill", "decode")}}


def run_peer(options, way, threads):
    """The same of the peer, and its version."""
    done, others = output_of(
        [options.peer, "-m", options.model, "-t", str(threads), "-p", str(PROMPT), "-n", "0", "-gp",
         f"{PROMPT},{STEPS}", "-r", "1", "-o", "json", *way.split()], **LARGE_PAGES)
    rows = json.loads(done.stdout)
    for row in rows:
        check_peer(row)
    prefill, decode = (next(r for r in rows if (r["n_gen"] > 0) == decoding)
                       for decoding in (False, True))
    return ({"others": others, "prefill": prefill["avg_ts"], "decode": decode["avg_ts"]},
            {"peer": decode["build_commit"], "processor": decode["cpu_info"],
             "file": decode["model_type"]})


def check_peer(row):
    """Its model's size; for latent attention it holds kv_b twice, and counts it so."""
    twice = shape.latent_up() if row["mla_attn"] else 0
    same("the peer's parameters", row["model_n_params"], shape.parameters() + twice)
    same("bytes of the peer's weights", row["model_size"],
         round(shape.stored(shape.PEER) + twice * shape.PEER_COPY))


def same(what, found, wanted):
    if found != wanted:
        sys.exit(f"decode: {what}: {found}, but the shape of V2-Lite has {wanted}")


def ours_version():
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                          check=False, cwd=pathlib.Path(__file__).parent)
    return done.stdout.strip() or "no git here"


def turns(options):
    """After each turn, all samples so far as rows, and what the peer says of itself."""
    samples = {}
    for _ in range(options.turns):
        for threads in options.threads:
            samples.setdefault((threads, page.OURS), []).append(run_ours(options, threads))
            for way in options.way or WAYS:
                rates, peer = run_peer(options, way, threads)
                samples.setdefault((threads, way), []).append(rates)
        yield [{"threads": threads, "way": way, **{name: [s[name] for s in kept] for name in ("prefill", "decode", "others")}}
               for (threads, way), kept in samples.items()], peer


def write(folder, data):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "decode.json").write_text(json.dumps(data, indent=1) + "\n")
    (folder / "decode.md").write_text(page.text(data))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--ours", default="build/bin/generate")
    parser.add_argument("--peer", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--way", action="append")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    about = {"date": datetime.datetime.now().isoformat(timespec="minutes"),
             "load": os.getloadavg()[0], "processors": os.cpu_count(), "ours": ours_version(),
             "parameters": shape.parameters(), "our_bytes_a_token": shape.met(shape.OURS),
             "peer_bytes_a_token": shape.met({**shape.PEER, "kv_b": shape.PEER_COPY})}
    for done, (rows, peer) in enumerate(turns(options), 1):
        write(options.folder, {"about": {**about, **peer, "turns": done}, "rows": rows})
        print(f"decode: turn {done} of {options.turns}, {options.folder / 'decode.md'}", flush=True)


if __name__ == "__main__":
    main()
