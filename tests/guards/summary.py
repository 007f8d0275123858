# SPDX-License-Identifier: Apache-2.0
"""Adds up what the tests reported. The last line printed is one JSON object.

CTest's own result (ctest.xml, JUnit form) and one NAME.json per test executable lie in one folder:
{"failed": 0, "skipped": 0,   (test cases of the program, optional)
 "op": {"gemm": {"cases": 10, "skipped": 0, "mistrusted": 0, "failed": 0,
                 "facets": ["forward"], "not_applicable": ["gradient"]}}}
An op is complete when facets and not_applicable together name all of FACETS. With OPS_FOLDER, the
headers of the public ops: they are the ops that count, one that no test reports is not complete, and
what reports name beside them (the gradient of a layer) is a row of its own kind. `foo_backward` and
`foo_gradient` are reported with foo.
A test that ended without a report (a crash, a timeout) counts as one failure.

usage: summary.py REPORT_FOLDER [OPS_FOLDER]
"""
import json
import pathlib
import re
import sys
import xml.etree.ElementTree

FACETS = ["forward", "gradient", "errors", "strides", "zero"]
COUNTS = ["cases", "skipped", "mistrusted", "failed"]
UNIT_TEST = "test_"


class unreadable(Exception):
    """A report that cannot be added up; says which and why."""


def checked(report):
    """The report, if every number and facet in it makes sense."""
    for name, entry in [("program", report), *report["op"].items()]:
        for count in COUNTS:
            if type(entry.get(count, 0)) is not int or entry.get(count, 0) < 0:
                raise ValueError(f"{name}.{count} is {entry[count]!r}, not a count")
        strange = set(entry.get("facets", []) + entry.get("not_applicable", [])) - set(FACETS)
        if strange:
            raise ValueError(f"{name} has unknown facets {sorted(strange)}; known: {FACETS}")
    return report


def read_report(path):
    try:
        return checked(json.loads(path.read_text()))
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
    if not any(test.startswith(UNIT_TEST) for test in results):
        raise unreadable("ctest.xml: no unit test was run; is doctest there?")
    return results


def add_up(reports):
    """op -> counts and facets over all reports."""
    ops = {}
    for report in reports.values():
        for name, entry in report["op"].items():
            op = ops.setdefault(name, dict.fromkeys(COUNTS, 0) | {"facets": set(), "exempt": set()})
            for count in COUNTS:
                op[count] += entry.get(count, 0)
            op["facets"] |= set(entry.get("facets", []))
            op["exempt"] |= set(entry.get("not_applicable", []))
    return ops


def public_ops(folder):
    """The ops that headers define; a backward op counts with its forward."""
    names = {name for header in folder.glob("*.hpp")
             for name in re.findall(r'std::string_view name = "(\w+)"', header.read_text())}
    return {name: base if base in names else name
            for name in names
            for base in [re.sub("_(backward|gradient)$", "", name)]}


def by_public_op(ops, public):
    """The public ops with all that was reported of them, and the rest."""
    families = {base: dict.fromkeys(COUNTS, 0) | {"facets": set(), "exempt": set()}
                for base in public.values()}
    rest = {}
    for name, op in ops.items():
        if name not in public:
            rest[name] = op
            continue
        family = families[public[name]]
        for count in COUNTS:
            family[count] += op[count]
        family["facets"] |= op["facets"]
        family["exempt"] |= op["exempt"]
    return families, rest


def complete(op):
    return op["facets"] | op["exempt"] >= set(FACETS)


def told(report, count):
    """What one program says: its op cases or its test cases, whichever are more."""
    return max(report.get(count, 0), sum(op.get(count, 0) for op in report["op"].values()))


def summarize(reports, results, public=None):
    ops, rest = add_up(reports), {}
    if public is not None:
        ops, rest = by_public_op(ops, public)
    line = {
        "op_cases": sum(op["cases"] for op in ops.values()),
        "ops": len(ops),
        "ops_complete": sum(complete(op) for op in ops.values()),
        "skipped": sum(told(report, "skipped") for report in reports.values()),
        "failed": sum(told(report, "failed") for report in reports.values()),
        "mistrusted": sum(op["mistrusted"] for op in [*ops.values(), *rest.values()]),
    }
    # A program's own counts say more than CTest's one bit; the bit counts where they are silent.
    silent = {"op": {}}
    for test, status in results.items():
        if status in ("failed", "skipped") and not told(reports.get(test, silent), status):
            line[status] += 1
    return ops, rest, line


def without_report(reports, results):
    """Unit tests that ended well and yet left no report: their cases would vanish in silence."""
    return [test for test, status in results.items()
            if status == "passed" and test.startswith(UNIT_TEST) and test not in reports]


def print_table(ops):
    print(f"\n{'op':<24}{'cases':>8}{'skipped':>9}{'mistrusted':>12}{'failed':>8}  facets")
    for name, op in sorted(ops.items()):
        marks = [facet if facet in op["facets"] else f"({facet}: none)" if facet in op["exempt"]
                 else f"{facet} MISSING" for facet in FACETS]
        print(f"{name:<24}{op['cases']:>8}{op['skipped']:>9}{op['mistrusted']:>12}"
              f"{op['failed']:>8}  {', '.join(marks)}")
    print()


def print_rest(rest):
    for name, op in sorted(rest.items()):
        print(f"{name:<32}{op['cases']:>8} cases  {', '.join(sorted(op['facets']))}")


def main():
    folder = pathlib.Path(sys.argv[1])
    try:
        results = read_ctest(folder)
        reports = {path.stem: read_report(path) for path in sorted(folder.glob("*.json"))}
        lost = without_report(reports, results)
        if lost:
            raise unreadable(f"no report from {', '.join(lost)}")
    except unreadable as why:
        print(f"summary: {why}")
        return 1
    public = public_ops(pathlib.Path(sys.argv[2])) if len(sys.argv) > 2 else None
    ops, rest, line = summarize(reports, results, public)
    print_table(ops)
    print_rest(rest)
    for status in ("failed", "skipped"):
        names = [test for test, was in results.items() if was == status]
        if names:
            print(f"tests {status}: {', '.join(names)}")
    print(json.dumps(line, separators=(",", ":")))
    return 1 if line["failed"] or line["mistrusted"] else 0


if __name__ == "__main__":
    sys.exit(main())
