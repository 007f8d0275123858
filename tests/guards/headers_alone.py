# SPDX-License-Identifier: Apache-2.0
"""Every header compiles as the first and only include of a file, also when included twice.

usage: headers_alone.py HEADER... -- COMPILER FLAG...   |   headers_alone.py --self-test -- ...
"""
import pathlib
import subprocess
import sys
import tempfile


def complaint(header, compiler):
    """The compiler's output if the header does not stand alone, else None."""
    text = f"#include <{header}>\n#include <{header}>\n"
    run = subprocess.run(compiler + ["-fsyntax-only", "-x", "c++", "-"], input=text,
                         capture_output=True, text=True)
    return None if run.returncode == 0 else run.stdout + run.stderr


def self_test(compiler):
    """A header that leans on another one's include, and one without a guard, must be refused."""
    planted = {
        "good.hpp": (True, "#pragma once\n#include <string>\n"
                           "inline std::string f() { return {}; }"),
        "leans.hpp": (False, "#pragma once\ninline std::string f() { return {}; }"),
        "twice.hpp": (False, "struct once {};"),
        "warns.hpp": (False, "#pragma once\ninline int f(long n) { int m = n; return m; }"),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, (_, text) in planted.items():
            pathlib.Path(folder, name).write_text(text + "\n")
        flags = compiler + ["-Werror", f"-I{folder}"]
        return [name for name, (stands, _) in planted.items()
                if (complaint(name, flags) is None) != stands]


def main():
    split = sys.argv.index("--")
    headers, compiler = sys.argv[1:split], sys.argv[split + 1:]
    if headers == ["--self-test"]:
        wrong = self_test(compiler)
        print("self-test:", "judged wrongly: " + ", ".join(wrong) if wrong else "good")
        return 1 if wrong else 0
    failed = 0
    for header in headers:
        output = complaint(header, compiler)
        if output is not None:
            failed += 1
            print(f"{header}: does not compile alone; include what it uses\n{output}")
    print(f"{len(headers)} headers, {failed} do not compile alone")
    return 1 if failed or not headers else 0


if __name__ == "__main__":
    sys.exit(main())
