# SPDX-License-Identifier: Apache-2.0
"""A case must not compile, must print its sentence, and must compile with -DDEEPSEEK_POSITIVE.

Line 1 of a case is `// expects: sentence`. The positive twin shows that the case fails for its
reason and not for a typing error.

usage: compile_fail.py CASE.cpp -- COMPILER FLAG...   |   compile_fail.py --self-test -- ...
"""
import pathlib
import subprocess
import sys
import tempfile

MARK = "// expects: "


def compile_case(path, compiler, *flags):
    run = subprocess.run(compiler + list(flags) + ["-fsyntax-only", str(path)],
                         capture_output=True, text=True)
    return run.returncode, run.stdout + run.stderr


def judge(path, compiler):
    """Why the case is wrong, or None."""
    lines = pathlib.Path(path).read_text().splitlines()
    sentence = lines[0][len(MARK):].strip() if lines and lines[0].startswith(MARK) else ""
    if not sentence:
        return f"line 1 must be `{MARK}<sentence>`"
    status, output = compile_case(path, compiler)
    if status == 0:
        return f"it compiles; it should fail with: {sentence}"
    # Only diagnostics count: a compiler that echoes the source line must not satisfy the case.
    said = [line for line in output.splitlines() if "error: " in line]
    if not any(sentence in line for line in said):
        return f"it fails, but no error says: {sentence}\n{output}"
    status, output = compile_case(path, compiler, "-DDEEPSEEK_POSITIVE")
    if status != 0:
        return f"the positive twin (-DDEEPSEEK_POSITIVE) must compile\n{output}"
    return None


def self_test(compiler):
    """Planted cases: the driver must accept the first and refuse every other one."""
    claim = '#ifndef DEEPSEEK_POSITIVE\nstatic_assert(sizeof(char) == 2, "{}");\n#endif\n'
    planted = {
        "right": (True, MARK + "a char has two bytes\n" + claim.format("a char has two bytes")),
        "compiles": (False, MARK + "a char has two bytes\nint n;\n"),
        "other_sentence": (False, MARK + "a char has two bytes\n" + claim.format("no")),
        "only_echoed": (False, MARK + "in a comment\n" + claim.format("no") + "// in a comment\n"),
        "no_twin": (False, MARK + "always\n" + 'static_assert(sizeof(char) == 2, "always");\n'),
        "no_sentence": (False, "// a case\n" + claim.format("no")),
    }
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (good, text) in planted.items():
            path = pathlib.Path(folder, name + ".cpp")
            path.write_text(text)
            if (judge(path, compiler) is None) != good:
                wrong.append(name)
    return wrong


def main():
    split = sys.argv.index("--")
    cases, compiler = sys.argv[1:split], sys.argv[split + 1:]
    if cases == ["--self-test"]:
        wrong = self_test(compiler)
        print("self-test:", "judged wrongly: " + ", ".join(wrong) if wrong else "good")
        return 1 if wrong else 0
    reasons = [(case, judge(case, compiler)) for case in cases]
    for case, reason in reasons:
        print(f"{pathlib.Path(case).name}: {reason or 'fails as it should'}")
    return 1 if not reasons or any(reason for _, reason in reasons) else 0


if __name__ == "__main__":
    sys.exit(main())
