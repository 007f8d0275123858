# SPDX-License-Identifier: Apache-2.0
"""The adding-up itself is tested: counts, completeness, crashes, and reports that are damaged."""
import json
import pathlib
import subprocess
import sys
import tempfile

SUMMARY = pathlib.Path(__file__).with_name("summary.py")
FACETS = ["forward", "gradient", "errors", "strides", "zero"]
GOOD = {"op": {"gemm": {"cases": 10, "skipped": 1, "mistrusted": 0, "failed": 0, "facets": FACETS}}}
MORE = {"op": {"gemm": {"cases": 5, "facets": ["forward"]},
               "top_k": {"cases": 2, "facets": FACETS[:1] + FACETS[2:],
                         "not_applicable": ["gradient"]},
               "rope": {"cases": 3, "facets": ["forward"]}}}
BAD = {"op": {"gemm": {"cases": 10, "failed": 2, "facets": FACETS}}}
DOUBT = {"op": {"gemm": {"cases": 10, "mistrusted": 1, "facets": FACETS}}}

PASSED, FAILED = {"test_a": "run"}, {"test_a": "fail"}


def run(reports, statuses, headers=None):
    """Exit status and last line for these reports, CTest results and names of public ops."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as ops:
        for name in headers or []:
            pathlib.Path(ops, name + ".hpp").write_text(
                f'static constexpr std::string_view name = "{name}";')
        for name, report in reports.items():
            text = report if isinstance(report, str) else json.dumps(report)
            pathlib.Path(folder, name + ".json").write_text(text)
        if statuses is not None:
            cases = "".join(f'<testcase name="{name}" status="{status}"/>'
                            for name, status in statuses.items())
            pathlib.Path(folder, "ctest.xml").write_text(f"<testsuite>{cases}</testsuite>")
        done = subprocess.run([sys.executable, str(SUMMARY), folder] + ([ops] if headers else []),
                              capture_output=True, text=True)
        return done.returncode, done.stdout.strip().splitlines()[-1]


def check(what, got, status, **counts):
    line = json.loads(got[1]) if counts else {}
    right = got[0] == status and all(line.get(name) == value for name, value in counts.items())
    print(f"{what}: {'good' if right else f'WRONG: {got}'}")
    return right


def main():
    results = [
        check("two reports",
              run({"test_a": GOOD, "test_b": MORE}, {"test_a": "run",
              "test_b": "run"}), 0, op_cases=20,
              ops=3, ops_complete=2, skipped=1, failed=0, mistrusted=0),
        check("only public ops count, an unreported one is incomplete",
              run({"test_a": GOOD, "test_b": MORE}, {"test_a": "run", "test_b": "run"},
                  ["gemm", "rope", "silent"]), 0, op_cases=18, ops=3, ops_complete=1),
        check("a backward op counts with its forward",
              run({"test_a": {"op": {"rope": {"cases": 3, "facets": FACETS[:1]},
                                     "rope_backward": {"cases": 2, "facets": FACETS[1:]}}}},
                  PASSED, ["rope", "rope_backward"]), 0, op_cases=5, ops=1, ops_complete=1),
        check("a mistrusted case beside the public ops",
              run({"test_a": DOUBT}, PASSED, ["rope"]), 1, mistrusted=1),
        check("a failed case", run({"test_a": BAD}, FAILED), 1, failed=2),
        check("a crash without a report",
              run({"test_a": GOOD}, {"test_a": "run", "test_b": "fail"}), 1, failed=1),
        check("a crash beside good counts", run({"test_a": GOOD}, FAILED), 1, failed=1),
        check("a skipped test",
              run({"test_a": GOOD}, {"test_a": "run", "test_gpu": "notrun"}), 0, skipped=2),
        check("a mistrusted case", run({"test_a": DOUBT}, PASSED), 1, mistrusted=1),
        check("a failed case outside ops", run({"test_a": GOOD | {"failed": 3}}, FAILED), 1,
              failed=3),
        check("a skipped case outside ops", run({"test_a": GOOD | {"skipped": 4}}, PASSED), 0,
              skipped=4),
        check("a lost report", run({"test_a": GOOD}, {"test_a": "run", "test_ops_x": "run"}), 1),
        check("a damaged report", run({"test_a": '{"op": {'}, PASSED), 1),
        check("a report of another form", run({"test_a": "[]"}, PASSED), 1),
        check("a negative count", run({"test_a": {"op": {"x": {"cases": -1}}}}, PASSED), 1),
        check("an unknown facet", run({"test_a": {"op": {"x": {"facets": ["speed"]}}}}, PASSED), 1),
        check("no result of CTest", run({"test_a": GOOD}, None), 1),
        check("no test at all", run({}, {}), 1),
        check("only guards", run({}, {"guard_layering": "run"}), 1),
    ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
