#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A training step of the demo's model, ours and PyTorch's in turn, each in a process of its own.

usage: bench/training/run.py FOLDER OUTPUT [--rounds N] [--seconds S] [--threads N] [--ways A,B]
                             [--python FILE]

FOLDER holds training_step and training_start (target bench_training). First it is checked that
PyTorch makes our steps from our weights; then they take turns, round after round. A round's figure
is the median of its steps; what counts is the median of the rounds. OUTPUT/training.json and
OUTPUT/training.md are written. Exit status 1: the steps are not the same.
"""
import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

TORCH = pathlib.Path(__file__).resolve().parents[1] / "torch_training.py"
WAYS = ["eager", "eager-grouped", "compiled", "compiled-grouped"]
OURS = "deepseek"


def checked(command, **environment):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                          env={**os.environ, **environment}, check=False)
    if done.returncode:
        sys.exit(f"{command[0]}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def ours(options, threads, work):
    """(seconds of a step, share of the limit of multiply-adds) of each repetition."""
    out = work / "ours.json"
    checked([options.folder / "training_step", f"--benchmark_filter=threads:{threads}$",
             f"--benchmark_out={out}", "--benchmark_out_format=json"],
            BENCH_MIN_TIME=str(options.seconds / 5), BENCH_REPETITIONS="5")
    data = json.loads(out.read_text())
    runs = [run for run in data["benchmarks"] if run["run_type"] == "iteration"]
    return data["context"], [run["seconds"] for run in runs], [run["share"] for run in runs]


def torch(options, start, threads, way):
    steps = max(5, round(options.seconds / 0.4))
    said = checked([options.python, TORCH, start, "--threads", threads, "--way", way,
                    "--steps", steps], OMP_NUM_THREADS=str(threads))
    return json.loads(said.splitlines()[-1])


def rounds_of(options, start, threads, work):
    rounds = []
    for number in range(options.rounds):
        context, seconds, shares = ours(options, threads, work)
        figures = {OURS: statistics.median(seconds)}
        for way in options.ways:
            row = torch(options, start, threads, way)
            figures[way] = statistics.median(row["seconds"])
        rounds.append({"seconds": figures, "share": statistics.median(shares)})
        print(f"{threads} threads, round {number + 1}: " + ", ".join(
            f"{who} {1e3 * value:.0f} ms" for who, value in figures.items()), flush=True)
    about = {"processor": context["processor"], "compiler": context["compiler"],
             "instruction_set": context["instruction_set"], "torch": row["version"],
             "parameters": row["parameters"]}
    return about, rounds


def row_of(threads, rounds, ways):
    seconds = {who: statistics.median(r["seconds"][who] for r in rounds) for who in [OURS, *ways]}
    best = min(ways, key=seconds.get)
    return {"case": "training_step demo_8x256", "threads": threads, "seconds": seconds,
            "limit_share": statistics.median(r["share"] for r in rounds), "best_peer": best,
            "ratio": statistics.median(r["seconds"][best] / r["seconds"][OURS] for r in rounds),
            "rounds": rounds}


def page_of(data, ways):
    about = data["about"]
    lines = ["# A training step of the demo's model beside PyTorch", "",
             f"{about['date']}, {about['processor']} ({about['instruction_set']}), "
             f"{about['compiler']}, PyTorch {about['torch']}. {about['parameters']} parameters, "
             "8 windows of 256 bytes, float32: forward, losses, backward, clipping, AdamW. Same "
             "weights and batches; " + about["check"] + ".", "",
             "Milliseconds a step, medians of "
             f"{len(data['rows'][0]['rounds'])} rounds in turn; share: of the multiply-adds that "
             "the machine did beside it; ahead: the best peer's time over ours.", "",
             "| threads | ours | share | " + " | ".join(ways) + " | ahead |",
             "| --: |" + " --: |" * (len(ways) + 3)]
    for row in data["rows"]:
        times = [f"{1e3 * row['seconds'][who]:.0f}" for who in ways]
        lines.append(f"| {row['threads']} | {1e3 * row['seconds'][OURS]:.0f} | "
                     f"{row['limit_share']:.2f} | {' | '.join(times)} | {row['ratio']:.2f} |")
    return "\n".join(lines) + "\n"


def write(options, data):
    (options.output / "training.json").write_text(json.dumps(data, indent=1) + "\n")
    (options.output / "training.md").write_text(page_of(data, options.ways))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of one figure, about")
    parser.add_argument("--threads", type=int, default=0, help="0: 1 and 2")
    parser.add_argument("--ways", type=lambda text: text.split(","), default=WAYS)
    parser.add_argument("--python", default=sys.executable, help="one that has torch, safetensors")
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        start = work / "start.safetensors"
        checked([options.folder / "training_start", start])
        check = checked([options.python, TORCH, start, "--threads", 2, "--check"]).splitlines()[-1]
        print(check, flush=True)
        data = {"about": {"date": datetime.date.today().isoformat(), "check": check}, "rows": []}
        for threads in [options.threads] if options.threads else [1, 2]:
            about, rounds = rounds_of(options, start, threads, work)
            data["about"].update(about)
            data["rows"].append(row_of(threads, rounds, options.ways))
            write(options, data)
    print(page_of(data, options.ways))


if __name__ == "__main__":
    main()
