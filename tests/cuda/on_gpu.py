# SPDX-License-Identifier: Apache-2.0
"""Everything that needs a GPU, in one go: builds for this machine's device, runs all device tests,
runs them on few cases under compute-sanitizer, and writes one JSON and one Markdown page.

usage: on_gpu.py PROJECT_FOLDER BUILD_FOLDER OUTPUT_FOLDER [--prefix FOLDER] [--no-sanitizer]
--prefix: where Eigen and doctest are, if not installed (cmake/carry.sh makes such a folder).
Ends with 1 when a test fails, 77 when there is no device.
"""
import argparse
import datetime
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as xml

TOOLS = ["memcheck", "initcheck", "racecheck"]
FEW_CASES = "--case=1"  # of the case tables, those whose text holds a 1


def said(command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def machine():
    query = "name,driver_version,clocks.max.sm,clocks.max.mem,power.limit"
    gpu = said(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"])
    nvcc = said([shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc", "--version"])
    version = re.search(r"release ([\d.]+), V([\d.]+)", nvcc)
    return {"date": datetime.date.today().isoformat(), "gpu": gpu.splitlines()[0] if gpu else "",
            "nvcc": version.group(2) if version else "", "host": said(["uname", "-m"])}


def architecture():
    """A Hopper GPU by its name: native need not mean sm_90a and its warp groups."""
    capability = said(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"])
    return "90a-real" if capability.splitlines()[:1] == ["9.0"] else "native"


def build(project, folder, prefix):
    configure = ["cmake", "-S", str(project), "-B", str(folder), "-G", "Ninja",
                 "-DCMAKE_BUILD_TYPE=Release", "-DDEEPSEEK_CUDA=ON", "-DDEEPSEEK_EXAMPLES=OFF",
                 "-DDEEPSEEK_BENCH=OFF", f"-DCMAKE_CUDA_ARCHITECTURES={architecture()}",
                 "--log-level=NOTICE"]
    if prefix:
        configure.append(f"-DCMAKE_PREFIX_PATH={prefix}")
    subprocess.run(configure, check=True)
    subprocess.run(["cmake", "--build", str(folder), "--target", "tests_cuda", "tests_device"],
                   check=True)


def run_tests(folder):
    report = folder / "reports" / "device.xml"
    subprocess.run(["ctest", "--test-dir", str(folder), "-L", "^(cuda|device)$", "-E",
                    "cuda_kernels", "--parallel", "4", "--output-on-failure", "--no-tests=error",
                    "--output-junit", str(report)], check=False)
    results = {}
    for case in xml.parse(report).getroot().iter("testcase"):
        status = {"run": "passed", "notrun": "skipped"}.get(case.get("status"), "failed")
        results[case.get("name")] = {"status": status, "seconds": float(case.get("time", 0))}
    return results


def run_sanitizer(folder):
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not os.path.exists(tool):
        return {"compute-sanitizer": "not installed"}
    results = {}
    for program in sorted((folder / "bin").glob("test_device_*")):
        for which in TOOLS:
            run = subprocess.run([tool, "--tool", which, "--error-exitcode", "99", str(program),
                                  "--test-case-exclude=*reference*", FEW_CASES],
                                 capture_output=True, text=True, timeout=300)
            verdict = "clean" if run.returncode != 99 else run.stdout[-2000:]
            results[f"{program.name} {which}"] = verdict
    return results


def page(about, tests, sanitizer):
    count = lambda what: sum(t["status"] == what for t in tests.values())
    lines = [f"# Device tests, {about['date']}", "",
             f"{about['gpu']}; nvcc {about['nvcc']}. {count('passed')} programs passed, "
             f"{count('failed')} failed, {count('skipped')} skipped.", "",
             "| program | result | seconds |", "| --- | --- | --- |"]
    lines += [f"| {name} | {t['status']} | {t['seconds']:.1f} |" for name, t in tests.items()]
    bad = {name: text for name, text in sanitizer.items() if text != "clean"}
    lines += ["", f"compute-sanitizer: {len(sanitizer)} runs, {len(bad)} not clean."]
    lines += [f"- {name}: {text[:200]}" for name, text in bad.items()]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("project", type=pathlib.Path)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--prefix")
    parser.add_argument("--no-sanitizer", action="store_true")
    args = parser.parse_args()
    about = machine()
    if not about["gpu"]:
        print("on_gpu: skipped: nvidia-smi finds no device", file=sys.stderr)
        return 77
    build(args.project, args.build.resolve(), args.prefix)
    tests = run_tests(args.build.resolve())
    sanitizer = {} if args.no_sanitizer else run_sanitizer(args.build.resolve())
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "device_tests.json").write_text(
        json.dumps({"machine": about, "tests": tests, "sanitizer": sanitizer}, indent=1) + "\n")
    (args.output / "device_tests.md").write_text(page(about, tests, sanitizer))
    failed = [name for name, t in tests.items() if t["status"] == "failed"]
    dirty = [name for name, text in sanitizer.items() if text not in ("clean", "not installed")]
    print(f"on_gpu: {len(tests)} programs, failed: {failed or 'none'}; "
          f"sanitizer not clean: {dirty or 'none'}; {args.output}")
    return 1 if failed or dirty else 0


if __name__ == "__main__":
    sys.exit(main())
