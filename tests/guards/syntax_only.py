# SPDX-License-Identifier: Apache-2.0
"""Checks every source of a build folder with -fsyntax-only: another compiler's warnings, cheaply.

A source that one of the folders BUILT has an object of (same compiler, same warnings) is left out.
With clang, what is alike is parsed once: sources start from a precompiled header.

usage: syntax_only.py BUILD_FOLDER JOBS [--without PATTERN] [BUILT...]
"""
import argparse
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
    entries = json.loads(path.read_text())
    return [entry for entry in entries if not entry["file"].endswith((".cu", "cmake_pch.hxx.cxx"))]


def built(folders):
    """The sources with an object in one of the folders, also as a part of a batch of tests."""
    done = set()
    for folder in folders:
        for entry in read(folder):
            if pathlib.Path(entry["directory"], output_of(entry)).exists():
                done |= {entry["file"], *parts_of(entry)}
    return done


def parts_of(entry):
    """The tests that a batch includes, found where its command looks for them."""
    if "/batches/" not in entry["file"]:
        return []
    folders = [word[2:] for word in shlex.split(entry["command"]) if word.startswith("-I")]
    names = re.findall(r'^#include "(.*\.cpp)"$', pathlib.Path(entry["file"]).read_text(), re.M)
    found = [pathlib.Path(folder, name) for name in names for folder in folders]
    return [str(path) for path in found if path.exists()]


def output_of(entry):
    words = shlex.split(entry["command"])
    return words[words.index("-o") + 1]


def words_of(entry):
    """The command without its output and without the precompiled header of the build."""
    words = shlex.split(entry["command"])
    for option in ("-o", "-Xclang", "-include"):
        while option in words:
            at = words.index(option)
            del words[at:at + 2]
    return [word for word in words if word not in ("-c", "-Winvalid-pch")]


class precompiled:
    """What many sources include, precompiled once for each set of flags they are built with."""

    def __init__(self, folder):
        self.folder, self.made = pathlib.Path(folder), {}

    def make(self, entries):
        for entry in entries:
            key = self.key(entry)
            if key is None or key in self.made:
                continue
            path = self.folder / f"{len(self.made)}.pch"
            run = subprocess.run(words_of(entry)[:-1] + ["-x", "c++-header", "-", "-o", str(path)],
                                 input=self.text(entry), text=True, cwd=entry["directory"],
                                 capture_output=True)
            self.made[key] = path if run.returncode == 0 else None

    def text(self, entry):
        """All of the library for what uses layers; what tests include of other projects for tests."""
        text, source = "", pathlib.Path(entry["file"]).read_text()
        if WHOLE.search(source) and "simulation_overlay" not in entry["command"]:
            text += '#include "deepseek/deepseek.hpp"\n'
        if "/tests/" in entry["file"] and "/fuzz/" not in entry["file"]:
            text += '#include "support/external.hpp"\n'
        return text

    def key(self, entry):
        words = words_of(entry)
        flags = tuple(word for word in words if re.match(r"-(D|U|O|std=|m|f)", word))
        return (self.text(entry), flags) if self.text(entry) else None

    def flags(self, entry):
        path = self.made.get(self.key(entry))
        return ["-include-pch", str(path)] if path else []


def check(entry, flags):
    words = words_of(entry) + flags + ["-fsyntax-only"]
    run = subprocess.run(words, cwd=entry["directory"], capture_output=True, text=True)
    return entry["file"], run.returncode, run.stdout + run.stderr


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("jobs", type=int)
    parser.add_argument("built", nargs="*")
    parser.add_argument("--without", default="^$", help="sources whose path matches are left out")
    asked = parser.parse_args()
    done = built(asked.built)
    entries = [entry for entry in read(asked.build)
               if entry["file"] not in done and not re.search(asked.without, entry["file"])]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        headers = precompiled(folder)
        if "clang" in shlex.split(entries[0]["command"])[0]:
            headers.make(entries)
        with concurrent.futures.ThreadPoolExecutor(asked.jobs) as pool:
            for name, status, output in pool.map(lambda e: check(e, headers.flags(e)), entries):
                if output:
                    print(output)
                if status != 0:
                    failed += 1
                    print(f"{name}: does not compile")
    print(f"{len(entries)} sources, {failed} do not compile; {len(done)} were compiled elsewhere")
    return 1 if failed or not entries else 0


if __name__ == "__main__":
    sys.exit(main())
