# SPDX-License-Identifier: Apache-2.0
"""tests/cuda/on_gpu.py without a GPU: its tools and the programs it runs are small scripts here. A
program that fails, is skipped, hangs or does not compile, a sanitizer that finds something or does
not start, and the end of the time each show as what they are; results are there after each.

usage: on_gpu_selftest.py PROJECT_FOLDER
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

PROGRAMS = {"device_ops_gemm": "exit 0", "device_ops_attention_groups": "echo a story; exit 1",
            "device_ops_grouped_gemm_groups": "kill -SEGV $$", "device_ops_gate": "exit 77",
            "device_ops_rope": "sleep 60", "device_ops_swiglu": "exit 0"}
# A program of two tests: that of ops_silu fails.
SHARED, SUITES = 'case "$*" in *suite=suite_pool) exit 0;; *) exit 1;; esac', """
device_ops_pool tests_device_1 suite_pool
device_ops_silu tests_device_1 suite_silu
""".lstrip()
TOOLS = {
    "nvidia-smi": 'case "$1" in *compute_cap*) echo 9.0;; *) echo "A GPU, 1, 2, 3, 4";; esac',
    "compute-sanitizer": """case "$2 $5" in
memcheck*groups) echo "========= ERROR SUMMARY: 2 errors"; exit 99;;
racecheck*) echo "Device not supported"; exit 1;;
*) echo "========= ERROR SUMMARY: 0 errors"; echo "========= RACECHECK SUMMARY: 0 hazards displayed";;
esac""",
    "cmake": '[ "$1" = --build ] || echo "$@" > "$HERE/configured"',
    # ninja -C FOLDER -t commands TARGET: all but two "compile".
    "ninja": """bin=$2/bin; mkdir -p "$bin"; shift 4
for name in "$@"; do
  if [ -f "$HERE/programs/$name" ]; then echo "cp $HERE/programs/$name $bin/"
  else echo "echo $name: a reason; exit 1"; fi
done""",
}


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text + "\n")
    path.chmod(0o755)


def run(project, here, programs, *options):
    path = f"{here / 'tools'}:{os.environ['PATH']}"
    done = subprocess.run([sys.executable, "-B", str(project / "tests/cuda/on_gpu.py"), str(project),
                           str(here / "build"), str(here / "out"), *options],
                          capture_output=True, text=True, timeout=60,
                          env={**os.environ, "PATH": path, "HERE": str(here)})
    results = json.loads((here / "out/device_tests.json").read_text())
    return done, results


def main():
    project = pathlib.Path(sys.argv[1]).resolve()
    faults = []

    def expect(what, is_so):
        if not is_so:
            faults.append(what)

    with tempfile.TemporaryDirectory() as folder:
        here = pathlib.Path(folder)
        for name, text in TOOLS.items():
            script(here / "tools" / name, text)
        for name, text in PROGRAMS.items():
            script(here / "programs" / f"test_{name}", text)
            script(here / "build/bin" / f"test_{name}", text)
        script(here / "programs/tests_device_1", SHARED)
        script(here / "build/bin/tests_device_1", SHARED)
        (here / "build/bin/device_batches.txt").write_text(SUITES)
        done, results = run(project, here, PROGRAMS, "--built", "--limit", "4")
        tests = {name: t["status"] for name, t in results["tests"].items()}
        expect(f"statuses of programs: {tests}", tests == {
            "device_ops_gemm": "passed", "device_ops_attention_groups": "failed",
            "device_ops_grouped_gemm_groups": "failed", "device_ops_gate": "skipped",
            "device_ops_rope": "timed out", "device_ops_swiglu": "passed",
            "device_ops_pool": "passed", "device_ops_silu": "failed"})
        expect("the text of a failure",
               "a story" in results["tests"]["device_ops_attention_groups"]["text"])
        expect(f"status 1, not {done.returncode}", done.returncode == 1)
        reached = {s["status"] for s in results["sanitizer"].values()}
        expect(f"a sanitizer without time: {reached}", reached == {"not reached"})

        (here / "build/bin/test_device_ops_rope").unlink()
        done, results = run(project, here, PROGRAMS, "--built")
        checked = {name: s["status"] for name, s in results["sanitizer"].items()}
        expect("what memcheck finds",
               checked.get("device_ops_attention_groups memcheck") == "not clean")
        expect("a tool that does not start", checked.get("device_ops_gate racecheck") == "not clean")
        expect("a clean run", checked.get("device_ops_gate memcheck") == "clean")

        done, results = run(project, here, PROGRAMS, "--no-sanitizer", "--limit", "5",
                            "--prefix", str(here))
        soft = results["tests"]["device_ops_softmax"]
        expect(f"what does not compile: {soft}",
               soft["status"] == "failed" and "a reason" in soft["text"])
        expect("what compiles", results["tests"]["device_ops_gemm"]["status"] == "passed")
        expect("what compiles for two",
               results["tests"]["device_ops_pool"]["status"] == "passed" and
               results["tests"]["device_ops_silu"]["status"] == "failed" and
               "tests_device_1" in results["compiling"])
        configured = (here / "configured").read_text()
        expect(f"configured with {configured}",
               "90a-real" in configured and f"PREFIX_PATH={here.resolve()}" in configured)
        script(here / "tools/nvidia-smi", "exit 9")
        done, _ = run(project, here, PROGRAMS, "--built")
        expect(f"without a device 77, not {done.returncode}", done.returncode == 77)
    for fault in faults:
        print(f"on_gpu_selftest: {fault}", file=sys.stderr)
    print(f"on_gpu_selftest: {len(faults)} of 11 expectations do not hold")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
