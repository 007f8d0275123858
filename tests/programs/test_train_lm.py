# SPDX-License-Identifier: Apache-2.0
"""train_lm from outside: the same bits for 1 and 2 threads, for a run that was stopped (also by
SIGKILL) and resumed, and one typed error line for everything that cannot be done.

usage: test_train_lm.py PROGRAM
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import time

TEXT = pathlib.Path(__file__).resolve().parents[2] / "README.md"
STEPS = 6
faults = []


def call(*arguments):
    run = subprocess.run([sys.argv[1], *map(str, arguments)], capture_output=True, text=True,
                         timeout=120)
    return run.returncode, run.stdout, run.stderr


def check(holds, what):
    if not holds:
        faults.append(what)


def hash_of(*arguments):
    status, out, err = call("--text", TEXT, "--steps", STEPS, "--hash", *arguments)
    check(status == 0, f"{arguments}: status {status}: {err.strip()}")
    lines = out.strip().splitlines()
    return lines[-1] if lines else ""


def refused(name, code, parts, *arguments):
    status, _, err = call(*arguments)
    try:
        line = json.loads(err.strip().splitlines()[-1])
    except (IndexError, ValueError):
        line = {}
    check(status == 2, f"{name}: status {status}, wanted 2")
    check(line.get("error") == code, f"{name}: {line}, wanted {code}")
    for part in parts:
        check(part in line.get("message", ""), f"{name}: {line} does not name {part}")


def killed_run(folder):
    """Stops a saving run as soon as a first checkpoint is there."""
    run = subprocess.Popen([sys.argv[1], "--text", TEXT, "--steps", str(STEPS), "--save", folder,
                            "--every", "1"], stdout=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while time.monotonic() < end and not list(pathlib.Path(folder).glob("step-*.safetensors")):
        time.sleep(0.01)
    run.kill()
    run.wait()


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        whole = hash_of("--threads", 1)
        check(whole.startswith("hash ") and len(whole) == 69, f"no hash: {whole!r}")
        check(hash_of("--threads", 2) == whole, "2 threads give other bits")
        check(hash_of("--threads", 2, "--seed", 2) != whole, "the seed does not matter")

        killed = folder / "killed"
        killed.mkdir()
        killed_run(killed)
        check(list(killed.glob("step-*.safetensors")), "no checkpoint was written")
        check(hash_of("--resume", killed) == whole, "a resumed run ends elsewhere")

        saved = folder / "saved"
        hash_of("--save", saved, "--every", 1)
        check(len(list(saved.glob("step-*"))) == 3, "not the three newest checkpoints are kept")
        newest = sorted(saved.glob("step-*"))[-1]
        newest.write_bytes(newest.read_bytes()[:1000])
        check(hash_of("--resume", saved) == whole, "a damaged newest checkpoint is not passed over")

        empty, short = folder / "empty", folder / "short"
        empty.write_bytes(b"")
        short.write_bytes(b"too short")
        steps = ("--steps", 1)
        refused("no file", "io", ["absent"], "--text", folder / "absent", *steps)
        refused("empty text", "invalid_argument", ["0 bytes"], "--text", empty, *steps)
        refused("short text", "invalid_argument", ["256"], "--text", short, *steps)
        refused("no steps", "invalid_argument", ["0 steps"], "--text", TEXT, "--steps", 0)
        refused("threads", "invalid_argument", ["0"], "--text", TEXT, *steps, "--threads", 0)
        refused("nothing to resume", "checkpoint_corrupt", ["0"], "--text", TEXT, *steps,
                "--resume", folder)
        refused("other settings", "config", ["seed 9"], "--text", TEXT, "--steps", STEPS, "--seed",
                9, "--resume", saved)
        refused("argument", "invalid_argument", ["--help"], "--text", TEXT, *steps, "--unknown")
    for fault in faults:
        print("FAULT", fault)
    print(f"train_lm: {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
