# SPDX-License-Identifier: Apache-2.0
"""Checks every source of a build folder with -fsyntax-only: another compiler's warnings, cheaply.

usage: syntax_only.py BUILD_FOLDER JOBS
"""
import concurrent.futures
import json
import pathlib
import shlex
import subprocess
import sys


def check(entry):
    words = shlex.split(entry["command"])
    while "-o" in words:
        at = words.index("-o")
        del words[at:at + 2]
    words = [word for word in words if word != "-c"] + ["-fsyntax-only"]
    run = subprocess.run(words, cwd=entry["directory"], capture_output=True, text=True)
    return entry["file"], run.returncode, run.stdout + run.stderr


def main():
    build, jobs = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    entries = [entry for entry in json.loads((build / "compile_commands.json").read_text())
               if not entry["file"].endswith(".cu")]
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for name, status, output in pool.map(check, entries):
            if output:
                print(output)
            if status != 0:
                failed += 1
                print(f"{name}: does not compile")
    print(f"{len(entries)} sources, {failed} do not compile")
    return 1 if failed or not entries else 0


if __name__ == "__main__":
    sys.exit(main())
