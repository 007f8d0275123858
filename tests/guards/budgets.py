# SPDX-License-Identifier: Apache-2.0
"""Prints file and function lengths. Only a header over 400 lines fails: the rest is a compass.

usage: budgets.py PROJECT_FOLDER
"""
import pathlib
import re
import statistics
import sys

FILE_CAP, FILE_MEDIAN = 400, 150
FUNCTION_P90, FUNCTION_CAP, BACKEND_CAP = 25, 60, 120
SCOPE = re.compile(r"^\s*(?:template\s*<.*>\s*)?(?:inline\s+|typedef\s+)*"
                   r"(?:namespace|class|struct|union|enum|extern)\b", flags=re.S)
NOISE = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'|^[ \t]*#[^\n]*',
                   flags=re.S | re.M)


def functions(text):
    """(name, first line, number of lines) of each function body, by its braces."""
    code = NOISE.sub(lambda match: "\n" * match.group(0).count("\n"), text)
    line, head, head_line, open_braces = 1, "", 1, []
    for ch in code:
        if ch == "{":
            outer = open_braces[-1][0] if open_braces else "scope"
            kind = "inner"
            if outer == "scope" and SCOPE.match(head):
                kind = "scope"
            elif outer == "scope" and "(" in head and not re.search(r"=\s*$", head):
                kind = "function"
            name = re.findall(r"([~\w]+|operator\S+)\s*\(", head)
            open_braces.append((kind, name[0] if name else "?", head_line))
            head = ""
        elif ch == "}" and open_braces:
            kind, name, start = open_braces.pop()
            if kind == "function":
                yield name, start, line - start + 1
            head = ""
        elif ch == ";":
            head = ""
        else:
            if not head.strip():
                head_line = line
            head += ch
        if ch == "\n":
            line += 1


def main():
    root = pathlib.Path(sys.argv[1])
    files = sorted(path for folder in ("include", "tests", "bench", "examples")
                   for path in (root / folder).rglob("*")
                   if path.suffix in (".hpp", ".cuh", ".cpp", ".cu"))
    headers, lengths, over = [], [], []
    for path in files:
        text, name = path.read_text(), str(path.relative_to(root))
        if name.startswith("include/"):
            headers.append((len(text.splitlines()), name))
            cap = BACKEND_CAP if "/backend/" in name else FUNCTION_CAP
            for function, line, length in functions(text):
                lengths.append(length)
                if length > cap:
                    over.append(f"  {name}:{line}: {function} has {length} lines, cap {cap}")
        elif len(text.splitlines()) > FILE_CAP:
            over.append(f"  {name} has {len(text.splitlines())} lines, cap {FILE_CAP}")
    sizes = [size for size, _ in headers]
    if not sizes:
        print(f"no header below {root}/include")
        return 1
    p90 = sorted(lengths)[(len(lengths) * 9) // 10] if lengths else 0
    print(f"headers: {len(sizes)}, median {statistics.median(sizes):.0f} lines "
          f"(goal {FILE_MEDIAN}), longest {max(sizes)} (cap {FILE_CAP})")
    print(f"functions: {len(lengths)}, p90 {p90} lines (goal {FUNCTION_P90})")
    print("over budget:" if over else "nothing over budget", *over, sep="\n")
    too_long = [f"{name}: {size} lines, cap {FILE_CAP}; split it" for size, name in headers
                if size > FILE_CAP]
    print(*too_long, sep="\n")
    return 1 if too_long else 0


if __name__ == "__main__":
    sys.exit(main())
