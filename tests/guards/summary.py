# SPDX-License-Identifier: Apache-2.0
"""Adds up what the tests reported. The last line printed is one JSON object.

CTest's own result (ctest.xml, JUnit form) and one NAME.json per test executable lie in one folder:
{"op": {"gemm": {"cases": 10, "skipped": 0, "mistrusted": 0, "failed": 0,
                 "facets": ["forward"], "not_applicable": ["gradient"]}}}
An op is complete when facets and not_applicable together name all of FACETS.
A test that ended without a report (a crash, a timeout) counts as one failure.

usage: summary.py REPORT_FOLDER
"""
import json
import pathlib
import sys
import xml.etree.ElementTree

FACETS = ["forward", "gradient", "errors", "strides", "zero"]
COUNTS = ["cases", "skipped", "mistrusted", "failed"]


class unreadable(Exception):
    """A report that cannot be added up; says which and why."""


def read_report(path):
    try:
        ops = json.loads(path.read_text())["op"]
        for name, entry in ops.items():
            for count in COUNTS:
                if type(entry.get(count, 0)) is not int or entry.get(count, 0) < 0:
                    raise ValueError(f"{name}.{count} is {entry[count]!r}, not a count")
            strange = set(entry.get("facets", []) + entry.get("not_applicable", [])) - set(FACETS)
            if strange:
                raise ValueError(f"{name} has unknown facets {sorted(strange)}; known: {FACETS}")
        return ops
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as why:
        raise unreadable(f"{path.name}: {type(why).__name__}: {why}") from why


def read_ctest(folder):
    """name -> passed, failed or skipped."""
    try:
        cases = xml.etree.ElementTree.parse(folder / "ctest.xml").getroot().iter("testcase")
        words = {"run": "passed", "fail": "failed"}
        results = {case.get("name"): words.get(case.get("status"), "skipped") for case in cases}
    except (OSError, xml.etree.ElementTree.ParseError) as why:
        raise unreadable(f"ctest.xml: {why}") from why
    if not results:
        raise unreadable("ctest.xml: no test was run")
    return results


def add_up(reports):
    """op -> counts and facets over all reports."""
    ops = {}
    for report in reports.values():
        for name, entry in report.items():
            op = ops.setdefault(name, dict.fromkeys(COUNTS, 0) | {"facets": set(), "exempt": set()})
            for count in COUNTS:
                op[count] += entry.get(count, 0)
            op["facets"] |= set(entry.get("facets", []))
            op["exempt"] |= set(entry.get("not_applicable", []))
    return ops


def complete(op):
    return op["facets"] | op["exempt"] >= set(FACETS)


def summarize(reports, results):
    ops = add_up(reports)
    sums = {count: sum(op[count] for op in ops.values()) for count in COUNTS}

    def told(test, count):
        return any(entry.get(count, 0) for entry in reports.get(test, {}).values())

    # A test's own counts say more than CTest's one bit; count the bit only where they are silent.
    failed = [test for test, status in results.items() if status == "failed"]
    skipped = [test for test, status in results.items() if status == "skipped"]
    line = {
        "op_cases": sums["cases"],
        "ops": len(ops),
        "ops_complete": sum(complete(op) for op in ops.values()),
        "skipped": sums["skipped"] + sum(not told(test, "skipped") for test in skipped),
        "failed": sums["failed"] + sum(not told(test, "failed") for test in failed),
        "mistrusted": sums["mistrusted"],
    }
    return ops, line


def print_table(ops):
    print(f"\n{'op':<24}{'cases':>8}{'skipped':>9}{'mistrusted':>12}{'failed':>8}  facets")
    for name, op in sorted(ops.items()):
        marks = [facet if facet in op["facets"] else f"({facet}: none)" if facet in op["exempt"]
                 else f"{facet} MISSING" for facet in FACETS]
        print(f"{name:<24}{op['cases']:>8}{op['skipped']:>9}{op['mistrusted']:>12}"
              f"{op['failed']:>8}  {', '.join(marks)}")
    print()


def main():
    folder = pathlib.Path(sys.argv[1])
    try:
        results = read_ctest(folder)
        reports = {path.stem: read_report(path) for path in sorted(folder.glob("*.json"))}
    except unreadable as why:
        print(f"summary: {why}")
        return 1
    ops, line = summarize(reports, results)
    print_table(ops)
    for status in ("failed", "skipped"):
        names = [test for test, was in results.items() if was == status]
        if names:
            print(f"tests {status}: {', '.join(names)}")
    print(json.dumps(line, separators=(",", ":")))
    return 1 if line["failed"] or line["mistrusted"] else 0


if __name__ == "__main__":
    sys.exit(main())
