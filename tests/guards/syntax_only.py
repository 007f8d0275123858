# SPDX-License-Identifier: Apache-2.0
"""Checks every source of a build folder with -fsyntax-only: another compiler's warnings, cheaply.

A source that the same compiler has compiled in COMPILED_FOLDER, with the same warnings, is not
checked again. What uses layers starts from one precompiled header (clang): the parts of its
parsing that are alike are done once.

usage: syntax_only.py BUILD_FOLDER JOBS [COMPILED_FOLDER]
"""
import concurrent.futures
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

WHOLE = re.compile(r'#include [<"]deepseek/(deepseek\.hpp|layers/|models/|train/|serve/)')


def read(build):
    path = pathlib.Path(build, "compile_commands.json")
    return [entry for entry in json.loads(path.read_text()) if not entry["file"].endswith(".cu")]


def words_of(entry):
    """The command without its output, and the output."""
    words, output = shlex.split(entry["command"]), None
    while "-o" in words:
        at = words.index("-o")
        output = pathlib.Path(entry["directory"], words[at + 1])
        del words[at:at + 2]
    return [word for word in words if word != "-c"], output


def compiled(build):
    """The sources whose object files lie in a build folder, newer than they."""
    done = set()
    if not pathlib.Path(build, "compile_commands.json").exists():
        return done
    for entry in read(build):
        output, source = words_of(entry)[1], pathlib.Path(entry["file"])
        if output.exists() and output.stat().st_mtime > source.stat().st_mtime:
            done.add(entry["file"])
    return done


class precompiled:
    """deepseek.hpp, precompiled once for each standard and optimization a source is built with."""

    def __init__(self, folder):
        self.folder, self.made = pathlib.Path(folder), {}

    def make(self, entries):
        for entry in entries:
            key = self.key(entry)
            if key is None or key in self.made:
                continue
            path = self.folder / f"{len(self.made)}.pch"
            flags = words_of(entry)[0][:-1]
            run = subprocess.run(flags + ["-x", "c++-header", "-", "-o", str(path)],
                                 input='#include "deepseek/deepseek.hpp"\n', text=True,
                                 cwd=entry["directory"], capture_output=True)
            self.made[key] = path if run.returncode == 0 else None

    def key(self, entry):
        if not WHOLE.search(pathlib.Path(entry["file"]).read_text()):
            return None
        words = words_of(entry)[0]
        return tuple(word for word in words if re.match(r"-(D|U|O|std=|m|f)", word))

    def flags(self, entry):
        path = self.made.get(self.key(entry))
        return ["-include-pch", str(path)] if path else []


def check(entry, flags):
    words = words_of(entry)[0] + flags + ["-fsyntax-only"]
    run = subprocess.run(words, cwd=entry["directory"], capture_output=True, text=True)
    return entry["file"], run.returncode, run.stdout + run.stderr


def main():
    build, jobs = sys.argv[1], int(sys.argv[2])
    done = compiled(sys.argv[3]) if len(sys.argv) > 3 else set()
    entries = read(build)
    left = [entry for entry in entries if entry["file"] not in done]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        headers = precompiled(folder)
        if "clang" in shlex.split(entries[0]["command"])[0]:
            headers.make(left)
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            for name, status, output in pool.map(lambda e: check(e, headers.flags(e)), left):
                if output:
                    print(output)
                if status != 0:
                    failed += 1
                    print(f"{name}: does not compile")
    print(f"{len(left)} of {len(entries)} sources checked, the others compiled; "
          f"{failed} do not compile")
    return 1 if failed or not entries else 0


if __name__ == "__main__":
    sys.exit(main())
