# SPDX-License-Identifier: Apache-2.0
"""Runs an example and compares what it prints: exactly with NAME.expected beside the source, else
with the regular expression in its first line, `// expects: ...`.

usage: check_output.py SOURCE EXECUTABLE
"""
import difflib
import pathlib
import re
import subprocess
import sys

MARK = "// expects: "


def main():
    source, executable = pathlib.Path(sys.argv[1]), sys.argv[2]
    run = subprocess.run([executable], capture_output=True, text=True)
    sys.stderr.write(run.stderr)
    if run.returncode != 0:
        print(f"{run.stdout}{source.name}: exit status {run.returncode}, expected 0")
        return 1
    expected = source.with_suffix(".expected")
    if expected.exists():
        diff = list(difflib.unified_diff(expected.read_text().splitlines(), run.stdout.splitlines(),
                                         expected.name, "printed", lineterm=""))
        print("\n".join(diff) or f"{source.name}: prints what {expected.name} says")
        return 1 if diff else 0
    first = source.read_text().partition("\n")[0]
    if not first.startswith(MARK) or not first[len(MARK):].strip():
        print(f"{source.name}: nothing to compare with; add {expected.name} or a first line "
              f"`{MARK}<regular expression>`")
        return 1
    found = re.search(first[len(MARK):].strip(), run.stdout, flags=re.M)
    verb = "prints" if found else "does not print"
    print(f"{run.stdout}{source.name}: {verb} {first[len(MARK):]}")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
