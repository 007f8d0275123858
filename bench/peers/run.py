#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs peer_bench once for each row and number of threads, and writes what it says into one file.

usage: bench/peers/run.py FOLDER OUTPUT.json [--only PATTERN] [--threads N] [--samples N]
                          [--seconds S]

FOLDER holds peer_bench and the modules of the peers. One process measures one row: ours and all
peers in turn. A library that ends the process is found by leaving out one module after another, and
counts as failed there. Exit status 1: a way of ours was wrong.
"""
import argparse
import datetime
import glob
import json
import os
import pathlib
import re
import subprocess
import sys

LIMIT_SECONDS = 900


def openblas_kernels():
    """What OpenBLAS shall take where a Debian release is older than the processor, or nothing.

    0.3.21 takes SSE3 kernels on an Emerald Rapids and AVX2 ones on a Zen 4.
    """
    known = "OPENBLAS_CORETYPE" in os.environ
    flags = pathlib.Path("/proc/cpuinfo")
    wide = flags.exists() and " avx512bw" in flags.read_text(encoding="utf-8")
    return {"OPENBLAS_CORETYPE": "SkylakeX"} if wide and not known else {}


def environment(threads, options):
    """Threads of all, and short spinning for those that would spin into the sample of the next."""
    return {**os.environ, **openblas_kernels(), "OMP_NUM_THREADS": str(threads),
            "OPENBLAS_NUM_THREADS": str(threads), "OPENBLAS_THREAD_TIMEOUT": "20",
            "BENCH_SAMPLES": str(options.samples), "BENCH_MIN_TIME": str(options.seconds)}


def attempt(program, name, threads, modules, options):
    """(row or None, status, what it said)"""
    try:
        done = subprocess.run([program, name, str(threads), *modules], capture_output=True,
                              text=True, env=environment(threads, options),
                              timeout=LIMIT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return None, -1, f"no end after {LIMIT_SECONDS} s"
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"case"')]
    row = json.loads(lines[-1]) if lines else None
    return row, done.returncode, done.stderr.strip()[-300:]


def library_of(module):
    return pathlib.Path(module).stem.removeprefix("peer_")


def measured(program, name, threads, modules, options):
    """The row; where a module ends the process, the row without it, which says so."""
    row, status, said = attempt(program, name, threads, modules, options)
    if row is not None:
        return row, status
    for module in modules:
        rest = [other for other in modules if other != module]
        row, status, _ = attempt(program, name, threads, rest, options)
        if row is not None:
            row["ways"].append({"library": library_of(module), "version": "", "way": "process",
                                "failure": said or "ended the process", "error": None,
                                "allowed": None, "us": [], "share": [], "steady": []})
            return row, status
    return {"case": name, "threads": threads, "failure": said, "ways": []}, 1


def rows_of(program, options):
    listed = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        name, *threads = line.split()
        for count in map(int, threads):
            if re.search(options.only, name) and options.threads in (0, count):
                yield name, count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--samples", type=int, default=int(os.environ.get("BENCH_SAMPLES") or 7))
    parser.add_argument("--seconds", type=float,
                        default=float(os.environ.get("BENCH_MIN_TIME") or 0.01))
    options = parser.parse_args()
    program = os.path.join(options.folder, "peer_bench")
    modules = sorted(glob.glob(os.path.join(options.folder, "peer_*.so")))
    about = {"date": datetime.datetime.now().isoformat(timespec="minutes"),
             "load": os.getloadavg()[0], "samples": options.samples, "seconds": options.seconds}
    wanted = list(rows_of(program, options))
    if not wanted:
        sys.exit(f"run: no row matches {options.only!r}; peer_bench --list shows them")
    rows, wrong = [], False
    for name, threads in wanted:
        row, status = measured(program, name, threads, modules, options)
        wrong = wrong or status != 0
        rows.append(row)
        timed = [min(w["us"]) for w in row["ways"] if w["us"]]
        print(f"bench-peers: {name} threads:{threads} {len(timed)} ways", flush=True)
        options.output.write_text(json.dumps({"about": about, "samples": rows}, indent=1) + "\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
